"""nightly: ingest, check, train, evaluate, gate, publish, score. Safe to run twice; goes on where it broke off."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pipelines import checks, gate
from pipelines.config import ModelSection, RunConfig
from pipelines.evaluate import JudgeOn, judge_all, write_report
from pipelines.evaluation.document import document
from pipelines.evaluation.judged import Bench, Judged, judge_artifact, judge_model, judge_version
from pipelines.evaluation.per_user import PerUserWriter
from pipelines.held_out import held_out, may_have_seen
from pipelines.ingest import Source, clean_files, clean_source, described, log_digest, log_of, source_files, windows_of
from pipelines.journal import Journal
from pipelines.latent.content import with_cold_items
from pipelines.latent.placing import require_placeable
from pipelines.paths import digests, local_paths, source_digests
from pipelines.score import delivered, rehearse, score
from pipelines.telling import tell
from pipelines.telling.record import NightRecord
from pipelines.train import Report, artifact_of, fit, index_of, refit, require_index
from pipelines.versions import in_test
from pipelines.warm import origin
from recsys_ae.artifact import TENSORS, Artifact
from recsys_ae.dataset import Dataset
from recsys_ae.errors import ArtifactError, ConfigError, GateError
from recsys_ae.evaluation import evaluate
from recsys_ae.log import InteractionLog
from recsys_ae.models import MODELS, Recommender
from recsys_ae.registry import Registry, StoredUsers
from recsys_ae.scratch import clear, scratch_folder
from recsys_ae.sealed import content_digest, read_sealed
from recsys_ae.split import Split
from recsys_ae.training.run import RunContext

BASE, CURRENT = "popularity", "current"
"""What every model must beat, fitted by the gate itself; what the current model's twin is called in the report."""


@dataclass(frozen=True)
class Outcome:
    """What a night came to."""

    version: str
    verdict: gate.Verdict
    forced: bool  # a check that stops, or the gate, was overruled
    stages: dict[str, bool]  # by name, whether it was done before and not again
    report: Path
    scores: Path
    warnings: tuple[str, ...] = ()  # of the checks of the data, those overruled included, and of the registry

    def as_json(self) -> dict[str, Any]:
        """As the command prints it."""
        return {
            "outcome": "published",
            "version": self.version,
            "forced": self.forced,
            "gate": self.verdict.as_json(),
            "reused": [name for name, reused in self.stages.items() if reused],
            "report": str(self.report),
            "scores": str(self.scores),
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True)
class Candidate:
    """A model of tonight: fitted without the held-out users (its twin) and on all rows, both on disk."""

    section: ModelSection
    folder: Path
    validation: dict[str, Any]

    @property
    def twin(self) -> Path:
        """What the gate judges."""
        return self.folder / "twin"

    @property
    def whole(self) -> Path:
        """What is published."""
        return self.folder / "whole"


def nightly(
    config: RunConfig,
    force: bool = False,
    report: Report | None = None,
    heard: Callable[[NightRecord], None] | None = None,
    warn: Callable[[str], None] | None = None,
) -> Outcome:
    """The whole night. `warn` is called with what the checks of the data found; `heard` gets the record of the night however
    that ends, and before it that of a run that was killed.

    Not forced, it raises CheckError where data are not to be trusted and GateError where tonight's best is refused: yesterday's
    model goes on serving.
    """
    refuse_dishonest(config)
    require_index(config)
    require_placeable(config)
    with Journal(home_of(config), partial(tell, config, heard)).run(forced=force) as journal:
        clear_leftovers(config)
        rehearse(config)
        split, counts = ingest(config, journal)
        tonight = checks.tonight_of(config, split.refit, counts, home_of(config))
        findings = check(config, tonight, force, journal)
        failed = tuple(str(each) for each in findings if not each.passed)
        if warn:
            for text in failed:
                warn(text)
        candidates = [train(config, section, split, journal, report) for section in config.models]
        metric = config.publish.metric
        best = max(candidates, key=lambda candidate: candidate.validation[metric]["mean"])  # chosen on validation users alone
        verdict = judge(config, candidates, best, split, counts, journal)
        if not verdict.passed and not force and not _serves(Registry(config.registry.path), made_of(best)):
            raise GateError(f"not published: {'; '.join(verdict.reasons)} ({report_of(config) / 'report.html'})")
        forced = not verdict.passed or any(checks.stops(each) for each in findings)
        version = publish(config, best, split, verdict, failed, forced, journal)
        checks.accept(config, tonight, findings, home_of(config))
        left = journal.stage("tidy", {}, lambda: {"warnings": tidy(config)}, lambda _: False)["warnings"]
        if warn:
            for text in (*verdict.warnings, *left):
                warn(text)
        scores = deliver(config, version, journal)
        journal.end("published", version=version)
        warnings = (*failed, *verdict.warnings, *left)
        return Outcome(version, verdict, forced, journal.reused(), report_of(config), scores, warnings)


