"""The page: what the template shows, section by section."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pipelines.report import findings, words
from pipelines.report.drawing import REST, SERIES, inline
from pipelines.report.findings import Document
from pipelines.report.pictures.base import Picture, series
from pipelines.report.pictures.training import ACTIVE

SHOWN_ITEMS = 25
"""Items of a history or list of a worst user."""
SHOWN_USERS = 12
"""Worst users of a model."""
TRAINING = (
    "best epoch",
    "epochs run",
    "begun",
    "best epoch, last cold fit",
    "epochs run, last cold fit",
    "time, last cold fit",
    "beta",
    "batch size",
    "active dimensions",
)
"""Columns of the table of fits."""


def page(document: Document, metric: str, sections: Mapping[str, Sequence[Picture]]) -> str:
    """report.html."""
    order = findings.standing(document, metric)
    answer = findings.answer(document, metric, order)
    accuracy = findings.metric_tables(document, order, beyond=False)
    ks = [table["k"] for table in accuracy]
    environment = Environment(
        loader=PackageLoader("pipelines.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["plain"] = words.plain
    script = _source(environment, "page.js")
    html = environment.get_template("report.html").render(
        css=Markup(_source(environment, "page.css")),
        script=Markup(script),
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        metric=words.plain(metric, 60),
        several=len(document["models"]) > 1,
        answer=answer,
        losses=findings.losses(document, metric, answer["publish"]),
        groups_compared=bool((document.get("comparison") or {}).get("groups")),
        warnings=findings.warnings(document),
        checks=findings.checks(document),
        costs=findings.cost_rows(document, order, metric),
        accuracy=accuracy,
        chosen_k=k if (k := findings.split_name(metric)[1]) in ks else ks[0] if ks else "",
        accuracy_meanings=findings.meanings(document, beyond=False),
        beyond=findings.metric_tables(document, order, beyond=True),
        beyond_meanings=findings.meanings(document, beyond=True),
        pairs=findings.pair_rows(document, metric),
        group_pairs=findings.group_rows(document),
        best=words.plain((document.get("comparison") or {}).get("best") or "", 60),
        worst=_worst(document, order),
        fits=_fits(document, order),
        settings=_settings(document, order),
        facts_rows=_facts(document),
        cleaning=_cleaning(document),
        sides=_sides(document),
        windows=_windows(document, order, metric),
        top_items=_top_items(document),
        provenance=_provenance(document),
        command=words.plain((document.get("environment") or {}).get("command") or "", 2_000),
        drift=_drift(document),
        pictures={section: [_figure(picture) for picture in found] for section, found in sections.items()},
        colours=_colours(document, order),
    )
    # A lone surrogate in a title has no bytes; everything else passes through unchanged.
    return html.encode("utf-8", "replace").decode("utf-8")


def _source(environment: Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _figure(picture: Picture) -> dict[str, Any]:
    return {
        "name": picture.name,
        "message": picture.message,
        "note": picture.note,
        "svg": Markup(inline(picture.svg, picture.name)),
    }


def _colours(document: Document, order: Sequence[str]) -> dict[str, str]:
    """The CSS variable of each model's colour."""
    drawn = {m.key: f"s{SERIES.index(m.colour)}" for m in series(document, order)}
    assert REST not in SERIES
    return {key: drawn.get(key, "rest") for key in document["models"]}


def _worst(document: Document, order: Sequence[str]) -> list[dict[str, Any]]:
    """The users each model serves worst."""
    return [
        {
            "key": key,
            "users": [
                {
                    "user": words.plain(user["user_id"], 80),
                    "metric": words.figure(user.get("metric")),
                    "history": _items(user.get("history") or [], user.get("history_items"), last=True),
                    "held_out": _items(user.get("held_out") or [], user.get("held_out_items")),
                    "recommended": _items(user.get("recommended") or []),
                }
                for user in worst[:SHOWN_USERS]
            ],
        }
        for key in order
        if (worst := document["models"][key].get("worst") or [])
    ]


