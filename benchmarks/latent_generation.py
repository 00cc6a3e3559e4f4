"""Synthetic users of `latent generate` beside independent draws by popularity, and beside the real users themselves.

    OMP_NUM_THREADS=1 python -m benchmarks.latent_generation SET --data FOLDER [--epochs N] [--latent N] [--seed S]

Half of the training users (members) train the model that generates; the other half (strangers) it never sees. As many users
are drawn as there are members. Use: a model (EASE) trained on them, judged on the split's real test users. Likeness:
Jensen-Shannon divergence of the items' shares, Kolmogorov-Smirnov distance of lengths, correlation of the co-occurrences of the
200 most popular items. Privacy: the cosine of each synthetic user's nearest member and nearest stranger; a membership-inference
attack (the distance to the nearest synthetic record: Chen, Yu, Zhang, Fritz 2020, GAN-Leaks) that calls those users members to
whom some synthetic user is most alike. An AUC of 0.5 tells nothing; copies of the members give it away.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import ks_2samp

from benchmarks.latent_anomalies import roc_auc
from benchmarks.quality import BENCHMARKS
from benchmarks.record import write
from pipelines.evaluation.drift import jensen_shannon
from recsys_ae.evaluation import evaluate
from recsys_ae.histories import Histories
from recsys_ae.latent.generation import Synthesizer
from recsys_ae.models import MODELS
from recsys_ae.models.base import LatentRecommender
from recsys_ae.split import Split
from recsys_ae.training import RunContext

HEAD = 200
METRIC = "ndcg@100"


def by_popularity(members: Histories, n: int, seed: int) -> Histories:
    """The baseline: lengths of members, items each by their share, without replacement."""
    rng = np.random.default_rng(seed)
    logits = np.log(np.maximum(np.bincount(members.items, minlength=members.n_items), 1e-9))
    lengths = members.lengths[rng.integers(len(members), size=n)]
    rows = [np.argsort(-(logits + rng.gumbel(size=members.n_items)))[:length].tolist() for length in lengths]
    return Histories.from_rows(rows, members.n_items)


def nearest(histories: Histories, others: Histories) -> NDArray[np.floating]:
    """(B,) the cosine of the most similar other."""
    units = [h.matrix.multiply(1 / np.sqrt(np.maximum(h.lengths, 1))[:, None]).tocsr() for h in (histories, others)]
    parts = [(units[0][start : start + 500] @ units[1].T).toarray().max(1) for start in range(0, len(histories), 500)]
    return np.concatenate(parts)


def cooccurrences(histories: Histories, head: NDArray[np.integer]) -> NDArray[np.floating]:
    """Users who met both, of each two of the head, as a share of users."""
    columns = histories.matrix.tocsc()[:, head]
    both = (columns.T @ columns).toarray() / len(histories)
    return both[np.triu_indices(len(head), 1)]


def judged(drawn: Histories, members: Histories, strangers: Histories, split: Split) -> dict[str, Any]:
    """All figures of one log that stands in for the members'."""
    counts = [np.bincount(h.items, minlength=h.n_items) for h in (members, drawn)]
    head = np.argsort(-counts[0], kind="stable")[:HEAD]
    both = [cooccurrences(h, head) for h in (members, drawn)]
    ease = MODELS["ease"](MODELS["ease"].Config(), drawn.n_items)
    ease.fit(drawn, validation=None, run=RunContext(device="cpu"))
    score = evaluate(ease, split.test, ks=(100,)).scores[METRIC]
    to_members, to_strangers = nearest(drawn, members), nearest(drawn, strangers)
    attack = roc_auc(nearest(strangers, drawn), nearest(members, drawn))
    return {
        f"ease trained on it, real test users, {METRIC}": {"mean": round(score.mean, 4), "se": round(score.se or 0.0, 4)},
        "popularity, bits": round(jensen_shannon(*counts), 4),
        "lengths, Kolmogorov-Smirnov": round(float(ks_2samp(members.lengths, drawn.lengths).statistic), 4),
        "co-occurrence, correlation": round(float(np.corrcoef(*both)[0, 1]), 4),
        "co-occurrence, mean to real": round(float(both[1].mean() / both[0].mean()), 3),
        "cosine of the nearest member, median": round(float(np.median(to_members)), 4),
        "cosine of the nearest stranger, median": round(float(np.median(to_strangers)), 4),
        "cosine of the nearest member, 99th percentile": round(float(np.quantile(to_members, 0.99)), 4),
        "cosine of the nearest stranger, 99th percentile": round(float(np.quantile(to_strangers, 0.99)), 4),
        "membership inference, AUC": round(attack, 4),
    }


def main() -> None:
    """Run it, print it, write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=list(BENCHMARKS))
    parser.add_argument("--data", type=Path, default=Path())
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--latent", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    _, make = BENCHMARKS[given.set].read(given.data)
    split = make(given.seed)
    order = np.random.default_rng(given.seed).permutation(len(split.train.histories))
    halves = np.array_split(order, 2)
    members, strangers = (split.train.histories.take(np.sort(half)) for half in halves)
    n = len(members)
    begin = time.process_time()
    model = MODELS["mult_vae"](MODELS["mult_vae"].Config(epochs=given.epochs, latent=given.latent), members.n_items)
    model.fit(members, validation=None, run=RunContext(seed=given.seed, device="cpu"))
    assert isinstance(model, LatentRecommender)
    content: dict[str, Any] = {
        "data": {"set": given.set, "members": n, "strangers": len(strangers), "items": members.n_items},
        "settings": {"model": "mult_vae", "epochs": given.epochs, "latent": given.latent, "seed": given.seed},
        "fit_cpu_seconds": round(time.process_time() - begin, 1),
        "logs": {},
    }

    def keep(name: str, drawn: Histories, **facts: float) -> None:
        content["logs"][name] = judged(drawn, members, strangers, split) | facts
        print(name, content["logs"][name], flush=True)
        write("latent_generation", content, f"-{given.set}")  # as far as it is

    keep("the members themselves", members)
    keep("the strangers", strangers)
    keep("by popularity", by_popularity(members, n, given.seed))
    for source, neighbours in (("aggregated", 10), ("aggregated", 3), ("prior", 10)):
        begin = time.process_time()
        made = Synthesizer.of(model, members, source, neighbours=neighbours, seed=given.seed)  # type: ignore[arg-type]
        drawn = Histories.stack(list(made.draw(n, given.seed)))
        seconds = round(time.process_time() - begin, 1)
        name = source if source == "prior" else f"{source}, {neighbours} neighbours"
        keep(name, drawn, temperature=round(made.temperature, 3), cpu_seconds=seconds)


if __name__ == "__main__":
    main()