def refuse_dishonest(config: RunConfig) -> None:
    """Tonight's held-out users must not have trained last night's twin: drawn by hash they are the same ones every night."""
    for section in config.models:
        if section.key == CURRENT or (section.key == BASE and section.name != BASE):
            raise ConfigError(
                f"a model of a nightly run is called {section.key!r}, as the gate calls one of its own; give it another id"
            )
    if config.split.kind == "by_time" or (config.split.kind == "strong_generalization" and config.split.by == "hash"):
        return
    raise ConfigError(
        '[split] of a nightly run: expected by = "hash" with a salt, or kind = "by_time"; '
        f"with kind = {config.split.kind!r} drawn by seed, users held out tonight have trained last night's model"
    )


def clear_leftovers(config: RunConfig) -> None:
    """What runs that were killed had begun to write."""
    for top in (config.run.folder, config.registry.path, config.score.path):
        for folder in (top, *(path for path in top.rglob("*") if path.is_dir())) if top.is_dir() else ():
            clear(folder)


def ingest(config: RunConfig, journal: Journal) -> tuple[Split, dict[str, Any]]:
    """The source as a clean log in the run folder, cleaned anew only where its files or the rules changed; split."""
    source = clean_source(config) if config.log.dataset is not None else _clean_once(config, journal)
    split = windows_of(config, source)[-1]
    facts = {"digest": split.refit.digest, "users": len(split.refit.users), "items": len(split.refit.items)}
    facts["cleaning"] = source.log.counts
    journal.stage("split", {}, lambda: facts, lambda _: False)
    return split, source.log.counts


def _clean_once(config: RunConfig, journal: Journal) -> Source:
    """What a source holds is only known by reading it: of a database with `since`, what is new; of files, their digests."""
    read = journal.stage("read", {}, lambda: asdict(source_files(config)), lambda _: False)
    path = log_of(config)
    where = {"url", "source", "query", "table", "path", "event_id", "since", "since_overlap"}
    inputs = {
        "files": source_digests(config, read["paths"]),
        "log": config.log.model_dump(mode="json", exclude=where),
    }

    def work() -> dict[str, Any]:
        return {"cleaning": clean_files(config, read["paths"]).counts, "log": log_digest(path)}

    done = journal.stage("ingest", inputs, work, lambda r: bool(r["log"]) and log_digest(path) == r["log"])
    return described(config, InteractionLog(path, done["cleaning"]["read"], done["cleaning"]["dropped"]))


def check(config: RunConfig, tonight: checks.Tonight, force: bool, journal: Journal) -> list[checks.Finding]:
    """Whether tonight's data are like those of the nights before. Made every night: what is fresh depends on the clock."""
    inputs = {
        "data": tonight.night.data,
        "before": [night.data for night in tonight.earlier.nights],
        "checks": config.checks.model_dump(mode="json"),
    }

    def work() -> dict[str, Any]:
        made = checks.look(config, tonight)
        return {"findings": checks.as_json(made), "warnings": [str(each) for each in made if not each.passed]}

    found = journal.stage("checks", inputs, work, lambda _: False)
    findings = [checks.Finding(**each) for each in found["findings"]]
    if not force:
        checks.require(findings)
    return findings


