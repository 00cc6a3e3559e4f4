"""`recsys-ae latent map`: codes of users and items of a version, their places on a map, their neighbours."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.latent.opening import Opened, opened, users_of, write_table
from recsys_ae.errors import ConfigError, DataError
from recsys_ae.histories import Histories
from recsys_ae.ids import Id
from recsys_ae.items import ItemMetadata
from recsys_ae.latent.codes import Codes, item_codes, neighbours, user_codes
from recsys_ae.latent.map import MapMethod, placed, purity, trustworthiness
from recsys_ae.scratch import whole_file

Kind: TypeAlias = Literal["users", "items", "both"]
NEAR = 10
"""Neighbours by which a map and its codes are judged."""


@dataclass(frozen=True)
class Asked:
    """What the map is of and how it is made; files that are None are not written."""

    out: Path
    kind: Kind = "items"
    method: MapMethod = "tsne"
    most: int = 5_000
    seed: int = 0
    picture: Path | None = None
    codes: Path | None = None
    neighbours: Path | None = None
    k: int = NEAR


@dataclass(frozen=True, eq=False)
class Cast:
    """All users or all items with a code: ids (N,), codes (N, Z), each one's category or "", the rows to be drawn (M,)."""

    kind: Literal["user", "item"]
    ids: Sequence[Id]
    codes: Codes
    categories: Sequence[str]
    drawn: NDArray[np.int64]


def draw(registry: Path, version: str | None, log: Path | None, asked: Asked) -> dict[str, Any]:
    """Write the map and what else is asked for; what it came to, as JSON has it.

    Raises ConfigError for a model without codes, RegistryError, ArtifactError, LogError.
    """
    found = opened(registry, version)
    casts = [_items(found, asked)] if asked.kind != "users" else []
    casts = ([_users(found, log, asked)] if asked.kind != "items" else []) + casts
    places = [placed(cast.codes[cast.drawn], asked.method, asked.seed) for cast in casts]
    text = len({type(id_) for cast in casts for id_ in cast.ids}) > 1  # one column holds both kinds
    write_table(asked.out, _table(casts, [[cast.ids[row] for row in cast.drawn] for cast in casts], text, {
        "x": np.concatenate([at[:, 0] for at, _ in places]), "y": np.concatenate([at[:, 1] for at, _ in places]),
    }))  # fmt: skip
    if asked.codes is not None:
        rows = pa.array([row for cast in casts for row in cast.codes], pa.list_(pa.float32()))
        write_table(asked.codes, _table(casts, [cast.ids for cast in casts], text, {"code": rows}))
    if asked.neighbours is not None:
        write_table(asked.neighbours, _near(casts, asked.k, text))
    if asked.picture is not None:
        from pipelines.latent.picture import map_picture  # which brings matplotlib

        panels = [
            (f"{cast.kind}s", at, [cast.categories[row] for row in cast.drawn])
            for cast, (at, _) in zip(casts, places, strict=True)
        ]
        asked.picture.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(asked.picture) as part:
            part.write_text(map_picture(panels), "utf-8")
    facts = {f"{cast.kind}s": _judged(cast, *at, found.artifact.metadata) for cast, at in zip(casts, places, strict=True)}
    return {"version": found.version, "model": found.artifact.name, **facts}


def _items(found: Opened, asked: Asked) -> Cast:
    """All items of the version; the most popular ones are drawn."""
    codes = _required(item_codes(found.artifact.model), found)
    metadata = found.artifact.metadata
    popularity = np.array(metadata.popularity or np.zeros(len(codes)))
    drawn = np.sort(np.argsort(-popularity, kind="stable")[: asked.most])
    return Cast(
        "item", found.artifact.items.ids, codes, [(own or ("",))[0] for own in _categories(metadata, len(codes))], drawn
    )


