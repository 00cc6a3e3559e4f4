"""Documents of evaluation.json to draw: whole ones with seeded figures, and the least that the contract asks."""

from collections.abc import Sequence
from typing import Any

import numpy as np

KEYS = ("mult_vae", "ease", "als", "mult_dae", "popularity")
LEVELS = {"mult_vae": 0.386, "ease": 0.379, "als": 0.371, "mult_dae": 0.382, "popularity": 0.197}
KS = (10, 20, 50, 100)
ACCURACY = ("recall", "capped_recall", "ndcg", "precision", "hit_rate", "map", "mrr")
BEYOND = {
    "coverage": 0.04,
    "gini": 0.93,
    "novelty": 3.4,
    "diversity": 0.71,
    "serendipity": 0.05,
    "arp": 212.7,
    "aplt": 0.08,
    "popularity_lift": 1.2,
    "calibration": 0.8,
}
GROUPS = {
    "history length": ("1 to 5", "6 to 10", "11 to 25", "26 to 100", "over 100"),
    "popularity of the history": ("blockbusters", "mixed", "niche"),
    "activity": ("new", "regular"),
}
TARGETS = {
    "popularity": ("head", "middle", "tail"),
    "category": ("Drama", "Comedy", "Thriller", "Children", "Documentary"),
    "period": ("2013", "2014", "2015", "2016"),
}
CATEGORIES = ("Drama", "Comedy", "Thriller", "Action", "Romance", "Horror", "Children", "Documentary", "Western", "Musical")
HOSTILE = "<script>alert(1)</script>\"'&amp; $x^{2$ \u05d0\u05d1\u202e\x07 " + "W" * 300 + "]]>\ud800"
"""A text that somebody else chose, at its worst: markup, mathematics, right to left, a bell, too long, a lone surrogate."""
START = 1_380_000_000
DAY = 86_400


def minimal(keys: Sequence[str] = ("popularity",)) -> dict[str, Any]:
    """The keys of the contract and nothing else."""
    entry = {
        "metrics": {"recall@20": {"mean": 0.1234, "se": 0.01, "ci95": [0.1, 0.15], "users": 66}},
        "parameters": 0,
        "config": {},
        "fit": {"best_epoch": 0, "epochs": 0},
        "cost": {"fit_seconds": 0.0, "fit_users_per_second": 0.0, "score_users_per_second": 0.0, "peak_rss_bytes": 0},
    }
    return {
        "schema": 1,
        "data": {"users": 0, "items": 0, "interactions": 0, "digest": "sha256:00"},
        "split": {"kind": "strong_generalization", "test_users": 0},
        "models": dict.fromkeys(keys, entry),
        "environment": {},
    }


def full(keys: Sequence[str] = KEYS, certain: bool = True, seed: int = 0) -> dict[str, Any]:
    """Everything that decision 007 names."""
    rng = np.random.default_rng(seed)
    levels = {key: LEVELS.get(key, 0.36 - 0.01 * place) for place, key in enumerate(keys)}
    order = sorted(keys, key=lambda key: -levels[key])
    return {
        "schema": 1,
        "data": _data(rng),
        "split": _split(rng),
        "publish": {"metric": "ndcg@100"},
        "seed": 0,
        "models": {key: _model(rng, key, levels[key]) for key in keys},
        "comparison": _comparison(rng, order, levels, certain),
        "overlap": {"k": 20, "models": order, "jaccard": _jaccard(rng, len(order))},
        "map": _map(rng),
        "earlier": [_night(rng, night, levels) for night in range(6)],
        "environment": {
            "created": "2026-11-24T03:12:44+00:00",
            "command": "recsys-ae evaluate run.toml --out report",
            "processor": "AMD EPYC",
            "recsys_ae": "0.1.0",
            "python": "3.11.7",
            "torch": "2.13.0",
            "numpy": "2.4.6",
            "threads": 2,
            "cuda": None,
        },
    }