def train(config: RunConfig, section: ModelSection, split: Split, journal: Journal, report: Report | None) -> Candidate:
    """Fit without the held-out users, then on all rows; both are kept until the night is over."""
    begun = origin(config, section, split)
    inputs = {
        "start": begun.digests,
        "data": split.refit.digest,
        "preprocessing": split.refit.preprocessing.model_dump(mode="json"),
        "items": content_digest({"titles": split.refit.metadata.titles, "categories": split.refit.metadata.categories}),
        "train": split.train.digest,
        "split": config.split.model_dump(mode="json"),
        "model": section.model_dump(mode="json"),
        "seed": config.seed,
        "metric": config.publish.metric,
        "ks": config.ks,
        "run": config.run.model_dump(mode="json", include={"device", "precision"}),
    }
    home = home_of(config) / "models" / section.key

    def work() -> dict[str, Any]:
        starts = begun.starts(config, section, split)
        fitted = fit(config, section, split, report, starts["twin"].tensors)
        validation = evaluate(fitted.model, split.validation, config.ks).as_json()
        home.parent.mkdir(parents=True, exist_ok=True)
        with scratch_folder(section.key, home.parent) as folder:
            made = folder / section.key

            def save(side: str, model: Recommender, data: Dataset) -> None:
                artifact = artifact_of(config, fitted, model, validation, data)
                artifact.manifest.update(held_out=held_out(config, split), warm_start=starts[side].facts)
                artifact.save(made / side)

            save("twin", fitted.model, split.train)
            save("whole", refit(config, fitted, split, report, starts["whole"].tensors), split.refit)
            shutil.rmtree(home, ignore_errors=True)
            made.rename(home)
        written = read_sealed(home / "whole" / "manifest.json")
        return {"validation": validation, "digest": written["files"][TENSORS], "warm_start": written["warm_start"]}

    found = journal.stage(f"train {section.key}", inputs, work, lambda _: whole(home / "twin") and whole(home / "whole"))
    return Candidate(section, home, found["validation"])


def whole(folder: Path) -> bool:
    """Whether a saved model is there, every byte as written."""
    try:
        Artifact.load(folder)
    except Exception:  # whatever is wrong with it, it is made again
        return False
    return True


def judge(
    config: RunConfig, candidates: Sequence[Candidate], best: Candidate, split: Split, counts: dict[str, Any], journal: Journal
) -> gate.Verdict:
    """Tonight's twins, popularity and the current model's twin on the same held-out users: the report, the verdict."""
    registry = Registry(config.registry.path)
    current = _to_beat(registry, made_of(best))
    inputs = {
        "twins": {c.section.key: read_sealed(c.twin / "manifest.json")["files"] for c in candidates},
        "best": best.section.key,
        "current": current,
        "test": split.refit.digest,
        "split": config.split.model_dump(mode="json"),
        "publish": config.publish.model_dump(mode="json"),
        "ks": config.ks,
    }

    def work() -> dict[str, Any]:
        bench = Bench(split)
        folder = report_of(config)
        judges: dict[str, JudgeOn] = {c.section.key: partial(_twin, config, c) for c in candidates}
        judges.setdefault(BASE, partial(_popularity, config))
        if current is not None:
            judges[CURRENT] = partial(_current, config, registry, current)
        judged, evaluations = judge_all(judges, [bench], folder)
        content = document(config, [bench], counts, judged, evaluations)
        write_report(content, folder)
        verdict = gate.judge(
            best.section.key,
            evaluations[best.section.key],
            evaluations[BASE],
            evaluations.get(CURRENT),
            metric=config.publish.metric,
            min_ratio=config.publish.min_ratio_to_current,
            seed=config.seed,
            unfair=None if current is None else _unfair(registry, current, config, split),
        )
        return verdict.as_json() | {"warnings": verdict.warnings}

    found = journal.stage("gate", inputs, work, lambda _: (report_of(config) / "report.html").is_file())
    return gate.Verdict.from_json(found)


def _serves(registry: Registry, tonight: dict[str, Any]) -> bool:
    """Whether tonight's is current already: a second run takes nothing back, though the first was forced."""
    current = registry.current()
    return current is not None and is_made_of(registry, current, tonight)


def _to_beat(registry: Registry, tonight: dict[str, Any]) -> str | None:
    """The version that tonight's would replace: the current one, or where tonight's was published already the one before it."""
    if not _serves(registry, tonight):
        return registry.current()
    before = registry.manifest().get("replaced")
    return before if before in registry.versions() else None


def _unfair(registry: Registry, version: str, config: RunConfig, split: Split) -> str | None:
    """Why a version's twin may have trained on tonight's held-out users."""
    try:
        twin = registry.twin_manifest(version)
    except ArtifactError:  # a damaged one is not what is judged
        return None
    return None if twin is None else may_have_seen(twin.get("held_out"), config, split)


def _twin(config: RunConfig, candidate: Candidate, bench: Bench, writer: PerUserWriter | None) -> Judged:
    twin = Artifact.load(candidate.twin)
    return _with_fit(judge_artifact(config, twin, candidate.section.key, "tonight", bench, writer), twin.manifest)


def _with_fit(judged: Judged, manifest: dict[str, Any]) -> Judged:
    """With what the manifest says of the fit, and of where it began."""
    warm = manifest.get("warm_start")
    fit = manifest["fit"] | ({"warm_start": warm} if warm else {})
    return replace(judged, fit=fit, fit_seconds=sum(manifest.get("seconds", {}).values()))


