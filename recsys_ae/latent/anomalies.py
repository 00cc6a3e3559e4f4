"""Anomalies: how unlike the population a user is. Attackers and bots stand out, whoever was in training.

Four figures of a history, each held against what users of that length have:

reconstruction  mean -log p(item | the other two thirds of the history), p the softmax of the scores over what is not in them:
                how badly an autoencoder finds what it did not see. Too well is strange too: a template that it has learnt
lift            mean log p(item | the rest) - log p(item) by popularity alone: what of the history a taste explains; a profile
                that follows popularity has none
spread          standard deviation of -log p within the history: a template with fillers is both well and badly foretold
code            log of the code's length (models with codes): the items of a taste add up, those of a template cancel out

Reconstruction error as a measure of strangeness: Hawkins, He, Williams, Baxter 2002, Outlier Detection Using Replicator Neural
Networks. Attacks on recommenders: Mobasher, Burke, Bhaumik, Williams 2007, Toward Trustworthy Recommender Systems.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys_ae.errors import DataError
from recsys_ae.histories import Histories
from recsys_ae.latent.codes import encoded
from recsys_ae.models.base import LatentRecommender, Recommender

Floats = NDArray[np.floating]

FOLDS = 3
SAMPLE = 2_000  # users that say what is usual
FEWEST = 20
ROWS, CELLS = 256, 2**24  # of a batch of scores, at most
BULK, EDGE = 0.5, 0.8  # quantiles that a threshold is drawn through
FAR = 0.001
SMALLEST = 1e-6

STRANGE: dict[str, Callable[[Floats], Floats]] = {
    "reconstruction": np.abs,
    "lift": lambda z: np.maximum(-z, 0.0),
    "spread": lambda z: np.maximum(z, 0.0),
    "code": np.abs,
}
"""What of a standardised figure counts as strange."""


@dataclass(frozen=True, eq=False)
class Usual:
    """A figure's middle and width as functions of the log of the length, as most users have them."""

    shortest: float
    longest: float
    middle: Floats  # (3,), a quadratic
    width: Floats  # (2,), the log of it is linear

    @classmethod
    def of(cls, lengths: Floats, figures: Floats) -> "Usual":
        """Least squares, five times over those within three widths: a few per cent of attackers do not bend it."""
        kept = np.ones(len(figures), np.bool_)
        for _ in range(5):
            middle = np.linalg.lstsq(np.vander(lengths[kept], 3), figures[kept])[0]
            away = np.abs(figures - np.vander(lengths, 3) @ middle)
            kept = away <= 3 * 1.4826 * np.median(away) + SMALLEST
        width = np.linalg.lstsq(np.vander(lengths[kept], 2), np.log(away[kept] + SMALLEST))[0]
        width[1] += np.log(1.4826 * np.median(away / np.exp(np.vander(lengths, 2) @ width)) + SMALLEST)
        return cls(float(lengths.min()), float(lengths.max()), middle, width)

    def standardised(self, lengths: Floats, figures: Floats) -> Floats:
        """(B,): 0 for the middle of users of that length, 1 a width above. Beyond the lengths met, as at their ends."""
        lengths = lengths.clip(self.shortest, self.longest)
        return (figures - np.vander(lengths, 3) @ self.middle) / np.exp(np.vander(lengths, 2) @ self.width)


@dataclass(frozen=True)
class Tail:
    """The upper half of ordinary users' scores, as of a Weibull distribution: 1 - F(s) = exp(-(s / scale)^shape).

    A quantile itself would be that of the attackers where the population has more of them than the rate asked for.
    """

    scale: float
    shape: float

    @classmethod
    def of(cls, scores: Floats) -> "Tail":
        """Through the median and the 80th percentile (S,), three times, each without those far beyond the tail before."""
        kept = scores
        for _ in range(3):
            bulk, edge = np.quantile(kept, [BULK, EDGE])
            shape = np.log(np.log(1 - EDGE) / np.log(1 - BULK)) / np.log(max(edge / max(bulk, SMALLEST), 1 + SMALLEST))
            tail = cls(float(bulk / (-np.log(1 - BULK)) ** (1 / shape)), float(shape))
            kept = scores[scores <= tail.beyond(FAR)]
        return tail

    def beyond(self, share: float) -> float:
        """The score above which the share lies."""
        return float(self.scale * (-np.log(share)) ** (1 / self.shape))


