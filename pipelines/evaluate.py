"""evaluate: all models on one split, or on each of its windows -> evaluation.json, its report, per_user/MODEL.parquet."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pipelines.config import ModelSection, RunConfig
from pipelines.evaluation.document import document, together
from pipelines.evaluation.drift import earlier_nights
from pipelines.evaluation.judged import Bench, ForeignLists, Judged, judge_fitted, judge_lists, judge_version
from pipelines.evaluation.per_user import PerUserWriter
from pipelines.evaluation.stored import make_folder, read_document, write_document
from pipelines.ingest import split_windows
from pipelines.train import Report, fit
from recsys_ae.errors import ConfigError
from recsys_ae.evaluation import Evaluation
from recsys_ae.registry import Registry

PER_USER = "per_user"
JudgeOn = Callable[[Bench, PerUserWriter | None], Judged]


@dataclass(frozen=True)
class Foreign:
    """What is judged beside, or instead of, the models of a configuration, and what went before.

    With a registry its `versions` (current where there are none) are judged and nothing is trained.
    """

    registry: Path | None = None
    versions: tuple[str, ...] = ()
    lists: tuple[Path, ...] = ()
    earlier: tuple[Path, ...] = ()


def evaluate_models(
    config: RunConfig, report: Report | None = None, folder: Path | None = None, foreign: Foreign | None = None
) -> dict[str, Any]:
    """The whole job: log -> split -> judge every model on the test users of each window -> the document.

    Per-user figures are written into the folder, where there is one, as users stream by.
    """
    foreign = foreign or Foreign()
    before = {path: read_document(path) for path in foreign.earlier}
    others = [ForeignLists.read(path) for path in foreign.lists]
    splits, counts = split_windows(config)
    benches = [Bench(split, place) for place, split in enumerate(splits, 1)]
    for lists in others:
        lists.refuse_unless_met(benches)
    judges = _saved(config, foreign) if foreign.registry else _trained(config, len(benches), report)
    for lists in others:
        _add(judges, lists.key, partial(judge_lists, config, lists))
    judged, evaluations = judge_all(judges, benches, folder)
    content = document(config, benches, counts, judged, evaluations)
    if before:
        content["earlier"] = earlier_nights(content, before)
    return content


def judge_all(
    judges: Mapping[str, JudgeOn], benches: Sequence[Bench], folder: Path | None
) -> tuple[dict[str, list[Judged]], dict[str, Evaluation]]:
    """Each on every window, and on all together; per-user figures in the folder, where there is one, one model's at a time."""
    if folder:
        make_folder(folder / PER_USER)
    judged: dict[str, list[Judged]] = {}
    evaluations: dict[str, Evaluation] = {}
    for key, judge in judges.items():
        with per_user_writer(folder, key) as writer:
            windows = [judge(bench, writer) for bench in benches]
        judged[key], evaluations[key] = together(windows, writer.path if writer else None)
    if folder:
        for path in (folder / PER_USER).glob("*.parquet"):
            if path.stem not in judged:  # of an earlier run into the same folder
                path.unlink()
    return judged, evaluations


def _trained(config: RunConfig, windows: int, report: Report | None) -> dict[str, JudgeOn]:
    """Every model of the configuration, fitted on each window."""
    judges: dict[str, JudgeOn] = {}
    for section in config.models:
        _add(judges, section.key, partial(_fit_and_judge, config, section, windows, report))
    return judges


def _fit_and_judge(
    config: RunConfig,
    section: ModelSection,
    windows: int,
    report: Report | None,
    bench: Bench,
    writer: PerUserWriter | None,
) -> Judged:
    told = report if windows == 1 else _of_window(report, f"window {bench.place} of {windows}")
    return judge_fitted(config, fit(config, section, bench.split, told), told, bench, writer)


def _saved(config: RunConfig, foreign: Foreign) -> dict[str, JudgeOn]:
    """Versions of a registry, as they are."""
    assert foreign.registry is not None
    registry = Registry(foreign.registry)
    judges: dict[str, JudgeOn] = {}
    for version in dict.fromkeys(foreign.versions) or (None,):
        about = registry.show(version)
        key = about["version"] if about["model"] in judges else about["model"]
        _add(judges, key, partial(judge_version, config, registry, about["version"]))
    return judges


def _add(judges: dict[str, JudgeOn], key: str, judge: JudgeOn) -> None:
    """Raises ConfigError where two are called the same."""
    if key in judges:
        raise ConfigError(f"two of what is judged are called {key!r}; rename a file, or give a model another id")
    judges[key] = judge


@contextmanager
def per_user_writer(folder: Path | None, key: str) -> Iterator[PerUserWriter | None]:
    """Writes a model's per-user figures into the folder, if there is one."""
    if folder is None:
        yield None
        return
    with PerUserWriter(folder / PER_USER / f"{key}.parquet") as writer:
        yield writer


def _of_window(report: Report | None, window: str) -> Report | None:
    """The same report, under a name of its own for each window."""
    return (lambda key, progress: report(f"{key}, {window}", progress)) if report else None


def write_report(content: Mapping[str, Any], folder: Path) -> Path:
    """evaluation.json, report.html and its pictures in the folder; gives the report."""
    from pipelines.report import render  # imports matplotlib: slow

    write_document(content, folder)
    return render(content, folder)