def _current(config: RunConfig, registry: Registry, version: str, bench: Bench, writer: PerUserWriter | None) -> Judged:
    """Its twin; where that was never published or is damaged, the model itself, with a warning: the comparison favours it."""
    damage: tuple[str, ...] = ()
    try:
        twin = registry.twin(version)
    except ArtifactError as error:
        twin, damage = None, (f"{error}: the model itself is judged",)
    if twin is not None:
        return _with_fit(
            judge_artifact(config, twin, CURRENT, f"registry {version}", bench, writer, strange=True), twin.manifest
        )
    judged = judge_version(config, registry, version, bench, writer)
    return replace(judged, key=CURRENT, warnings=(*damage, *judged.warnings))


def _popularity(config: RunConfig, bench: Bench, writer: PerUserWriter | None) -> Judged:
    section = ModelSection(name=BASE)
    model = MODELS[BASE](section.config, len(bench.trained.items))
    record = model.fit(bench.trained.histories, validation=None, run=RunContext(seed=config.seed, device="cpu"))
    return judge_model(config, section, model, record, 0.0, bench, writer)


def publish(
    config: RunConfig,
    best: Candidate,
    split: Split,
    verdict: gate.Verdict,
    failed: Sequence[str],
    forced: bool,
    journal: Journal,
) -> str:
    """A version of the registry, its twin beside it, made current. What is there already is not made again."""
    registry = Registry(config.registry.path)
    ours = made_of(best)

    def work() -> dict[str, Any]:
        version = next((v for v in reversed(registry.versions()) if is_made_of(registry, v, ours)), None)
        if version is None:
            artifact, twin = Artifact.load(best.whole), Artifact.load(best.twin)
            facts = {"gate": verdict.as_json(), "failed_checks": list(failed), "forced": forced, "replaced": registry.current()}
            artifact.manifest.update(made_of=ours, **facts)
            artifact, stored = with_cold_items(config, artifact, StoredUsers(split.refit.users, split.refit.histories))
            index = index_of(config, artifact, stored)
            version = registry.publish(artifact, best.section.key, stored, best.validation, twin, index)
        registry.promote(version)
        return {"version": version}

    inputs = {"made_of": ours, "registry": str(config.registry.path.resolve())}

    def there(result: dict[str, Any]) -> bool:
        return registry.current() == result["version"] and is_made_of(registry, result["version"], ours)

    version = str(journal.stage("publish", inputs, work, there)["version"])
    journal.published(version)
    return version


def made_of(best: Candidate) -> dict[str, Any]:
    """What a candidate's version is found again by: the digests of its files, and how it reads events."""
    whole, twin = (read_sealed(place / "manifest.json") for place in (best.whole, best.twin))
    return {"whole": whole["files"], "twin": twin["files"], "preprocessing": whole["preprocessing"]}


def is_made_of(registry: Registry, version: str, made_of: dict[str, Any]) -> bool:
    """Whether a version holds these models, every byte of it and of its twin as written."""
    try:
        if registry.manifest(version).get("made_of") != made_of:
            return False
        registry.check(version)
        return registry.twin(version) is not None
    except ArtifactError:
        return False


def tidy(config: RunConfig) -> list[str]:
    """Old versions go. What hinders that, or keeps traffic from the new version, is told and stops nothing."""
    registry, told = Registry(config.registry.path), []
    try:
        registry.prune(config.publish.keep)
    except ArtifactError as error:
        told.append(f"no version was pruned: {error}")
    if (test := in_test(registry)) is not None:
        told.append(test)
    return told


def deliver(config: RunConfig, version: str, journal: Journal) -> Path:
    """The lists of all users, in files and in the table that is named."""
    inputs = {"version": version, "score": config.score.model_dump(mode="json")}
    if config.score.exclude is not None:
        local_paths(config, config.score.exclude)  # fetched, where it is of a store
        inputs["excluded"] = digests(config, config.score.exclude)
    done = journal.stage(
        "score",
        inputs,
        lambda: score(config, version).as_json(),
        lambda r: delivered(config.score, Path(r["folder"])),
    )
    return Path(done["folder"])


def report_of(config: RunConfig) -> Path:
    """Where tonight's report is."""
    return home_of(config) / "report"


def home_of(config: RunConfig) -> Path:
    """The folder of the nightly runs."""
    return config.run.folder / "nightly"