def _items(items: Sequence[Mapping[str, Any]], of: int | None = None, last: bool = False) -> dict[str, Any]:
    """Titles, or ids where there is none; of a long history the latest. `of`: how many there were in all, where told."""
    shown = items[-SHOWN_ITEMS:] if last else items[:SHOWN_ITEMS]
    return {
        "all": of or len(items),
        "more": (of or len(items)) - len(shown),
        "shown": [
            {
                "title": words.plain(item.get("title") or item["item_id"]),
                "rank": item.get("rank"),
                "ranked": "rank" in item,
                "hit": bool(item.get("hit")),
            }
            for item in shown
        ],
    }


def _fits(document: Document, order: Sequence[str]) -> dict[str, Any]:
    """How each model was trained."""
    rows: list[dict[str, Any]] = []
    for key in order:
        fit = document["models"][key].get("fit") or {}
        warm = fit.get("warm_start") or {}
        cold = warm.get("last_cold") or {}
        kl = fit.get("kl_by_dimension") or []
        active = f"{sum(value > ACTIVE for value in kl)} of {len(kl)}" if kl else ""
        cells = [
            (words.count(fit.get("best_epoch") or None), fit.get("best_epoch")),
            (words.count(fit.get("epochs") or None), fit.get("epochs")),
            (words.begun(warm), warm.get("generation")),
            (words.count(cold.get("best_epoch")), cold.get("best_epoch")),
            (words.count(cold.get("epochs")), cold.get("epochs")),
            (words.duration(cold.get("seconds")), cold.get("seconds")),
            ("" if fit.get("beta") is None else f"{fit['beta']:.4g}", fit.get("beta")),
            (words.count(fit.get("batch_size")), fit.get("batch_size")),
            (active, sum(value > ACTIVE for value in kl) if kl else None),
        ]
        rows.append({"key": key, "cells": [{"value": value, "sort": sort, "interval": ""} for value, sort in cells]})
    heads = [{"name": name} for name in TRAINING]
    return findings.without_empty({"columns": heads, "rows": [row for row in rows if any(c["value"] for c in row["cells"])]})


def _settings(document: Document, order: Sequence[str]) -> list[dict[str, str]]:
    """Each model's configuration, and where the model came from."""
    found = [
        {
            "key": key,
            "source": words.plain(document["models"][key].get("source") or "", 200),
            "settings": words.settings(document["models"][key].get("config") or {}),
        }
        for key in order
    ]
    return [one for one in found if one["settings"] or one["source"]]


def _facts(document: Document) -> list[tuple[str, str]]:
    """Size of the data."""
    data, split = document["data"], document["split"]
    profile = data.get("profile") or {}
    times = profile.get("times") or {}
    facts = [(part, words.count(data.get(part))) for part in ("users", "items", "interactions")]
    facts.append(("density", words.share(profile.get("density"))))
    if times.get("first") is not None and times.get("last") is not None:
        facts.append(("period", f"{words.day(times['first'])} to {words.day(times['last'])}"))
    cold = split.get("cold") or {}
    facts += [(f"cold {part}", words.count(cold.get(part))) for part in ("users", "items", "interactions")]
    return [(name, value) for name, value in facts if value]


def _cleaning(document: Document) -> list[tuple[str, str, str]]:
    """What was read, dropped by cause, and kept, with the share of what was read."""
    counts = document["data"].get("cleaning") or {}
    if "read" not in counts:
        return []
    read = max(counts["read"], 1)
    rows = [("read", counts["read"])]
    rows += [(f"dropped: {words.cause(name)}", n) for name, n in (counts.get("dropped") or {}).items()]
    rows += [("kept", counts["kept"])] if "kept" in counts else []
    return [(name, words.count(n), words.share(n / read)) for name, n in rows]


SIDES = {
    "train_users": "users to train on",
    "validation_users": "users to validate on",
    "test_users": "users to test on",
    "train_items": "items to train on",
    "train_interactions": "interactions to train on",
    "validation_candidates": "items ranked in validation",
    "test_candidates": "items ranked in the test",
}


