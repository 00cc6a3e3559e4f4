"""Warm starts of the nightly job: which version a model of tonight begins from, and what speaks against it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Generator, Tensor

from pipelines.config import ModelSection, RunConfig
from pipelines.held_out import held_out
from recsys_ae.artifact import TENSORS, Artifact
from recsys_ae.errors import StorageError, WidthError
from recsys_ae.models import MODELS
from recsys_ae.registry import TWIN, Registry
from recsys_ae.split import Split
from recsys_ae.warm_start import WarmStart, warm_start

SIDES = ("twin", "whole")


@dataclass(frozen=True)
class Start:
    """What a fit begins with, None being cold, and what its manifest says of it: nothing where no warm start was asked for."""

    tensors: Mapping[str, Tensor] | None = None
    facts: dict[str, Any] | None = None


@dataclass(frozen=True)
class Origin:
    """The version that a model of tonight begins from, or the reason why it begins cold."""

    version: str | None = None
    reason: str | None = None
    generation: int = 0  # versions in a row that began warm, tonight's included
    digests: Mapping[str, str] = field(default_factory=dict)  # sha256 of the tensors of twin and whole
    last_cold: dict[str, Any] | None = None  # version, epochs, best_epoch, seconds

    def starts(self, config: RunConfig, section: ModelSection, split: Split) -> dict[str, Start]:
        """Of twin and whole, over tonight's catalogues; both cold where one cannot be read or does not fit."""
        if self.version is None:
            return _cold(self.reason)
        registry = Registry(config.registry.path)
        try:
            folder = registry.check(self.version)
            found = {}
            for side, place, items in (("twin", folder / TWIN, split.train.items), ("whole", folder, split.refit.items)):
                model = MODELS[section.name](section.config, len(items))
                found[side] = self._start(warm_start(model, items, Artifact.load(place), config.seed))
        except (StorageError, WidthError) as error:
            return _cold(str(error))
        return found

    def _start(self, warm: WarmStart) -> Start:
        facts = {
            "version": self.version,
            "generation": self.generation,
            "items_kept": warm.items_kept,
            "items_new": warm.items_new,
            "items_gone": warm.items_gone,
            "last_cold": self.last_cold,
        }
        return Start(warm.tensors, facts)


def _cold(reason: str | None) -> dict[str, Start]:
    facts = None if reason is None else {"version": None, "generation": 0, "reason": reason}
    return {side: Start(None, facts) for side in SIDES}


def origin(config: RunConfig, section: ModelSection, split: Split) -> Origin:
    """The version that was current when tonight's rows came, where it is the same model and its twin may be gone on with."""
    if not config.run.warm_start:
        return Origin()
    if not MODELS[section.name](section.config, 1).initial(Generator()):
        return Origin(reason=f"{section.name} is not trained step by step")
    registry = Registry(config.registry.path)
    try:
        version = _before(registry, split.refit.digest)
        if version is None:
            return Origin(reason="there is no earlier version")
        about = registry.manifest(version)
        twin = registry.twin_manifest(version)
    except StorageError as error:
        return Origin(reason=str(error))
    before = about.get("warm_start") or {"generation": 0}
    if twin is None:
        return Origin(reason=f"{version} has no twin")
    if (against := _against(about, section, split, config)) is not None:
        return Origin(reason=f"{version} {against}")
    if before["generation"] + 1 >= config.run.cold_every:
        return Origin(reason=f"{before['generation']} in a row began warm; one of {config.run.cold_every} begins cold")
    return Origin(
        version,
        generation=before["generation"] + 1,
        digests={side: manifest["files"][TENSORS]["sha256"] for side, manifest in zip(SIDES, (twin, about), strict=True)},
        last_cold=before["last_cold"] if before["generation"] else _effort(version, about),
    )


def _before(registry: Registry, data: str) -> str | None:
    """The current version, or where that was made of tonight's very rows the one before it: a night done twice begins twice
    from the same one."""
    version, seen = registry.current(), set[str]()
    while version is not None and version not in seen and registry.manifest(version)["data"]["digest"] == data:
        seen.add(version)
        version = registry.manifest(version).get("replaced")
    return version


def _against(about: Mapping[str, Any], section: ModelSection, split: Split, config: RunConfig) -> str | None:
    """Why tonight's model may not go on from a version, None where it may."""
    if (about["name"], about["id"]) != (section.name, section.key):
        return f"is {about['id']} ({about['name']}), not {section.key} ({section.name})"
    now = section.config.model_dump(mode="json")
    for what, was, tonight in (
        ("settings", about["config"], now),
        ("preprocessing", about["preprocessing"], split.refit.preprocessing.model_dump(mode="json")),
    ):
        if changed := [key for key in {**was, **tonight} if was.get(key) != tonight.get(key)]:
            return f"has other {what}: {', '.join(f'{key} {was.get(key)!r}, now {tonight.get(key)!r}' for key in changed)}"
    known, wanted = about.get("held_out"), held_out(config, split)
    if known is None or known["split"] != wanted["split"]:
        return "has a twin that may have trained on what is held out tonight: [split] was another"
    if wanted["trained_until"] is not None and known["trained_until"] > wanted["trained_until"]:
        return f"has a twin trained until {known['trained_until']}; tonight's validation begins at {wanted['trained_until']}"
    return None


def _effort(version: str, about: Mapping[str, Any]) -> dict[str, Any]:
    """What the fit of a version took; of an ensemble, its members together."""
    fits = about["fit"].get("members") or [about["fit"]]
    return {
        "version": version,
        "epochs": sum(fit["epochs"] for fit in fits),
        "best_epoch": sum(fit["best_epoch"] for fit in fits),
        "seconds": sum(about.get("seconds", {}).values()),
    }
