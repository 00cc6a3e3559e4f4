"""Strangeness: what is usual among the users of a version, found out when somebody first asks, once."""

import threading

from recsys_ae.histories import Histories
from recsys_ae.latent.anomalies import Anomalies
from recsys_ae.models.base import Recommender


class Strangeness:
    """Safe to use from many threads; those who ask while it is found out wait."""

    def __init__(self, model: Recommender, population: Histories) -> None:
        self._model, self._population = model, population
        self._lock = threading.Lock()
        self._known: Anomalies | None = None

    def known(self) -> Anomalies:
        """Takes some seconds the first time. Raises DataError where the version has too few users."""
        with self._lock:
            if self._known is None:
                self._known = Anomalies.of(self._model, self._population)
            return self._known