def _sides(document: Document) -> list[tuple[str, str]]:
    """The sides of the split."""
    split = document["split"]
    rows = [("kind", words.cause(split["kind"]))] if split.get("kind") else []
    rows += [(said, words.count(split[name])) for name, said in SIDES.items() if split.get(name) is not None]
    if split.get("placed_by"):
        rows.append(("cold items are placed by", words.plain(", ".join(split["placed_by"]))))
    for name in ("validation_from", "test_from", "test_until"):
        if isinstance(split.get(name), int | float):
            rows.append((name.replace("_", " "), words.day(split[name])))
    dropped = split.get("dropped")
    if isinstance(dropped, Mapping):
        rows += [(f"dropped: {words.cause(name)}", words.count(n)) for name, n in dropped.items() if isinstance(n, int | float)]
    return rows


def _windows(document: Document, order: Sequence[str], metric: str) -> dict[str, Any]:
    """The windows of a backtest: each model's value by window, and the spread."""
    of = {key: document["models"][key].get("windows") or [] for key in order}
    rows_of = next((rows for rows in of.values() if rows), [])
    if not rows_of:
        return {"columns": [], "rows": []}
    heads = []
    for place, window in enumerate(rows_of, 1):
        users = f", {words.plural(window['users'], 'user')}" if window.get("users") is not None else ""
        start = words.day(window["test_from"]) if window.get("test_from") is not None else f"window {place}"
        heads.append({"name": f"{start}{users}"})
    rows = []
    for key, windows in of.items():
        values = [findings.mean(window["metrics"].get(metric)) for window in windows]
        values += [None] * (len(heads) - len(values))
        known = [value for value in values if value is not None]
        spread = max(known) - min(known) if known else None
        cells = [{"value": words.figure(value), "sort": value, "interval": ""} for value in (*values[: len(heads)], spread)]
        rows.append({"key": key, "cells": cells})
    return {"columns": [*heads, {"name": "highest less lowest"}], "rows": rows}


def _top_items(document: Document) -> list[dict[str, str]]:
    found = (document["data"].get("profile") or {}).get("top_items") or []
    return [
        {"title": words.plain(item.get("title") or item["item_id"]), "users": words.count(item.get("users"))} for item in found
    ]


def _provenance(document: Document) -> list[tuple[str, str]]:
    """Digests, versions, seed and machine: what it takes to get the same again."""
    data, environment = document["data"], document.get("environment") or {}
    rows = [("data", data.get("digest")), ("training part", (data.get("profile") or {}).get("train_digest"))]
    rows.append(("seed", document.get("seed")))
    if environment.get("created"):
        rows.append(("made", words.at(environment["created"])))
    rest = {key: value for key, value in environment.items() if key not in ("created", "command")}
    rows += [(words.cause(key), "none" if value is None else value) for key, value in rest.items()]
    return [(name, words.plain(value, 400)) for name, value in rows if value is not None]


def _drift(document: Document) -> dict[str, Any]:
    """This data against that of each earlier evaluation."""
    rows = []
    for night in document.get("earlier") or []:
        drift = night.get("drift") or {}
        cells = [
            (words.at(night["created"]) if night.get("created") else "", None),
            *((words.figure(drift.get(part)), drift.get(part)) for part in ("history_lengths", "top_items")),
            *((words.count(drift.get(part)), drift.get(part)) for part in ("users", "items", "interactions")),
            (words.plain(night.get("digest") or "", 19), None),
        ]
        name = words.plain(night.get("name") or "", 60)
        rows.append({"name": name, "cells": [{"value": value, "sort": sort, "interval": ""} for value, sort in cells]})
    heads = ("made", "drift of history lengths", "top items in common", "users", "items", "interactions", "data digest")
    return findings.without_empty({"columns": [{"name": head} for head in heads], "rows": rows})