def _users(found: Opened, log: Path | None, asked: Asked) -> Cast:
    """The users of the log, or those stored with the version, that have items it knows; some are drawn where they are many."""
    known = found.stored if log is None else users_of(log, found.artifact)
    rows = np.flatnonzero(known.histories.lengths)
    if not len(rows):
        raise DataError(f"{'the version' if log is None else log} has no user with items of the model; expected one or more")
    histories = known.histories.take(rows)
    drawn = np.sort(np.random.default_rng(asked.seed).permutation(len(rows))[: asked.most])
    codes = _required(user_codes(found.artifact.model, histories), found)
    return Cast("user", known.users.at(rows), codes, favourites(histories, found.artifact.metadata), drawn)


def _required(codes: Codes | None, found: Opened) -> Codes:
    if codes is None:
        raise ConfigError(
            f"version {found.version} is a {found.artifact.name}, which has no codes; expected an autoencoder or a factor model"
        )
    return codes


def _categories(metadata: ItemMetadata, n_items: int) -> Sequence[tuple[str, ...]]:
    return metadata.categories or [()] * n_items


def category_labels(metadata: ItemMetadata, n_items: int) -> tuple[list[str], NDArray[np.bool_]]:
    """The categories there are, and which items have which, (I, C)."""
    own = _categories(metadata, n_items)
    names = sorted({name for each in own for name in each})
    place = {name: at for at, name in enumerate(names)}
    labels = np.zeros((n_items, len(names)), np.bool_)
    for row, each in enumerate(own):
        labels[row, [place[name] for name in each]] = True
    return names, labels


def favourites(histories: Histories, metadata: ItemMetadata) -> list[str]:
    """The category that each user has most of beyond what is usual, "" where none is known."""
    names, labels = category_labels(metadata, histories.n_items)
    if not names:
        return [""] * len(histories)
    counts = (histories.matrix > 0).astype(np.float64) @ labels
    usual = counts.sum(0) / max(counts.sum(), 1)
    excess = counts - counts.sum(1, keepdims=True) * usual
    return [names[at] if any_ else "" for at, any_ in zip(excess.argmax(1).tolist(), counts.sum(1).tolist(), strict=True)]


def _table(casts: Sequence[Cast], ids: Sequence[Sequence[Id]], text: bool, columns: dict[str, Any]) -> pa.Table:
    kinds = [cast.kind for cast, own in zip(casts, ids, strict=True) for _ in own]
    return pa.table({"kind": kinds, "id": _id_column([id_ for own in ids for id_ in own], text), **columns})


def _id_column(ids: Sequence[Id], text: bool) -> pa.Array:
    return pa.array([str(id_) for id_ in ids] if text else ids)


def _near(casts: Sequence[Cast], k: int, text: bool) -> pa.Table:
    """The k nearest of the same kind: kind, id, rank, neighbour, cosine."""
    ids, ranks, others, cosines = [], [], [], []
    for cast in casts:
        near, cosine = neighbours(cast.codes, k)
        ids.append([id_ for id_ in cast.ids for _ in range(near.shape[1])])
        ranks.append(np.tile(np.arange(1, near.shape[1] + 1, dtype=np.int32), len(near)))
        others += [cast.ids[row] for row in near.ravel().tolist()]
        cosines.append(cosine.ravel())
    columns = {
        "rank": np.concatenate(ranks), "neighbour": _id_column(others, text), "cosine": np.concatenate(cosines)
    }  # fmt: skip
    return _table(casts, ids, text, columns)


def _judged(cast: Cast, places: NDArray[np.float64], explained: list[float] | None, metadata: ItemMetadata) -> dict[str, Any]:
    """Sizes, and how far map and codes can be trusted."""
    codes = cast.codes[cast.drawn]
    facts: dict[str, Any] = {"codes": len(cast.codes), "width": codes.shape[1], "drawn": len(codes)}
    facts["method"] = "pca" if explained else "tsne"
    if explained:
        facts["explained"] = explained
    if len(codes) > 2 * NEAR:
        facts[f"trustworthiness@{NEAR}"] = trustworthiness(codes, places, NEAR)
    if cast.kind == "item":
        labels = category_labels(metadata, len(cast.codes))[1][cast.drawn]
        if labels.any(1).sum() > NEAR:
            own, chance = purity(neighbours(codes, NEAR)[0], labels)
            facts["categories"] = {f"purity@{NEAR}": own, "chance": chance}
    return facts
