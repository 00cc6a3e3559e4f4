"""Does exploring pay? Nights of lists shown, clicked by a planted truth, and learnt from, at several shares of `explore`.

    OMP_NUM_THREADS=1 python -m benchmarks.exploring [--seeds SEED ...] [--nights N] [--visitors N] [--picture FILE.svg]

A world of 600 items of twelve tastes. An item is clicked by who has its taste with a probability of its own (Beta(1, 3), mean
1/4), by others with a twentieth of that. A model sees items through clicks alone: the log that it begins with holds the first
400 items, of the last 200 (the new ones) one click each. Every night so many visitors come whom nobody has seen, with three
clicks of their own each; each gets a list of ten from last night's model, clicks or not, and what was clicked joins the log
on which tonight's model (mult_vae) is trained. Policies: `explore` of 0, .25, .5 and 1 (Thompson sampling of the code), and
the list of 0 with one place in ten given to an item drawn at random. All policies meet the same visitors, whose coins fall
alike.
Counted: clicks a list, the share of them on new items, how many items have been clicked, and what the last model reaches where
it does not explore, on visitors of their own.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.record import write
from pipelines.report.drawing import MARKERS, SERIES, legend, legend_room, panels, style, svg, ticks
from recsys_ae.histories import Histories
from recsys_ae.latent.uncertainty import explored
from recsys_ae.models import MODELS, Recommender
from recsys_ae.ranking import rank_scores
from recsys_ae.training import RunContext

ITEMS, OLD, TASTES, K = 600, 400, 12, 10
BEGINNERS = 600  # users of the first log
SETTINGS = {"latent": 64, "epochs": 20, "batch_size": 50}
POLICIES = {"explore 0": 0.0, "explore 0.25": 0.25, "explore 0.5": 0.5, "explore 1": 1.0, "one in ten at random": 0.0}
OTHERS = 0.05  # of an item's probability, for who does not have its taste
JUDGES = 400  # visitors on whom the last model is judged

Rows = list[list[int]]


@dataclass(frozen=True, eq=False)
class World:
    """Who clicks what: probabilities by item for a visitor of each taste, (T, I)."""

    odds: NDArray[np.float64]

    @classmethod
    def of(cls, rng: np.random.Generator) -> "World":
        own = np.arange(ITEMS) % TASTES == np.arange(TASTES)[:, None]
        return cls(rng.beta(1, 3, ITEMS) * np.where(own, 1.0, OTHERS))

    def log(self, rng: np.random.Generator) -> Rows:
        """The first log: clicks on old items as they fall, of every new item one."""
        rows = [self.clicks(rng, user % TASTES, int(rng.integers(5, 20)), OLD) for user in range(BEGINNERS)]
        for item in range(OLD, ITEMS):
            rows[int(rng.integers(BEGINNERS // TASTES)) * TASTES + item % TASTES].append(item)
        return rows

    def clicks(self, rng: np.random.Generator, taste: int, n: int, among: int = ITEMS) -> list[int]:
        odds = self.odds[taste, :among]
        return [int(item) for item in rng.choice(among, n, replace=False, p=odds / odds.sum())]


@dataclass(frozen=True, eq=False)
class Night:
    """Visitors with what they have clicked, and the coin of each for each item (V, I)."""

    tastes: NDArray[np.int64]
    rows: Rows
    coins: NDArray[np.float64]

    @classmethod
    def of(cls, world: World, rng: np.random.Generator, visitors: int) -> "Night":
        tastes = rng.integers(TASTES, size=visitors)
        rows = [world.clicks(rng, int(taste), 3, OLD) for taste in tastes]
        return cls(tastes, rows, rng.random((visitors, ITEMS)))

    def clicked(self, world: World, lists: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of what was shown (V, K)."""
        who = np.arange(len(lists))[:, None]
        return self.coins[who, lists] < world.odds[self.tastes[:, None], lists]


def trained(rows: Rows, seed: int) -> Recommender:
    """Tonight's model."""
    model = MODELS["mult_vae"](MODELS["mult_vae"].Config(**SETTINGS), ITEMS)
    model.fit(Histories.from_rows(rows, ITEMS), validation=None, run=RunContext(seed=seed, device="cpu", precision="float32"))
    return model


def shown(model: Recommender, rows: Rows, policy: str, rng: np.random.Generator) -> NDArray[np.int64]:
    """Lists (V, K) of items that the visitors do not have; a random one that is there already changes nothing."""
    histories = Histories.from_rows(rows, ITEMS)
    scores = model.score(histories)
    if share := POLICIES[policy]:
        seeds = rng.integers(2**62, size=len(rows)).tolist()
        each = (
            explored(model, histories.take(slice(n, n + 1)), scores[n : n + 1], share, seed) for n, seed in enumerate(seeds)
        )
        scores = torch.cat(list(each))
    lists = rank_scores(scores, histories, K).items.astype(np.int64)
    if policy == "one in ten at random":
        for n, own in enumerate(lists):
            drawn = int(rng.integers(ITEMS))
            if drawn not in own and drawn not in rows[n]:
                own[-1] = drawn
    return lists


