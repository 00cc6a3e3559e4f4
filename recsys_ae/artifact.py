"""Artifact: a fitted model with all that is needed to serve it. manifest.json, model.safetensors, items.json; no pickle.

A large model is several files, each with the tensors' rows of some items; the first, model.safetensors, has what is of none.
"""

import json
import math
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from recsys_ae import __version__
from recsys_ae.errors import ArtifactError, RecsysError
from recsys_ae.ids import IdMap
from recsys_ae.items import ItemMetadata
from recsys_ae.models import MODELS, Recommender
from recsys_ae.preprocessing import Preprocessing
from recsys_ae.scratch import sync, writing
from recsys_ae.sealed import check_digest, file_digest, read_sealed, write_sealed

FORMAT = 1
MANIFEST, TENSORS, ITEMS = "manifest.json", "model.safetensors", "items.json"
SHARD_BYTES = 4 * 2**30  # of one file of tensors, about


@dataclass(frozen=True, eq=False)
class Artifact:
    """A model, its items and what makes a history of raw events.

    `manifest` holds what is known of its making: id, configuration, seed, data digest, metrics, fit, environment. Raises
    ArtifactError where a tensor's item axis is not as long as `items`.
    """

    name: str
    model: Recommender
    items: IdMap
    metadata: ItemMetadata
    preprocessing: Preprocessing
    manifest: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name not in MODELS or type(self.model) is not MODELS[self.name]:
            raise ArtifactError(f"model {self.name!r} is not a {type(self.model).__name__}; known: {', '.join(MODELS)}")
        if self.model.n_items != len(self.items):
            raise ArtifactError(f"a model of {self.model.n_items} items with a map of {len(self.items)} item ids")
        tensors = self.model.tensors()
        for name, axis in self.model.layout().items():
            if axis is not None and tensors[name].shape[axis] != len(self.items):
                raise ArtifactError(f"tensor {name} has {tensors[name].shape[axis]} items; expected {len(self.items)}")

    def save(self, folder: Path, shard_bytes: int = SHARD_BYTES) -> None:
        """Write into a new folder; the manifest comes last, so that a folder with one is whole."""
        folder.mkdir(parents=True)
        files = []
        for number, shard in enumerate(self._shards(shard_bytes), 1):
            files.append(TENSORS if number == 1 else f"model-{number}.safetensors")
            with writing(folder / files[-1]):
                save_file(shard, folder / files[-1])
        files.append(ITEMS)
        items = {
            "kind": self.items.kind,
            "id": self.items.ids,
            "title": self.metadata.titles,
            "categories": self.metadata.categories,
            "popularity": self.metadata.popularity,
            "last_seen": self.metadata.last_seen,
        }
        with writing(folder / ITEMS):
            (folder / ITEMS).write_text(json.dumps(items, ensure_ascii=False, separators=(",", ":")), "utf-8")
        manifest = {
            **self.manifest,
            "format": FORMAT,
            "name": self.name,
            "n_items": len(self.items),
            "config": self.model.config.model_dump(mode="json"),
            "preprocessing": self.preprocessing.model_dump(mode="json"),
            "files": {name: file_digest(folder / name) for name in files},
        }
        write_sealed(folder / MANIFEST, manifest)
        for name in files:
            sync(folder / name)

    def _shards(self, most_bytes: int) -> Iterator[dict[str, Tensor]]:
        """The tensors by blocks of items, as many as bring each to about `most_bytes`."""
        tensors, layout, n_items = self.model.tensors(), self.model.layout(), len(self.items)
        whole = sum(t.nbytes for t in tensors.values())
        rows = max(1, math.ceil(n_items / max(1, math.ceil(whole / most_bytes))))
        for start in range(0, max(n_items, 1), rows):
            parts = {
                name: t if layout[name] is None else t.narrow(layout[name], start, min(rows, n_items - start))  # type: ignore[arg-type]
                for name, t in tensors.items()
                if start == 0 or layout[name] is not None
            }
            yield {name: part.detach().cpu().contiguous() for name, part in parts.items()}

    @classmethod
    def load(cls, folder: Path, device: str | torch.device = "cpu") -> "Artifact":
        """Read a folder back; every byte is checked against its digest first.

        Raises ArtifactError, which names the file, where one is missing, damaged, or of a format or model unknown here.
        """
        manifest = read_sealed(folder / MANIFEST)
        if manifest.get("format") != FORMAT:
            raise ArtifactError(f"{folder / MANIFEST}: format {manifest.get('format')!r}; this version reads {FORMAT}")
        shards = [name for name in manifest["files"] if name.endswith(".safetensors")]
        for name in dict.fromkeys((TENSORS, *shards, ITEMS)):
            check_digest(folder / name, manifest["files"].get(name))
        if manifest["name"] not in MODELS:
            raise ArtifactError(f"{folder / MANIFEST}: model {manifest['name']!r} is unknown; known: {', '.join(MODELS)}")
        try:
            items = json.loads((folder / ITEMS).read_text("utf-8"))
            ids = IdMap(tuple(items["id"]))
            metadata = ItemMetadata(
                tuple(items["title"]),
                tuple(tuple(c) for c in items["categories"]),
                tuple(items["popularity"]),
                tuple(items["last_seen"]),
            )
            kind = MODELS[manifest["name"]]
            model = kind(kind.Config(**manifest["config"]), len(ids))
            model.restore(_joined([folder / name for name in shards], model.layout(), str(device)))
            preprocessing = Preprocessing(**manifest["preprocessing"])
        except (SafetensorError, ValidationError, ValueError, KeyError) as error:
            raise ArtifactError(f"{folder}: cannot be read back ({error})") from None
        except RecsysError as error:
            raise ArtifactError(f"{folder}: {error}") from None
        return cls(manifest["name"], model, ids, metadata, preprocessing, manifest)


def _joined(shards: list[Path], layout: Mapping[str, int | None], device: str) -> dict[str, Tensor]:
    """The tensors whose items are spread over several files, in order."""
    tensors = load_file(shards[0], device=device)
    if len(shards) == 1:
        return tensors
    for name, axis in layout.items():
        if axis is not None:  # one at a time, so that no more than one is there twice
            parts = [tensors[name]]
            for path in shards[1:]:
                with safe_open(path, framework="pt", device=device) as file:
                    parts.append(file.get_tensor(name))
            tensors[name] = torch.cat(parts, axis)
    return tensors


def environment() -> dict[str, Any]:
    """What the result may hang on, beside data, configuration and seed."""
    return {
        "recsys_ae": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def processor() -> str:
    """The processor's name, as far as the machine tells it."""
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text().splitlines() if facts.exists() else []
    named = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return named or platform.processor() or platform.machine()
