"""What the document says, in sentences and rows; nothing is measured here."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.report import words
from pipelines.report.words import count, duration, figure, interval, listed, p_value, plain, plural, share, size

Document = Mapping[str, Any]

ACCURACY = {
    "ndcg": "hits, the earlier the better, as a share of the best possible order",
    "capped_recall": "hits as a share of the held-out items, or of k where there are more",
    "recall": "hits as a share of the held-out items",
    "precision": "hits as a share of k",
    "hit_rate": "share of users with at least one hit",
    "map": "mean precision at each hit",
    "mrr": "one over the rank of the first hit",
}
BEYOND = {
    "coverage": ("more", "share of the catalogue that stands in at least one list"),
    "gini": ("less", "how unevenly the lists are spread over the items: 0 all alike, towards 1 a few items have them all"),
    "novelty": ("more", "how rare the listed items are among the training users, in bits"),
    "diversity": ("more", "how unlike each other the items of one list are: 1 where no training user had two of them"),
    "serendipity": ("more", "share of the list that is a hit and not among the user's k most popular items"),
    "arp": ("less", "mean number of training users of the listed items"),
    "aplt": ("more", "share of the list that is of the long tail"),
    "popularity_lift": ("nearer 0", "how much more popular the list is than the user's own history: 0 is alike, 1 is twice"),
    "calibration": ("less", "how far the categories of the list are from those of the history, in nats: 0 is alike"),
}
"""Whether more or less of it is wanted, and what it says."""
FOUND = "found"


def split_name(name: str) -> tuple[str, str]:
    """`ndcg@100` as metric and k; k is empty where there is none."""
    metric, _, k = name.partition("@")
    return metric, k


def by_size(ks: Sequence[str]) -> list[str]:
    """Lengths of lists in order."""
    return sorted(dict.fromkeys(ks), key=lambda k: (not k.isdecimal(), int(k) if k.isdecimal() else 0, k))


def mean(score: Mapping[str, Any] | None) -> float | None:
    """The mean of a score that may be absent."""
    return None if score is None else score.get("mean")


def name_of(metric: str) -> str:
    """`popularity_lift` as words."""
    return plain(metric, 60).replace("_", " ")


def decision_metric(document: Document) -> str:
    """The metric that models are compared by."""
    models = document["models"].values()
    asked = [(document.get("comparison") or {}).get("metric"), (document.get("publish") or {}).get("metric")]
    for metric in asked:
        if metric and all(metric in entry["metrics"] for entry in models):
            return str(metric)
    names = list(next(iter(models))["metrics"])
    ndcg = [name for name in names if split_name(name)[0] == "ndcg"]
    return max(ndcg, key=lambda name: int(split_name(name)[1] or 0)) if ndcg else names[0] if names else ""


def standing(document: Document, metric: str) -> list[str]:
    """All models, best first."""
    models = document["models"]
    told = [key for key in (document.get("comparison") or {}).get("order", []) if key in models]
    values = {key: mean(entry["metrics"].get(metric)) for key, entry in models.items()}
    measured = sorted((key for key in models if values[key] is not None), key=lambda key: -(values[key] or 0))
    return list(dict.fromkeys([*told, *measured, *models]))


def pair_of(document: Document, model: str | None, metric: str) -> Mapping[str, Any] | None:
    """The best less this model, in this metric."""
    pairs = (document.get("comparison") or {}).get("pairs", [])
    return next((pair for pair in pairs if pair["model"] == model and pair["metric"] == metric), None)


def answer(document: Document, metric: str, order: Sequence[str]) -> dict[str, Any]:
    """Which model to publish, and why: a heading, sentences, and how sure they are.

    `tone`: certain, uncertain, alone (nothing to compare with), failed (a leak check).
    """
    models = document["models"]
    comparison = document.get("comparison") or {}
    verdict = comparison.get("verdict") or {}
    best: str = comparison["best"] if comparison.get("best") in models else order[0]
    publish: str = verdict["publish"] if verdict.get("publish") in models else best
    told = plain(publish, 60)
    score = models[publish]["metrics"].get(metric) or {}
    said = [_reached(told, metric, score)] if score.get("mean") is not None else []
    tone = "uncertain"
    if len(models) == 1:
        tone, heading = "alone", f"{told} is the only model judged"
        said.append("There is nothing to compare it with: judge a baseline such as popularity or ease beside it.")
    else:
        over = verdict.get("over") or next(key for key in order if key != publish)
        pair = pair_of(document, over if publish == best else publish, metric)
        if not verdict:
            heading = f"{told} has the highest {metric}"
            said.append(_lead(told, plain(over, 60), models, publish, over, metric))
            said.append("Whether that lead is real was not tested: it may be chance.")
        elif verdict.get("certain"):
            tone, heading = "certain", f"Publish {told}: its lead is real"
            said += [_lead(told, plain(over, 60), models, publish, over, metric), _real(pair)]
        elif publish == best:
            heading = f"Publish {told}, but its lead may be chance"
            said.append(_lead(told, plain(over, 60), models, publish, over, metric))
            beaten = verdict.get("equals") and over not in verdict["equals"]  # by less than chance makes of one further down
            said.append(_real(pair) if beaten else _doubtful(pair))
        else:
            heading = f"Publish {told}, which may be as good as the best"
            said += [f"The highest mean is that of {plain(best, 60)}.", _doubtful(pair)]
        equals = [plain(key, 60) for key in verdict.get("equals", []) if key in models and key != publish]
        if equals:
            said.append(f"These users cannot tell it apart from {listed(equals)}: cost and what follows below may decide.")
    failed = [check for check in checks(document) if not check["passed"]]
    if failed:
        tone = "failed"
        heading = f"{told} leads, but {plural(len(failed), 'leak check')} failed" if len(models) > 1 else "A leak check failed"
        said.insert(0, "Mend that before deciding: these figures may be better than what users would see.")
    said.append(_costs(models[publish]))
    return {"publish": publish, "heading": heading, "tone": tone, "sentences": [one for one in said if one]}


def _reached(told: str, metric: str, score: Mapping[str, Any]) -> str:
    between = f"95 % interval {interval(score['ci95'])}, " if score.get("ci95") else ""
    users = plural(score.get("users") or 0, "test user")
    return f"{told} reaches {metric} of {figure(score['mean'])} ({between}{users})."


def _lead(told: str, next_best: str, models: Mapping[str, Any], publish: str, over: str, metric: str) -> str:
    ours, theirs = (mean(models[key]["metrics"].get(metric)) for key in (publish, over))
    if ours is None or theirs is None:
        return ""
    lead = ours - theirs
    if lead == 0:
        return f"{next_best} reaches the same."
    relative = f", or {share(abs(lead) / theirs)}," if theirs > 0 else ""
    way = "more" if lead >= 0 else "less"
    return f"That is {figure(abs(lead))}{relative} {way} than {next_best}, the next best."


def _real(pair: Mapping[str, Any] | None) -> str:
    """A lead that chance does not explain, in plain words."""
    if pair is None:
        return "The lead is larger than chance explains."
    between, chance = _difference(pair), _chance(pair)
    said = "The lead is larger than chance explains"
    return f"{said}: {' and '.join(part for part in (between, chance) if part)}." if between or chance else f"{said}."


def _doubtful(pair: Mapping[str, Any] | None) -> str:
    """A lead that may be chance."""
    if pair is None:
        return "The users judged are too few to call the difference real."
    between, chance = _difference(pair), _chance(pair)
    ends = pair["difference"].get("ci95")
    zero = ", which includes no difference at all" if ends and ends[0] <= 0 <= ends[1] else ""
    parts = [part for part in (between + zero if between else "", chance) if part]
    return f"The difference may be chance: {' and '.join(parts)}." if parts else "The difference may be chance."


def _difference(pair: Mapping[str, Any]) -> str:
    ends = pair["difference"].get("ci95")
    return f"by bootstrap over users the difference lies between {figure(ends[0])} and {figure(ends[1])} (95 %)" if ends else ""


def _chance(pair: Mapping[str, Any]) -> str:
    corrected = pair.get("p_holm") is not None
    p = pair["p_holm"] if corrected else pair.get("p")
    if p is None:
        return ""
    how = "Holm-corrected randomisation test" if corrected else "randomisation test, not corrected"
    return f"models that are alike would differ so much with probability {_bare(p)} ({how})"


def _bare(p: float) -> str:
    return p_value(p).replace("< ", "below ")


def _costs(entry: Mapping[str, Any]) -> str:
    """What the model costs, in one sentence."""
    cost = entry.get("cost") or {}
    parts = []
    if cost.get("fit_seconds") is not None:
        parts.append(f"takes {duration(cost['fit_seconds'])} to fit")
    if cost.get("score_users_per_second") is not None:
        parts.append(f"scores {count(cost['score_users_per_second'])} users a second")
    if cost.get("peak_rss_bytes"):
        parts.append(f"needs up to {size(cost['peak_rss_bytes'])} of memory")
    if entry.get("size_bytes"):
        parts.append(f"is {size(entry['size_bytes'])} on disk")
    return f"It {listed(parts, most=9)}." if parts else ""


def losses(document: Document, metric: str, publish: str) -> list[str]:
    """The groups of users that the published model serves worse, a sentence each."""
    told = []
    for group in ((document.get("comparison") or {}).get("verdict") or {}).get("losing_groups", []):
        ends = sorted(abs(end) for end in group["ci95"]) if group.get("ci95") else None
        between = f" (95 % interval {interval(ends)})" if ends else ""
        users = f"{plain(group['by'], 60)}: {plain(group['group'], 60)}"
        less = figure(abs(group["difference"]))
        told.append(f"{users}. {plain(publish, 60)} is {less} below {plain(group['against'], 60)} in {metric}{between}.")
    return told


def warnings(document: Document) -> list[tuple[str, str]]:
    """Model and warning."""
    entries = document["models"].items()
    return [(plain(key, 60), plain(warning, 400)) for key, entry in entries for warning in entry.get("warnings") or []]


def checks(document: Document) -> list[dict[str, Any]]:
    """What was checked for leaks, failures first."""
    found = (document.get("split") or {}).get("checks") or []
    rows = [
        {"check": plain(one["check"], 300), "passed": bool(one["passed"]), "found": plain(one.get("found") or "", 300)}
        for one in found
    ]
    return sorted(rows, key=lambda row: bool(row["passed"]))


def metric_tables(document: Document, order: Sequence[str], beyond: bool) -> list[dict[str, Any]]:
    """For each k the columns and rows of a table of models; of accuracy, or of what is beyond."""
    models = document["models"]
    names = list(dict.fromkeys(name for entry in models.values() for name in entry["metrics"]))
    known = list(BEYOND if beyond else ACCURACY)
    chosen = [name for name in names if (split_name(name)[0] in BEYOND) == beyond]
    rank = {metric: place for place, metric in enumerate(known)}
    tables = []
    for k in by_size([split_name(name)[1] for name in chosen]):
        columns = [name for name in chosen if split_name(name)[1] == k]
        columns.sort(key=lambda name: rank.get(split_name(name)[0], len(rank)))
        best = {name: _best(models, name) for name in columns}
        rows = []
        for key in order:
            scores = [models[key]["metrics"].get(name) or {} for name in columns]
            cells = [
                {
                    "value": figure(score.get("mean")),
                    "sort": score.get("mean"),
                    "interval": interval(score.get("ci95")),
                    "best": score.get("mean") is not None and score["mean"] == best[name],
                }
                for name, score in zip(columns, scores, strict=True)
            ]
            rows.append({"key": key, "cells": cells})
        heads = [
            {"name": name_of(split_name(name)[0]), "want": BEYOND.get(split_name(name)[0], ("more", ""))[0]} for name in columns
        ]
        tables.append({"k": k, "columns": heads, "rows": rows})
    return tables


def _best(models: Mapping[str, Any], name: str) -> float | None:
    """The value that is wanted most."""
    values = [value for entry in models.values() if (value := mean(entry["metrics"].get(name))) is not None]
    if len(values) < 2:
        return None
    want = BEYOND.get(split_name(name)[0], ("more", ""))[0]
    return max(values) if want == "more" else min(values) if want == "less" else min(values, key=abs)


def meanings(document: Document, beyond: bool) -> list[dict[str, str]]:
    """What each metric of the document says, in the order of the tables."""
    present = {split_name(name)[0] for entry in document["models"].values() for name in entry["metrics"]}
    if beyond:
        return [{"name": name_of(m), "want": want, "text": text} for m, (want, text) in BEYOND.items() if m in present]
    return [{"name": name_of(m), "want": "more", "text": text} for m, text in ACCURACY.items() if m in present]


def cost_rows(document: Document, order: Sequence[str], metric: str) -> dict[str, Any]:
    """The compact table of the answer: the decision's metric, the distance to the best, and what each model costs."""
    models = document["models"]
    best = (document.get("comparison") or {}).get("best")
    rows = []
    for key in order:
        entry = models[key]
        score, cost = entry["metrics"].get(metric) or {}, entry.get("cost") or {}
        pair = pair_of(document, key, metric)
        difference = pair["difference"] if pair else {}
        p = pair.get("p_holm") if pair else None
        rows.append(
            {
                "key": key,
                "cells": [
                    _cell(figure(score.get("mean")), score.get("mean"), interval(score.get("ci95"))),
                    _cell("the best", 0.0)
                    if key == best and len(models) > 1
                    else _cell(figure(difference.get("mean")), difference.get("mean"), interval(difference.get("ci95"))),
                    _cell(p_value(p), p),
                    _cell(duration(cost.get("fit_seconds")), cost.get("fit_seconds")),
                    _cell(count(cost.get("score_users_per_second")), cost.get("score_users_per_second")),
                    _cell(size(cost.get("peak_rss_bytes")), cost.get("peak_rss_bytes")),
                    _cell(size(entry.get("size_bytes")), entry.get("size_bytes")),
                    _cell(count(entry.get("parameters")), entry.get("parameters")),
                ],
            }
        )
    heads = [
        plain(metric, 60),
        "below the best",
        "p (Holm)",
        "time to fit",
        "users scored a second",
        "peak memory",
        "size on disk",
        "parameters",
    ]
    return without_empty({"columns": [{"name": head} for head in heads], "rows": rows})