def nights(policy: str, seed: int, number: int, visitors: int) -> dict[str, Any]:
    """One policy from the first log to the last model."""
    rng = np.random.default_rng(seed)
    world = World.of(rng)
    log = world.log(rng)
    coming = [Night.of(world, rng, visitors) for _ in range(number)]
    judges = Night.of(world, rng, JUDGES)
    own = np.random.default_rng([seed, 1])
    found: dict[str, Any] = {"clicks": [], "new": [], "items clicked": []}
    met: set[int] = set()
    model = trained(log, seed)
    for place, night in enumerate(coming, 1):
        lists = shown(model, night.rows, policy, own)
        clicked = night.clicked(world, lists)
        found["clicks"].append(round(float(clicked.sum(1).mean()), 4))
        found["new"].append(round(float((clicked & (lists >= OLD)).sum(1).mean()), 4))
        met |= set(lists[clicked].tolist())
        found["items clicked"].append(len(met))
        log = log + [row + items[hit].tolist() for row, items, hit in zip(night.rows, lists, clicked, strict=True)]
        model = trained(log, seed + place)
    lists = shown(model, judges.rows, "explore 0", own)
    found["clicks of the last model"] = round(float(judges.clicked(world, lists).sum(1).mean()), 4)
    odds = np.sort(world.odds[judges.tastes], 1)[:, -K:]
    found["clicks of the truth"] = round(float(odds.sum(1).mean()), 4)
    return found


def summary(runs: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean over the seeds, and the mean difference from `explore 0` with its standard error."""
    told: dict[str, dict[str, float]] = {}
    for policy in POLICIES:
        each = [run[policy] for run in runs.values()]
        base = [run["explore 0"] for run in runs.values()]
        values = {
            "clicks a list": ([np.mean(r["clicks"]) for r in each], [np.mean(r["clicks"]) for r in base]),
            "of the last night": ([r["clicks"][-1] for r in each], [r["clicks"][-1] for r in base]),
            "on new items": ([np.mean(r["new"]) for r in each], [np.mean(r["new"]) for r in base]),
            "items clicked": ([r["items clicked"][-1] for r in each], [r["items clicked"][-1] for r in base]),
            "of the last model, not exploring": (
                [r["clicks of the last model"] for r in each],
                [r["clicks of the last model"] for r in base],
            ),
        }
        told[policy] = {}
        for name, (own, first) in values.items():
            less = np.array(own, np.float64) - np.array(first, np.float64)
            told[policy][name] = round(float(np.mean(own)), 4)
            told[policy][f"{name}, less explore 0"] = round(float(less.mean()), 4)
            told[policy][f"{name}, se"] = round(float(less.std(ddof=1) / len(less) ** 0.5), 4) if len(less) > 1 else 0.0
    return told


def picture(runs: dict[str, dict[str, Any]], path: Path) -> None:
    """Night by night, mean over the seeds."""
    names = list(POLICIES)
    with style():
        figure, axes = panels(2, 2.0, legend_room(names, 0.6))
        for axis, what, title in zip(
            axes, ("clicks", "items clicked"), ("clicks a list of ten", "items clicked so far"), strict=True
        ):
            for name, colour, marker in zip(names, SERIES, MARKERS, strict=False):
                mean = np.mean([run[name][what] for run in runs.values()], axis=0)
                axis.plot(range(1, len(mean) + 1), mean, color=colour, marker=marker, markersize=4)
            axis.set_xlabel("night")
            ticks(axis.xaxis, whole=True)
            axis.set_title(title, loc="left")
        legend(figure, names, SERIES[: len(names)], MARKERS[: len(names)])
        path.write_text(svg(figure, "Clicks a list of ten night by night, by policy of exploring"), "utf-8")


def main() -> None:
    """Run it, print it, write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--nights", type=int, default=10)
    parser.add_argument("--visitors", type=int, default=200)
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    runs: dict[str, dict[str, Any]] = {}
    for seed in given.seeds:
        runs[str(seed)] = {policy: nights(policy, seed, given.nights, given.visitors) for policy in POLICIES}
        for policy, found in runs[str(seed)].items():
            print(seed, policy, found, flush=True)
        facts = {"settings": SETTINGS, "nights": given.nights, "visitors": given.visitors}
        write("exploring", facts | {"summary": summary(runs), "runs": runs})
    if given.picture:
        picture(runs, given.picture)


if __name__ == "__main__":
    main()
