"""recommend: one list from a saved model, for a stored user or a history given on the command line."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from recsys_ae.artifact import Artifact
from recsys_ae.errors import UnknownIdError
from recsys_ae.events import RawEvent, history_of
from recsys_ae.histories import Histories
from recsys_ae.ids import Id
from recsys_ae.ranking import rank_top_k
from recsys_ae.registry import Registry


@dataclass(frozen=True)
class Answer:
    """Items as the API gives them, and the ids that the catalogue does not have."""

    version: str
    items: list[dict[str, Any]]
    history: list[dict[str, Any]]
    unknown_items: list[Id]


def given_history(artifact: Artifact, items: list[str]) -> tuple[Histories, list[Id]]:
    """The history (1, I) of items as a person gives them, and the unknown ones. Raises UnknownIdError where none is known."""
    ids = [artifact.items.parse(text) for text in items]
    # As the API takes events without a weight: the artefact's own Preprocessing makes a history of them.
    found, unknown = history_of([RawEvent(id_) for id_ in ids], artifact.items, artifact.preprocessing)
    if not found.n_interactions:
        raise UnknownIdError(f"no item of the history is in the catalogue of {len(artifact.items)} items; found {ids}")
    return found, unknown


def recommend(
    registry: Registry, version: str | None, k: int, *, user: str | None = None, history: list[str] | None = None
) -> Answer:
    """Top-k for a stored user or a history. Raises UnknownIdError for a user, or where no item of the history is known."""
    artifact, stored = registry.load(version)
    unknown: list[Id] = []
    if user is not None:
        rows = stored.histories.take(np.array([stored.users.position(stored.users.parse(user))]))
    else:
        rows, unknown = given_history(artifact, history or [])
    columns, scores = rank_top_k(artifact.model, rows, k).row(0)

    def described(column: int) -> dict[str, Any]:
        return {"item_id": artifact.items.ids[column], "title": artifact.metadata.title(column)}

    return Answer(
        version=registry.show(version)["version"],
        items=[
            {"rank": rank, **described(column), "score": score}
            for rank, (column, score) in enumerate(zip(columns, scores, strict=True), 1)
        ],
        history=[described(int(column)) for column in rows.row(0)],
        unknown_items=unknown,
    )