@dataclass(frozen=True, eq=False)
class Anomalies:
    """A model with what is usual among its users. Whatever the epochs did to all scores alike, `usual` takes out again."""

    model: Recommender
    log_popularity: Floats  # (I,)
    usual: dict[str, Usual]
    tail: Tail

    @classmethod
    def of(cls, model: Recommender, population: Histories) -> "Anomalies":
        """From users most of whom are ordinary; up to about a twentieth may be what is looked for.

        A model knows the users it was trained on better than others: a threshold holds for users of either kind alone.
        Raises DataError where fewer than 20 of them have a history; WidthError for another catalogue.
        """
        counts = np.bincount(population.items, minlength=population.n_items) + 1.0
        log_popularity = np.log(counts / counts.sum())
        known = np.flatnonzero(population.lengths)
        if len(known) < FEWEST:
            raise DataError(f"{len(known)} users with a history to tell what is usual; expected at least {FEWEST}")
        some = population.take(known[:: -(-len(known) // SAMPLE)])
        figures = _figures(model, log_popularity, some)
        lengths = _log_lengths(some)
        usual = {name: Usual.of(lengths, figures[name]) for name in figures}
        parts = {name: usual[name].standardised(lengths, figures[name]) for name in figures}
        return cls(model, log_popularity, usual, Tail.of(combined(parts)))

    def parts(self, histories: Histories) -> dict[str, Floats]:
        """Each figure (B,) in widths from the middle of users of that length; NaN where there is no history."""
        figures, lengths = _figures(self.model, self.log_popularity, histories), _log_lengths(histories)
        return {name: usual.standardised(lengths, figures[name]) for name, usual in self.usual.items()}

    def score(self, histories: Histories) -> Floats:
        """(B,), higher is stranger: the root of the sum of squares of what is strange; NaN where there is no history."""
        return combined(self.parts(histories))

    def threshold(self, false_positive_rate: float) -> float:
        """The score above which such a share of ordinary users lies. Raises DataError unless it is above 0 and at most 0.5."""
        if not 0 < false_positive_rate <= 1 - BULK:
            raise DataError(f"a false positive rate of {false_positive_rate}; expected more than 0 and at most {1 - BULK}")
        return self.tail.beyond(false_positive_rate)


def combined(parts: dict[str, Floats]) -> Floats:
    """The score (B,) of standardised figures (B,) each."""
    return np.sqrt(np.sum([STRANGE[name](z) ** 2 for name, z in parts.items()], axis=0))


def _figures(model: Recommender, log_popularity: Floats, histories: Histories) -> dict[str, Floats]:
    """(B,) each; NaN where there is no history. How often or when an item was met does not matter."""
    histories = Histories.from_matrix(histories.matrix)
    foretold = _foretold(model, histories)
    with np.errstate(invalid="ignore"):

        def mean(values: Floats) -> Floats:
            return np.bincount(histories.rows, values, len(histories)) / np.where(histories.lengths, histories.lengths, np.nan)

        error = -mean(foretold)
        figures = {
            "reconstruction": error,
            "lift": mean(foretold - log_popularity[histories.items]),
            "spread": np.sqrt(mean((foretold + error[histories.rows]) ** 2)),
        }
    if isinstance(model, LatentRecommender):
        norms = torch.linalg.vector_norm(encoded(model, histories).mean, dim=1).double().numpy()
        figures["code"] = np.where(histories.lengths, np.log(norms + SMALLEST), np.nan)
    return figures


def _foretold(model: Recommender, histories: Histories) -> Floats:
    """log p (N,) of each interaction given those of the row's other folds; which fold one is in hangs on the items alone."""
    order = np.random.default_rng(0).permutation(histories.n_items)
    places = np.empty(histories.n_interactions, np.int64)
    places[np.lexsort((order[histories.items], histories.rows))] = np.arange(histories.n_interactions)
    folds = (places - histories.indptr[:-1][histories.rows]) % FOLDS
    found = np.zeros(histories.n_interactions)
    for fold in range(FOLDS):
        hidden = np.flatnonzero(folds == fold)
        rows, items = histories.rows[hidden], histories.items[hidden]
        for start, rest in _batches(histories.select(folds != fold)):
            here = slice(*np.searchsorted(rows, [start, start + len(rest)]))
            found[hidden[here]] = _log_shares(model, rest, rows[here] - start, items[here])
    return found


def _log_shares(model: Recommender, rest: Histories, rows: NDArray[np.int64], items: NDArray[np.int32]) -> Floats:
    """log p (n,) of items in rows, by the softmax over all that is not in the rest."""
    scores = model.score(rest)
    scores[_places(rest.rows), _places(rest.items)] = -torch.inf
    at = scores[_places(rows), _places(items)].double() - torch.logsumexp(scores, 1).double()[_places(rows)]
    return at.cpu().numpy()


def _places(positions: NDArray[np.integer]) -> Tensor:
    return torch.tensor(positions, dtype=torch.int64)


def _batches(histories: Histories) -> Iterator[tuple[int, Histories]]:
    """The rows in turn, with the place of the first."""
    step = max(1, min(ROWS, CELLS // histories.n_items))
    for start in range(0, len(histories), step):
        yield start, histories.take(slice(start, start + step))


def _log_lengths(histories: Histories) -> Floats:
    """(B,), of as many different items."""
    return np.log(np.maximum(np.diff(histories.matrix.indptr), 1))
