"""A fit as files in a folder: what is trained on and how, for every rank to read; what came of it, which the first writes."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file, save_file
from torch import Tensor

from recsys_ae import errors
from recsys_ae.errors import RecsysError
from recsys_ae.histories import Histories, Holdout
from recsys_ae.ids import IdMap
from recsys_ae.models import MODELS, Recommender
from recsys_ae.scratch import whole_file
from recsys_ae.training.run import FitRecord, RunContext

ARRAYS = ("indptr", "items", "weights", "times")
PASSED = ("seed", "device", "precision", "stop_after", "metric", "world_size", "shared")  # of a run, as they are


@dataclass(frozen=True)
class Job:
    """One fit in its folder."""

    folder: Path

    def write(
        self, name: str, model: Recommender, train: Histories, validation: Holdout | None, run: RunContext, backend: str
    ) -> None:
        """All that a rank needs."""
        self._write_histories("train", train)
        if validation is not None:
            self._write_histories("fold_in", validation.fold_in)
            self._write_histories("held_out", validation.held_out)
            if validation.candidates is not None:
                np.save(self.folder / "candidates.npy", validation.candidates)
        if run.initial is not None:
            save_file({key: tensor.contiguous() for key, tensor in run.initial.items()}, self.folder / "initial.safetensors")
        told = {
            "model": name,
            "config": model.config.model_dump(mode="json"),
            "n_items": model.n_items,
            "validation": validation is not None,
            "backend": backend,
            "checkpoints": str(run.checkpoint_folder.resolve()) if run.checkpoint_folder else None,
            **{key: getattr(run, key) for key in PASSED},
        }
        (self.folder / "job.json").write_text(json.dumps(told))

    @cached_property
    def told(self) -> dict[str, Any]:
        """What `write` was given, but for arrays."""
        told: dict[str, Any] = json.loads((self.folder / "job.json").read_text())
        return told

    def model(self) -> Recommender:
        """The model, not fitted."""
        told = self.told
        kind = MODELS[told["model"]]
        return kind(kind.Config.model_validate(told["config"]), told["n_items"])

    def train(self) -> Histories:
        """Training rows; the arrays stay on the disk, of which a rank reads what is its own."""
        return self._histories("train")

    def validation(self) -> Holdout | None:
        """The validation users, without their ids."""
        if not self.told["validation"]:
            return None
        fold_in, held_out = self._histories("fold_in"), self._histories("held_out")
        path = self.folder / "candidates.npy"
        return Holdout(IdMap(tuple(range(len(fold_in)))), fold_in, held_out, np.load(path) if path.exists() else None)

    def run(self) -> dict[str, Any]:
        """The fields of a RunContext."""
        told = self.told
        initial = self.folder / "initial.safetensors"
        return {key: told[key] for key in PASSED} | {
            "checkpoint_folder": Path(told["checkpoints"]) if told["checkpoints"] else None,
            "initial": load_file(initial) if initial.exists() else None,
        }

    def keep(self, tensors: Mapping[str, Tensor], rank: int) -> None:
        """What a rank holds of what came of it: all of the model, or the rows of its items."""
        with whole_file(self._tensors_of(rank)) as partial:
            save_file({name: tensor.contiguous().cpu() for name, tensor in tensors.items()}, partial)

    def finish(self, record: FitRecord) -> None:
        """What came of it, once all that is kept is there."""
        with whole_file(self._record) as partial:
            partial.write_text(json.dumps(asdict(record)))

    def fail(self, error: RecsysError) -> None:
        """Say why nothing comes of it."""
        with whole_file(self.folder / "error.json") as partial:
            partial.write_text(json.dumps({"kind": type(error).__name__, "what": str(error)}))

    @property
    def failed(self) -> bool:
        """Whether a rank has said why nothing comes of it."""
        return (self.folder / "error.json").exists()

    @property
    def ended(self) -> bool:
        """Whether all that will come of it is there."""
        return self.failed or self._record.exists()

    def finished(self) -> tuple[dict[str, Tensor], FitRecord] | None:
        """The whole model and what `finish` was given, None before. Raises what `fail` was given."""
        if self.failed:
            told = json.loads((self.folder / "error.json").read_text())
            raise getattr(errors, told["kind"])(told["what"])
        if not self._record.exists():
            return None
        return self._whole_model(), FitRecord(**json.loads(self._record.read_text()))

    @property
    def _record(self) -> Path:
        return self.folder / "record.json"

    def _whole_model(self) -> dict[str, Tensor]:
        """The tensors of one rank, or of all where each holds the rows of the items `rank`, `rank + size`, and so on."""
        tensors = load_file(self._tensors_of(0))
        size, shared = self.told["world_size"], self.told["shared"]
        if size == 1 or shared != "items":
            return tensors
        model = self.model()
        for name in model.by_item:
            own, tensors[name] = tensors[name], tensors[name].new_empty(model.n_items, *tensors[name].shape[1:])
            tensors[name][::size] = own
        for rank in range(1, size):
            rows = load_file(self._tensors_of(rank))
            for name in model.by_item:
                tensors[name][rank::size] = rows[name]
        return tensors

    def _tensors_of(self, rank: int) -> Path:
        return self.folder / f"tensors-{rank}.safetensors"

    def _write_histories(self, name: str, histories: Histories) -> None:
        for array in ARRAYS:
            values = getattr(histories, array)
            if values is not None:
                np.save(self.folder / f"{name}.{array}.npy", values)

    def _histories(self, name: str) -> Histories:
        paths = {array: self.folder / f"{name}.{array}.npy" for array in ARRAYS}
        arrays = {array: np.load(path, mmap_mode="r") for array, path in paths.items() if path.exists()}
        return Histories(**arrays, n_items=self.told["n_items"])