def score(mean: float, se: float | None = 0.006, users: int = 2_000) -> dict[str, Any]:
    """A mean with its interval, or without where there is none."""
    ends = None if se is None else [round(mean - 1.96 * se, 6), round(mean + 1.96 * se, 6)]
    return {"mean": round(float(mean), 6), "se": se, "ci95": ends, "users": users}


def _data(rng: np.random.Generator) -> dict[str, Any]:
    edges = [1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500]
    shares = np.linspace(0, 1, 101)
    rank = np.sort(rng.zipf(1.6, 100))[::-1]
    kept, dropped = 51_535, {"duplicate": 812, "weight_below_minimum": 38_190, "user_below_minimum": 467}
    return {
        "users": 20_659,
        "items": 6_169,
        "interactions": kept,
        "digest": f"sha256:{'3f' * 32}",
        "cleaning": {"read": kept + sum(dropped.values()), "kept": kept, "dropped": dropped},
        "profile": {
            "density": 0.000404,
            "train_digest": f"sha256:{'a1' * 32}",
            "times": {"first": START, "last": START + 1_100 * DAY},
            "interactions_by_time": [
                {"from": START + 18 * DAY * place, "interactions": int(rng.integers(300, 1_500))} for place in range(60)
            ],
            "history_lengths": {
                "edges": edges,
                "users": [int(4_000 * np.exp(-(((p - 5) / 4) ** 2))) for p in range(len(edges))],
            },
            "popularity_curve": {"items": shares.tolist(), "interactions": (shares**0.28).tolist()},
            "top_items": [_item(place) | {"users": int(users)} for place, users in enumerate(rank + 100)],
        },
    }


def _split(rng: np.random.Generator) -> dict[str, Any]:
    return {
        "kind": "by_time",
        "train_users": 16_000,
        "train_items": 6_002,
        "train_interactions": 41_000,
        "validation_users": 1_900,
        "test_users": 2_000,
        "test_from": START + 1_000 * DAY,
        "dropped": {"unseen_items": 214},
        "checks": [
            {"check": "no test user is among the training users", "passed": True, "found": "0 of 2,000"},
            {"check": "no held-out interaction is older than the fold-in", "passed": False, "found": "3 of 11,204"},
            {"check": "no item is both folded in and held out", "passed": True, "found": "0 of 11,204"},
        ],
        "cold": {"users": int(rng.integers(100, 200)), "items": 31, "interactions": 402},
    }


