"""How it went before: earlier evaluation.json beside this one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def earlier_nights(document: Mapping[str, Any], before: Mapping[Path, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each earlier document's metrics, oldest first, and how far the data of this one are from its own."""
    found = [_night(document, content, path) for path, content in before.items()]
    return sorted(found, key=lambda night: (night["created"] or "", night["name"]))


def _night(document: Mapping[str, Any], before: Mapping[str, Any], path: Path) -> dict[str, Any]:
    data, then = document["data"], before["data"]
    created = (before.get("environment") or {}).get("created")
    return {
        "name": (path if path.is_dir() else path.parent).resolve().name,
        "created": created if isinstance(created, str) else None,
        "digest": then.get("digest"),
        "models": {key: entry["metrics"] for key, entry in before["models"].items()},
        "drift": {
            "history_lengths": _divergence(data, then),
            "top_items": _shared_top(data, then),
            **{name: then.get(name) for name in ("users", "items", "interactions")},
        },
    }


def _divergence(data: Mapping[str, Any], then: Mapping[str, Any]) -> float | None:
    """Jensen-Shannon divergence of the lengths of histories, in bits."""
    one, other = ((d.get("profile") or {}).get("history_lengths") for d in (data, then))
    if not one or not other or one["edges"] != other.get("edges") or not sum(one["users"]) or not sum(other["users"]):
        return None
    return round(jensen_shannon(np.array(one["users"]), np.array(other["users"])), 6)


def jensen_shannon(one: NDArray[np.integer], other: NDArray[np.integer]) -> float:
    """Divergence in bits of what two arrays of counts (n,) are shares of: 0 alike, 1 nothing in common (Lin 1991)."""
    p, q = one / one.sum(), other / other.sum()
    middle = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        halves = [np.where(x > 0, x * np.log2(x / middle), 0.0).sum() / 2 for x in (p, q)]
    return float(sum(halves))


def _shared_top(data: Mapping[str, Any], then: Mapping[str, Any]) -> float | None:
    """Jaccard index of the most popular items."""
    one, other = ({str(i["item_id"]) for i in (d.get("profile") or {}).get("top_items") or []} for d in (data, then))
    return round(len(one & other) / len(one | other), 6) if one and other else None