def _cell(value: str, sort: float | None, between: str = "") -> dict[str, Any]:
    return {"value": value, "sort": sort, "interval": between}


def without_empty(table: dict[str, Any]) -> dict[str, Any]:
    """The table without columns in which no row has a value."""
    used = [place for place in range(len(table["columns"])) if any(row["cells"][place]["value"] for row in table["rows"])]
    rows = [{**row, "cells": [row["cells"][place] for place in used]} for row in table["rows"]]
    return {**table, "columns": [table["columns"][place] for place in used], "rows": rows}


def pair_rows(document: Document, metric: str) -> list[dict[str, Any]]:
    """The best against each other model, in every metric compared; the decision's metric first."""
    rows = []
    for pair in sorted((document.get("comparison") or {}).get("pairs", []), key=lambda pair: pair["metric"] != metric):
        difference = pair["difference"]
        relative = difference.get("relative")
        rows.append(
            {
                "model": pair["model"],
                "cells": [
                    _cell(plain(pair["metric"], 60), None),
                    _cell(words.signed(difference.get("mean")), difference.get("mean"), interval(difference.get("ci95"))),
                    _cell(("+" if (relative or 0) > 0 else "") + share(relative), relative),
                    _cell(p_value(pair.get("p")), pair.get("p")),
                    _cell(p_value(pair.get("p_holm")), pair.get("p_holm")),
                    *(_cell(count(pair.get(part)), pair.get(part)) for part in ("wins", "ties", "losses")),
                ],
            }
        )
    return rows


def group_rows(document: Document) -> list[dict[str, Any]]:
    """The best against each other model, by group of users."""
    return [
        {
            "model": group["model"],
            "cells": [
                _cell(f"{plain(group['by'], 60)}: {plain(group['group'], 60)}", None),
                _cell(count(group.get("users")), group.get("users")),
                _cell(
                    words.signed(group["difference"].get("mean")),
                    group["difference"].get("mean"),
                    interval(group["difference"].get("ci95")),
                ),
                _cell(p_value(group.get("p")), group.get("p")),
                _cell(p_value(group.get("p_holm")), group.get("p_holm")),
            ],
        }
        for group in (document.get("comparison") or {}).get("groups", [])
    ]
