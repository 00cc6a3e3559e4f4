"""Checkpoints: all that a fit needs to go on as if it had never stopped. safetensors and JSON; no pickle."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from recsys_ae.errors import CheckpointError
from recsys_ae.scratch import whole_file
from recsys_ae.training.ranks import Ranks

DAMAGED = -1  # in the place of an epoch


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by name, and JSON state. `key` names the run: data, configuration, seed; another run never resumes from it."""

    key: str
    tensors: dict[str, Tensor]
    state: dict[str, Any]


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write one file atomically: a kill leaves the previous checkpoint whole."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = _distinct({name: t.detach().cpu().contiguous() for name, t in checkpoint.tensors.items()})
    metadata = {"key": checkpoint.key, "state": json.dumps(checkpoint.state), "sha256": digest_of(tensors)}
    with whole_file(folder / "checkpoint.safetensors", durable=False) as partial:
        save_file(tensors, partial, metadata=metadata)


def load_checkpoint(folder: Path, key: str) -> Checkpoint | None:
    """The checkpoint of the run `key`, or None where there is none or it is another run's.

    Raises CheckpointError where the file is damaged.
    """
    path = folder / "checkpoint.safetensors"
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("key") != key:
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if digest_of(tensors) != metadata["sha256"]:
            raise ValueError("its tensors do not have the digest that it states")
        return Checkpoint(key, tensors, json.loads(metadata["state"]))
    except (SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path}: damaged ({error}); delete it to train from the start") from None


class Checkpoints:
    """Those of a run, in its folder. By users the first rank writes one for all. By items each rank has its own, and since one
    may be killed when others have written an epoch, the last two: all go on from the latest that all have."""

    def __init__(self, folder: Path, key: str, ranks: Ranks) -> None:
        self._folder, self._key, self._ranks = folder, key, ranks
        if ranks.by_items:
            self._folder, self._key = folder / f"rank-{ranks.rank}", f"{key} rank {ranks.rank} of {ranks.size}"

    def save(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """After an epoch, which `state` names."""
        save_checkpoint(self._place(state["epoch"]), Checkpoint(self._key, tensors, state))

    def latest(self) -> Checkpoint | None:
        """What all go on from; None where they begin anew. Raises CheckpointError where a file is damaged."""
        if not self._ranks.by_items:
            return load_checkpoint(self._folder, self._key)
        found, damaged = list[Checkpoint | None](), None
        try:
            found = [load_checkpoint(self._place(epoch), self._key) for epoch in (0, 1)]
        except CheckpointError as error:
            damaged = error
        own = [DAMAGED, DAMAGED] if damaged else [checkpoint.state["epoch"] if checkpoint else 0 for checkpoint in found]
        of_all = [epochs.tolist() for epochs in self._ranks.of_all(torch.tensor(own))]  # so that all hear of it
        if damaged is not None:
            raise damaged
        for rank, epochs in enumerate(of_all):
            if DAMAGED in epochs:
                raise CheckpointError(f"{self._folder.parent / f'rank-{rank}'}: damaged; delete it to train from the start")
        common = max(set.intersection(*map(set, of_all)), default=0)
        return next((each for each in found if each is not None and each.state["epoch"] == common), None)

    def _place(self, epoch: int) -> Path:
        return self._folder / str(epoch % 2) if self._ranks.by_items else self._folder


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over names and contents: a flipped bit in a tensor would load silently."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _distinct(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """safetensors refuses tensors that share storage."""
    seen: set[int] = set()
    distinct = {}
    for name, tensor in tensors.items():
        shared = tensor.numel() > 0 and tensor.data_ptr() in seen
        distinct[name] = tensor.clone() if shared else tensor
        seen.add(tensor.data_ptr())
    return distinct


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state by parameter number and name."""
    return {
        f"optimiser.{number}.{name}": value
        for number, entry in optimiser.state_dict()["state"].items()
        for name, value in entry.items()
    }


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """The inverse of `optimiser_tensors`."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimiser."):
            _, number, entry = name.split(".", 2)
            state.setdefault(int(number), {})[entry] = value
    whole = optimiser.state_dict()
    whole["state"] = state
    optimiser.load_state_dict(whole)
