"""supervise(settings, listener, listens): several processes that serve one socket, and the one that watches over them.

A worker is the service of one process, with an engine of its own. It holds one end of a pipe: there it says that it listens, or
why it cannot, and when the other end closes it stops, so that no worker outlives its supervisor. The supervisor loads no model.
Figures are added up in files of a temporary folder, as prometheus_client does for several processes.
"""

import logging
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from tempfile import TemporaryDirectory
from types import FrameType

from prometheus_client.multiprocess import mark_process_dead

from recsys_ae.errors import RecsysError
from service.figures import FIGURES
from service.logs import log_as_json
from service.settings import Settings

log = logging.getLogger("service")

AGAIN_SECONDS = 5.0
"""How long a worker waits before it begins where the one before it could not."""
LAST_SECONDS = 5.0
"""What a worker that stops may take beyond `drain_seconds` and `stop_seconds`."""

Work = Callable[[Settings, socket.socket, Connection, float], None]


def supervise(settings: Settings, listener: socket.socket, listens: Callable[[str], None], work: Work | None = None) -> None:
    """Serve by `settings.workers` processes until told to stop; `listens` is called once, when all of them listen.

    A worker that ends is replaced. Raises what a worker raised that could not begin with the others, RecsysError where it
    ended without a word.
    """
    log_as_json()
    with TemporaryDirectory(prefix="recsys-ae-") as figures, _told_to_stop() as told:
        os.environ[FIGURES] = figures
        crew = _Crew(settings, listener, listens, work or serve_as_worker)
        try:
            crew.begin()
            while told not in (ready := wait([told, *crew.watched()])):
                crew.look_after(ready)
        finally:
            crew.stop()


@dataclass
class _Worker:
    """A process, our end of its pipe, and whether it has said that it listens."""

    process: SpawnProcess
    pipe: Connection
    listens: bool = False


class _Crew:
    """The workers of one socket."""

    def __init__(self, settings: Settings, listener: socket.socket, listens: Callable[[str], None], work: Work) -> None:
        self.settings, self.listener, self.listens, self.work = settings, listener, listens, work
        self.workers: list[_Worker] = []
        self.complete = False  # once all have listened
        self.version = ""  # of the last that began

    def begin(self) -> None:
        """Start all."""
        self.workers.extend(self._started() for _ in range(self.settings.workers))

    def watched(self) -> list[Connection | int]:
        """What is ready when a worker has spoken or ended."""
        return [thing for worker in self.workers for thing in (worker.pipe, worker.process.sentinel)]

    def look_after(self, ready: Container[object]) -> None:
        """Hear the workers that spoke, replace those that ended. Raises what `supervise` raises."""
        for place, worker in enumerate(self.workers):
            if worker.pipe in ready:
                self._hear(worker)
            if worker.process.sentinel in ready:
                self.workers[place] = self._replaced(worker)
        if not self.complete and all(worker.listens for worker in self.workers):
            self.complete = True
            self.listens(self.version)

    def stop(self) -> None:
        """Tell all to stop, and wait for what is under way."""
        for worker in self.workers:
            worker.process.terminate()
        self.listener.close()  # or else what connects after the workers' last accept would wait for nobody
        last = time.monotonic() + self.settings.drain_seconds + self.settings.stop_seconds + LAST_SECONDS
        for worker in self.workers:
            worker.process.join(max(0, last - time.monotonic()))
            if worker.process.is_alive():
                log.error("worker %s did not stop in time and is killed", worker.process.pid)
                worker.process.kill()
                worker.process.join()

    def _started(self, delay: float = 0) -> _Worker:
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context("spawn").Process(
            target=self.work, args=(self.settings, self.listener, theirs, delay), name="worker"
        )
        process.start()
        theirs.close()
        return _Worker(process, ours)

    def _hear(self, worker: _Worker) -> None:
        try:
            said = worker.pipe.recv()
        except (EOFError, OSError):  # it ended
            return
        if isinstance(said, str):
            worker.listens, self.version = True, said
        elif self.complete:
            log.error("worker %s could not begin: %s", worker.process.pid, said)
        else:
            raise said

    def _replaced(self, worker: _Worker) -> _Worker:
        worker.process.join()
        worker.pipe.close()
        mark_process_dead(worker.process.pid, os.environ[FIGURES])  # type: ignore[no-untyped-call]
        code = worker.process.exitcode
        if not (worker.listens or self.complete):
            raise RecsysError(f"a worker ended with exit code {code} before it listened")
        log.error("worker %s ended with exit code %s; another takes its place", worker.process.pid, code)
        return self._started(0 if worker.listens else AGAIN_SECONDS)


@contextmanager
def _told_to_stop() -> Iterator[socket.socket]:
    """A socket that can be read once SIGTERM or SIGINT came."""
    hears, says = socket.socketpair()
    says.setblocking(False)
    signals = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, _noted) for number in signals]
    fd = signal.set_wakeup_fd(says.fileno())
    try:
        with hears, says:
            yield hears
    finally:
        signal.set_wakeup_fd(fd)
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


def _noted(number: int, frame: FrameType | None) -> None:
    """Without a handler of Python's nothing is written to the wakeup socket."""


def serve_as_worker(settings: Settings, listener: socket.socket, pipe: Connection, delay: float) -> None:
    """What a worker does, in a process of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal it reaches all; the supervisor passes it on
    threading.Thread(target=_stop_with_supervisor, args=(pipe,), daemon=True).start()
    time.sleep(delay)
    try:
        from service.app import serve  # loads torch

        serve(settings, listener, pipe.send)
    except (OSError, RecsysError) as error:
        pipe.send(error)
        sys.exit(1)


def _stop_with_supervisor(pipe: Connection) -> None:
    try:
        pipe.recv()  # nothing is ever sent
    except (EOFError, OSError):
        shutil.rmtree(os.environ[FIGURES], ignore_errors=True)  # the supervisor was killed, and did not come to it
        os.kill(os.getpid(), signal.SIGTERM)