def _model(rng: np.random.Generator, key: str, level: float) -> dict[str, Any]:
    trained = "vae" in key or "dae" in key
    metrics = {f"{name}@{k}": score(_at(name, level, k)) for name in ACCURACY for k in KS}
    for name, value in BEYOND.items():
        for k in KS:
            alone = name in ("coverage", "gini")
            metrics[f"{name}@{k}"] = score(value * float(rng.uniform(0.8, 1.2)), None if alone else 0.01 * value)
    k_curve = [1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100]
    curves: dict[str, Any] = {"k": k_curve}
    for name in ACCURACY:
        values = [_at(name, level, k) for k in k_curve]
        curves[name] = {"mean": values, "low": [v - 0.01 for v in values], "high": [v + 0.01 for v in values]}
    epochs = 40
    fit: dict[str, Any] = {"best_epoch": 0, "epochs": 0, "losses": [], "validation": [], "kl_by_dimension": []}
    if trained:
        steps = np.arange(1, epochs + 1)
        fit = {
            "best_epoch": 31,
            "epochs": epochs,
            "beta": 0.2,
            "batch_size": 500,
            "losses": (420 + 300 * np.exp(-steps / 8) + rng.normal(0, 2, epochs)).round(4).tolist(),
            "validation": (level - 0.15 * np.exp(-steps / 7) - 1e-5 * (steps - 31) ** 2).round(6).tolist(),
            "kl_by_dimension": (3 * np.exp(-np.arange(200) / 18)).round(6).tolist() if "vae" in key else [],
        }
    return {
        "metrics": metrics,
        "curves": curves,
        "groups": [
            {"by": by, "group": group, "users": int(rng.integers(100, 900)), "metrics": _of_group(rng, level)}
            for by, groups in GROUPS.items()
            for group in groups
        ],
        "targets": [
            {
                "by": by,
                "group": group,
                "targets": int(rng.integers(200, 5_000)),
                "users": 812,
                "found@20": score(rng.uniform(0.02, 0.5)),
            }
            for by, groups in TARGETS.items()
            for group in groups
        ],
        "worst": [_worst(rng, user) for user in range(10)],
        "windows": [
            {
                "validation_from": START + (800 + 60 * w) * DAY,
                "test_from": START + (860 + 60 * w) * DAY,
                "test_until": START + (920 + 60 * w) * DAY,
                "users": int(rng.integers(400, 600)),
                "fit": {},
                "metrics": {"ndcg@100": score(level + rng.normal(0, 0.008), 0.012)},
            }
            for w in range(4)
        ],
        "source": "trained",
        "warnings": ["stopped at the last epoch: more epochs may help"] if key == "mult_dae" else [],
        "parameters": 7_412_203 if trained else 0,
        "size_bytes": 29_648_812 if trained else 48_120,
        "config": {"name": key, "hidden": [600], "latent": 200, "learning_rate": 0.001, "epochs": 200}
        if trained
        else {"name": key},
        "fit": fit,
        "cost": {
            "fit_seconds": 207.4 if trained else 0.6,
            "fit_users_per_second": 4_100.0,
            "score_users_per_second": 5_506.2 if trained else 7_801.0,
            "peak_rss_bytes": 667_000_000,
            "seconds": {"training": 200.1},
            "device": "cpu",
            "precision": "float32",
        },
    }


def _at(name: str, level: float, k: int) -> float:
    """A plausible value of a metric at k."""
    grown = float(np.log2(k + 1) / np.log2(101))
    if name == "precision":
        return round(level * (1.2 - grown), 6)
    return round(min(level * {"ndcg": 0.75 + 0.25 * grown, "hit_rate": 2.4 * grown, "mrr": 1.1}.get(name, grown), 1.0), 6)


def _of_group(rng: np.random.Generator, level: float) -> dict[str, Any]:
    return {name: score(level + rng.normal(0, 0.05), 0.015, 400) for name in ("ndcg@100", "recall@20")}


def _item(place: int) -> dict[str, Any]:
    return {"item_id": 100 + place, "title": f"The Long Road to Item {place} ({1950 + place % 70})"}


def _worst(rng: np.random.Generator, user: int) -> dict[str, Any]:
    ids = rng.integers(0, 6_000, 60).tolist()
    return {
        "user_id": 7_000 + user,
        "metric": 0.0,
        "history": [_item(i) for i in ids[:32]],
        "held_out": [_item(i) | {"rank": 74 if i % 5 == 0 else None} for i in ids[32:40]],
        "recommended": [_item(i) | {"hit": i % 9 == 0} for i in ids[40:60]],
    }


def _comparison(rng: np.random.Generator, order: list[str], levels: dict[str, float], certain: bool) -> dict[str, Any]:
    best, *others = order
    pairs = []
    for metric in ("ndcg@100", "recall@20", "coverage@10"):
        for key in others:
            mean = round(levels[best] - levels[key], 6)
            half = 0.5 * (levels[best] - levels[others[0]]) if certain else 0.012
            pairs.append(
                {
                    "model": key,
                    "metric": metric,
                    "p": 0.0002 if certain else 0.11,
                    "difference": {
                        "mean": mean,
                        "ci95": [round(mean - half, 6), round(mean + half, 6)],
                        "relative": mean / levels[key],
                    },
                    "p_holm": None if metric != "ndcg@100" else 0.0008 if certain else 0.44 if mean < 0.012 else 0.004,
                    "wins": 1_043,
                    "ties": 310,
                    "losses": 647,
                }
            )
    groups = [
        {
            "model": key,
            "by": by,
            "group": group,
            "users": 400,
            "p": 0.03,
            "p_holm": 0.2,
            "difference": {"mean": round(float(rng.normal(0.01, 0.01)), 6), "ci95": [-0.004, 0.022]},
        }
        for key in others
        for by, names in GROUPS.items()
        for group in names
    ]
    losing = {
        "by": "history length",
        "group": "over 100",
        "against": others[0],
        "difference": -0.0131,
        "ci95": [-0.0242, -0.0021],
    }
    return {
        "metric": "ndcg@100",
        "best": best,
        "level": 0.05,
        "resamples": 10_000,
        "order": order,
        "pairs": pairs,
        "groups": groups,
        "verdict": {
            "publish": best,
            "over": others[0],
            "certain": certain,
            "equals": [] if certain else others[:2],
            "losing_groups": [losing] if certain else [],
        },
    }


