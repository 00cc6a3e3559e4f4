"""Planted attackers and bots found by `latent anomalies`, beside what needs no model, on real sets.

    OMP_NUM_THREADS=1 python -m benchmarks.latent_anomalies SET --data FOLDER [--epochs N ...] [--model NAME] [--kind-by-kind]

Every kind with 20, 50 and 100 fillers. A model is fitted with the attackers in its log, `--share` of the users, of all kinds at
once or with `--kind-by-kind` of one after the other; a second one is fitted without them and meets as many as new users.
Ordinary users are all others. Each baseline is turned the way that suits it best for each kind, which nobody could know.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata

from benchmarks.attackers import KINDS, Planter, planted
from benchmarks.quality import BENCHMARKS
from benchmarks.record import write
from recsys_ae.cleaning import Cleaning
from recsys_ae.dataset import Dataset
from recsys_ae.datasets import synthetic
from recsys_ae.histories import Histories
from recsys_ae.latent.anomalies import Anomalies, combined
from recsys_ae.models import MODELS, Recommender
from recsys_ae.training import RunContext

SIZES = (20, 50, 100)
RATE = 0.01
JUDGED = 6_000  # ordinary users, at most
NEIGHBOURS = 25
NEW = 20  # attackers of each kind and size whom the model has not met
Scores = NDArray[np.floating]


def roc_auc(ordinary: Scores, strange: Scores) -> float:
    """The chance that a strange user is above an ordinary one."""
    ranks = rankdata(np.concatenate([ordinary, strange]))[len(ordinary) :]
    return float((ranks.mean() - (len(strange) + 1) / 2) / len(ordinary))


def pr_auc(ordinary: Scores, strange: Scores) -> float:
    """Average precision."""
    order = np.argsort(-np.concatenate([ordinary, strange]), kind="stable")
    hits = order >= len(ordinary)
    return float((np.cumsum(hits) / np.arange(1, len(order) + 1))[hits].mean())


def figures(ordinary: Scores, strange: Scores) -> dict[str, float]:
    """How well a score parts the two."""
    recall = float((strange > np.quantile(ordinary, 1 - RATE)).mean())
    return {
        "roc_auc": round(roc_auc(ordinary, strange), 4),
        "pr_auc": round(pr_auc(ordinary, strange), 4),
        "recall at 1 %": round(recall, 4),
    }


def best_way(ordinary: Scores, strange: Scores) -> dict[str, float]:
    """The same of a baseline, high or low, whichever parts them better."""
    return max((figures(sign * ordinary, sign * strange) for sign in (1, -1)), key=lambda found: found["roc_auc"])


def neighbours(histories: Histories, others: Histories) -> Scores:
    """Degree of similarity (B,): the mean cosine with the 25 most similar others; one of cosine 1 is the user."""
    units = [h.matrix.multiply(1 / np.sqrt(np.maximum(h.lengths, 1))[:, None]).tocsr() for h in (histories, others)]
    found = []
    for start in range(0, len(histories), 500):
        cosines = (units[0][start : start + 500] @ units[1].T).toarray()
        best = -np.partition(-cosines, NEIGHBOURS, axis=1)[:, : NEIGHBOURS + 1]
        best = -np.sort(-best, axis=1)
        itself = best[:, 0] > 1 - 1e-6
        found.append(np.where(itself, best[:, 1:].mean(1), best[:, :-1].mean(1)))
    return np.concatenate(found)


def measures(model: Recommender, log: Histories, ordinary: Histories, strange: Histories) -> dict[str, Any]:
    """Our score, its parts and the baselines, of ordinary and of strange users, and the threshold."""
    usual = Anomalies.of(model, log)
    parts = [usual.parts(h) for h in (ordinary, strange)]
    counts = np.bincount(log.items, minlength=log.n_items)

    def popularity(histories: Histories) -> Scores:
        return np.bincount(histories.rows, counts[histories.items], len(histories)) / np.maximum(histories.lengths, 1)

    return {
        "ours": (combined(parts[0]), combined(parts[1])),
        "threshold": usual.threshold(RATE),
        "parts": {name: (parts[0][name], parts[1][name]) for name in parts[0]},
        "length": (ordinary.lengths, strange.lengths),
        "mean popularity": (popularity(ordinary), popularity(strange)),
        "degree of similarity": (neighbours(ordinary, log), neighbours(strange, log)),
    }


def table(found: dict[str, Any], what: Sequence[tuple[str, int]]) -> dict[str, Any]:
    """Figures by kind of attacker."""
    kinds, sizes = np.array([kind for kind, _ in what]), np.array([size for _, size in what])
    entries: dict[str, Any] = {}
    for kind in dict.fromkeys(kinds):
        of = kinds == kind
        ordinary, strange = found["ours"]
        entry = {"attackers": int(of.sum()), "ours": figures(ordinary, strange[of])}
        entry["ours"]["recall at the threshold"] = round(float((strange[of] > found["threshold"]).mean()), 4)
        entry["ours by filler"] = {
            str(n): figures(ordinary, strange[of & (sizes == n)]) for n in SIZES if (of & (sizes == n)).any()
        }
        for name, (low, high) in found["parts"].items():
            entry[f"{name} alone"] = best_way(low, high[of])
        for name in ("length", "mean popularity", "degree of similarity"):
            low, high = found[name]
            entry[name] = best_way(low, high[of])
        entries[str(kind)] = entry
    ordinary = found["ours"][0]
    return {
        "ordinary users": len(ordinary),
        "false positives at the threshold for 1 %": round(float((ordinary > found["threshold"]).mean()), 5),
        "kinds": entries,
    }


def generated() -> Histories:
    """30,000 users of the generator, 2,000 items."""
    raw = synthetic(n_users=30_000, n_items=2_000)
    return Dataset.from_log(raw.clean(Cleaning(min_user_interactions=5))).histories


def fitted(name: str, epochs: int, latent: int, log: Histories, seed: int) -> tuple[Recommender, float]:
    """A model, and the seconds of CPU it took."""
    begin = time.process_time()
    model = MODELS[name](MODELS[name].Config(epochs=epochs, latent=latent), log.n_items)
    model.fit(log, validation=None, run=RunContext(seed=seed, device="cpu"))
    return model, round(time.process_time() - begin, 1)


def main() -> None:
    """Run it, print it, write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=[*BENCHMARKS, "generated"])
    parser.add_argument("--data", type=Path, default=Path())
    parser.add_argument("--model", default="mult_vae")
    parser.add_argument("--epochs", type=int, nargs="+", default=[10])
    parser.add_argument("--latent", type=int, default=128)
    parser.add_argument("--share", type=float, default=0.03)
    parser.add_argument("--kind-by-kind", action="store_true")
    parser.add_argument("--without", action="store_true", help="also a model that has not met them")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--note", default="")
    given = parser.parse_args()
    torch.set_num_threads(1)
    genuine = generated() if given.set == "generated" else BENCHMARKS[given.set].read(given.data)[0].histories
    rng = np.random.default_rng(given.seed)
    planter = Planter(genuine, rng)
    some = genuine.take(np.sort(rng.permutation(len(genuine))[:JUDGED]))
    settings = {"model": given.model, "latent": given.latent, "epochs": given.epochs, "seed": given.seed, "share": given.share}
    content: dict[str, Any] = {
        "data": {"set": given.set, "users": len(genuine), "items": genuine.n_items, "interactions": genuine.n_interactions},
        "settings": settings,
        "note": given.note,
        "runs": {},
    }

    def keep(name: str, entry: dict[str, Any]) -> None:
        content["runs"][name] = entry
        print(name, {kind: each["ours"] for kind, each in entry["kinds"].items()}, flush=True)
        write("latent_anomalies", content, f"-{given.set}")  # as far as it is

    for epochs in given.epochs:
        if given.without:
            model, seconds = fitted(given.model, epochs, given.latent, genuine, given.seed)
            strange, what = planted(planter, list(KINDS), SIZES, NEW)
            keep(
                f"not met, {epochs} epochs", {"fit_cpu_seconds": seconds} | table(measures(model, genuine, some, strange), what)
            )
        groups = [[kind] for kind in KINDS] if given.kind_by_kind else [list(KINDS)]
        met: dict[str, Any] = {}
        for kinds in groups:
            each = max(1, round(given.share * len(genuine) / len(kinds) / len(SIZES)))
            strange, what = planted(planter, kinds, SIZES, each)
            log = Histories.stack([genuine, strange])
            model, seconds = fitted(given.model, epochs, given.latent, log, given.seed)
            entry = {"fit_cpu_seconds": seconds} | table(measures(model, log, some, strange), what)
            if given.kind_by_kind:
                false = entry["false positives at the threshold for 1 %"]
                entry["kinds"][kinds[0]]["false positives at the threshold for 1 %"] = false
                met = entry | {"kinds": met.get("kinds", {}) | entry["kinds"]}
            else:
                met = entry
        keep(f"met, {'one kind at a time' if given.kind_by_kind else 'all kinds at once'}, {epochs} epochs", met)


if __name__ == "__main__":
    main()
