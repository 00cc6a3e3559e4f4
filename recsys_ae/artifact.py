"""Artifact: a fitted model with all that is needed to serve it. manifest.json, model.safetensors, items.json; no pickle."""

import json
import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

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

    def save(self, folder: Path) -> None:
        """Write into a new folder; the manifest comes last, so that a folder with one is whole."""
        folder.mkdir(parents=True)
        tensors = {name: t.detach().cpu().contiguous() for name, t in self.model.tensors().items()}
        with writing(folder / TENSORS):
            save_file(tensors, folder / TENSORS)
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
            "files": {name: file_digest(folder / name) for name in (TENSORS, ITEMS)},
        }
        write_sealed(folder / MANIFEST, manifest)
        for name in (TENSORS, ITEMS):
            sync(folder / name)

    @classmethod
    def load(cls, folder: Path, device: str | torch.device = "cpu") -> "Artifact":
        """Read a folder back; every byte is checked against its digest first.

        Raises ArtifactError, which names the file, where one is missing, damaged, or of a format or model unknown here.
        """
        manifest = read_sealed(folder / MANIFEST)
        if manifest.get("format") != FORMAT:
            raise ArtifactError(f"{folder / MANIFEST}: format {manifest.get('format')!r}; this version reads {FORMAT}")
        for name in (TENSORS, ITEMS):
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
            model.restore(load_file(folder / TENSORS, device=str(device)))
            preprocessing = Preprocessing(**manifest["preprocessing"])
        except (SafetensorError, ValidationError, ValueError, KeyError) as error:
            raise ArtifactError(f"{folder}: cannot be read back ({error})") from None
        except RecsysError as error:
            raise ArtifactError(f"{folder}: {error}") from None
        return cls(manifest["name"], model, ids, metadata, preprocessing, manifest)


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