def _jaccard(rng: np.random.Generator, n: int) -> list[list[float]]:
    found = rng.uniform(0.1, 0.7, (n, n)).round(4)
    found = (found + found.T) / 2
    np.fill_diagonal(found, 1.0)
    return found.tolist()  # type: ignore[no-any-return]


def _map(rng: np.random.Generator) -> dict[str, Any]:
    which = rng.integers(0, len(CATEGORIES), 1_500)
    centres = rng.normal(0, 12, (len(CATEGORIES), 2))
    points = centres[which] + rng.normal(0, 4, (1_500, 2))
    users = rng.zipf(1.5, 1_500).clip(1, 600)
    return {
        "model": "mult_vae",
        "method": "tsne",
        "items": [
            _item(place) | {"category": CATEGORIES[which[place]], "users": int(users[place]), "x": float(x), "y": float(y)}
            for place, (x, y) in enumerate(points.round(3))
        ],
    }


def _night(rng: np.random.Generator, night: int, levels: dict[str, float]) -> dict[str, Any]:
    return {
        "name": f"2026-11-{18 + night}",
        "created": f"2026-11-{18 + night}T03:10:02+00:00",
        "digest": f"sha256:{night:02d}" + "e" * 60,
        "models": {key: {"ndcg@100": score(level - 0.004 + rng.normal(0, 0.004))} for key, level in levels.items()},
        "drift": {
            "history_lengths": 0.0012 * (6 - night),
            "top_items": 0.97 - 0.01 * (6 - night),
            "users": 20_600 + night,
            "items": 6_160 + night,
            "interactions": 51_000 + 80 * night,
        },
    }


def hostile() -> dict[str, Any]:
    """Every text of a whole document that somebody else chose, at its worst."""
    document = full()
    names = {key: f"{HOSTILE[:60]}{place}" for place, key in enumerate(KEYS)}

    def swap(value: Any) -> Any:
        if isinstance(value, dict):
            return {names.get(key, key): swap(each) for key, each in value.items()}
        if isinstance(value, list):
            return [swap(each) for each in value]
        return names.get(value, value) if isinstance(value, str) else value

    document = swap(document)
    for one in [*document["map"]["items"], *document["data"]["profile"]["top_items"]]:
        one |= {"title": HOSTILE, "item_id": HOSTILE, "category": HOSTILE}
    for entry in document["models"].values():
        entry["warnings"] = [HOSTILE]
        for row in [*entry["groups"], *entry["targets"]]:
            row |= {"by": HOSTILE + row["by"], "group": HOSTILE + row["group"]}
        for user in entry["worst"]:
            user["user_id"] = HOSTILE
            for item in [*user["history"], *user["held_out"], *user["recommended"]]:
                item |= {"title": HOSTILE, "item_id": HOSTILE}
    document["split"]["checks"][0] |= {"check": HOSTILE, "found": HOSTILE}
    document["data"]["cleaning"]["dropped"][HOSTILE] = 1
    document["environment"] |= {"command": HOSTILE, "processor": HOSTILE, HOSTILE: HOSTILE}
    document["earlier"][0] |= {"name": HOSTILE, "created": HOSTILE, "digest": HOSTILE}
    return document
