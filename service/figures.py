"""Figures of several processes: prometheus_client keeps them in files of a folder, which each process can read."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from prometheus_client import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

FIGURES = "PROMETHEUS_MULTIPROC_DIR"
"""What names the folder in the environment. It is looked for when prometheus_client is imported."""


class AllWorkers(Collector):
    """The figures of all processes that share a folder, those included that have ended."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def collect(self) -> Iterable[Metric]:
        return MultiProcessCollector.merge(list(self._files()))  # type: ignore[no-untyped-call]

    def _files(self) -> Iterator[str]:
        """Those with something in them: one is empty when it is made, for good where its worker was killed then."""
        for file in self.folder.glob("*.db"):
            with suppress(FileNotFoundError):  # the gauges of a worker that has just ended
                if file.stat().st_size:
                    yield str(file)
