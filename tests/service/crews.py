"""Workers that load no model, so that what becomes of them is quick to see: `python -m tests.service.crews KIND FOLDER`.

They are `serve_as_worker` with another `serve`. Each leaves a file in the folder that bears its number. Stops with stdin too.
"""

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType

from recsys_ae.errors import ConfigError, RecsysError
from service import workers
from service.__main__ import _stop_at_end_of_input
from service.listening import announce, listening
from service.settings import Settings

Listens = Callable[[str], None]


def well(settings: Settings, listener: socket.socket, listens: Listens) -> None:
    """Listens, and ends at once when it is told to."""
    listens("v1")
    signal.pause()


def deaf(settings: Settings, listener: socket.socket, listens: Listens) -> None:
    """Does not stop when it is told to."""
    signal.signal(signal.SIGTERM, lambda *_: None)
    listens("v1")
    while True:
        signal.pause()


def damaged(settings: Settings, listener: socket.socket, listens: Listens) -> None:
    """Cannot begin."""
    raise ConfigError("it is damaged")


def mute(settings: Settings, listener: socket.socket, listens: Listens) -> None:
    """Ends before it listens, and does not say why."""
    os._exit(7)


def breakable(settings: Settings, listener: socket.socket, listens: Listens) -> None:
    """Cannot begin while there is a file `broken`."""
    (damaged if (settings.registry / "broken").exists() else well)(settings, listener, listens)


def worker(kind: str, settings: Settings, listener: socket.socket, pipe: Connection, delay: float) -> None:
    """What a worker of the kind does."""
    (settings.registry / str(os.getpid())).touch()
    app = ModuleType("service.app")
    app.serve = globals()[kind]  # type: ignore[attr-defined]
    sys.modules["service.app"] = app
    workers.serve_as_worker(settings, listener, pipe, delay)


def main(kind: str, folder: str) -> None:
    """Watch over two workers of the kind."""
    workers.AGAIN_SECONDS = workers.LAST_SECONDS = 0.2
    threading.Thread(target=_stop_at_end_of_input, daemon=True).start()
    settings = Settings(registry=Path(folder), workers=2, drain_seconds=0, stop_seconds=0.1)
    with listening(settings, "127.0.0.1", 0) as listener:
        workers.supervise(settings, listener, partial(announce, settings, listener), partial(worker, kind))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except RecsysError as error:
        sys.exit(f"error: {error}")
