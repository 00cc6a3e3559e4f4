"""Workers of a Ray cluster of this machine killed at random moments while something runs."""

import os
import random
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def workers(what: str = "ray::") -> list[int]:
    """Processes of Ray at work, by what they call themselves; none that is idle, and no agent, with which its node would go."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                name = (folder / "cmdline").read_bytes().split(b"\0")[0].decode(errors="replace")
                if name.startswith("ray::") and what in name and not re.search("IDLE|Agent", name):
                    found.append(int(folder.name))
    return found


@contextmanager
def killing(times: int, what: str, seed: int = 0, least: float = 0.2, most: float = 2.0) -> Iterator[list[int]]:
    """While the block runs, kill so many workers whose name has `what`, one after another, each some moments after the last.

    Gives the list of those killed so far. A block that is over sooner leaves the rest alive.
    """
    killed: list[int] = []
    over = threading.Event()
    draw = random.Random(seed)

    def work() -> None:
        while len(killed) < times and not over.is_set():
            time.sleep(draw.uniform(least, most))
            alive = workers(what)
            if alive and not over.is_set():
                with suppress(ProcessLookupError):
                    os.kill(victim := draw.choice(alive), signal.SIGKILL)
                    killed.append(victim)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()
