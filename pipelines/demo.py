"""The whole walk on one embedded data set: ingest, train, compare, publish, serve, ask over HTTP."""

import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
import numpy as np
from rich.console import Console

from pipelines.config import make_config
from pipelines.evaluate import judge_all, write_report
from pipelines.evaluation.document import document
from pipelines.evaluation.judged import Bench, judge_fitted
from pipelines.ingest import split_dataset
from pipelines.tables import cleaning_table, evaluation_table, progress_bars, recommendation_table
from pipelines.train import choose_current, fit, publish
from recsys_ae.dataset import Dataset
from recsys_ae.errors import RecsysError
from recsys_ae.ids import Id

MODELS = ("popularity", "ease", "als", "mult_vae")
WELL_KNOWN: dict[str, tuple[Id, ...]] = {"movielens-small": (260, 1210, 2571)}  # two Star Wars films and The Matrix
START_SECONDS = 60.0


def demo(folder: Path, dataset: str, out: Console, err: Console) -> None:
    """Run every step and print what each yields."""
    registry = folder / "registry"
    config = make_config(
        {
            "log": {"dataset": dataset, "min_weight": 4.0, "min_user_interactions": 5},
            "models": [{"name": name} for name in MODELS],
            "run": {"folder": folder / "runs"},
            "registry": {"path": registry},
        }
    )
    out.rule(f"1. {dataset}: interaction log -> matrix -> split")
    split, counts = split_dataset(config)
    out.print(cleaning_table(counts))
    out.print(f"{len(split.refit.users):,} users x {len(split.refit.items):,} items\n")

    out.rule("2. Training, and evaluation on users that no model has seen")
    with progress_bars(err) as report:
        fitted = [fit(config, section, split, report) for section in config.models]
        bench = Bench(split)
        judged, evaluations = judge_all(
            {f.section.key: partial(judge_fitted, config, f, report) for f in fitted}, [bench], None
        )
        evaluation = document(config, [bench], counts, judged, evaluations)
        out.print(evaluation_table(evaluation, config.publish.metric))
        path = write_report(evaluation, folder)
        out.print(f"written to {path}\n")

        out.rule("3. Publishing: mult_vae, trained again on all users")
        chosen = next(f for f in fitted if f.section.key == "mult_vae")
        published = choose_current(config, [publish(config, chosen, split, report)], promote=True)
    out.print(f"current version: {published[0].version}\n")

    out.rule("4. Serving")
    user = split.refit.users.ids[0]
    history = WELL_KNOWN.get(dataset) or most_popular(split.refit, 3)
    with service(registry) as address, httpx.Client(base_url=address, timeout=30) as client:
        out.print(f"the API answers at {address}\n")
        known = asked(client.get(f"/v1/users/{user}/recommendations", params={"k": 10}))
        out.print(recommendation_table(f"GET /v1/users/{user}/recommendations", known["items"]))
        body = {"history": [{"item_id": item} for item in history], "k": 10}
        posted = asked(client.post("/v1/recommendations", json=body))
        titles = ", ".join(title_of(split.refit, item) for item in history)
        out.print(recommendation_table(f"POST /v1/recommendations: {titles}", posted["items"]))
    out.print("the API is stopped\n")

    out.rule("Next")
    out.print(
        f"  recsys-ae recommend --registry {registry} --history {','.join(map(str, history))}\n"
        f"  recsys-ae serve --registry {registry}        then open http://127.0.0.1:8000/docs\n"
        f"  recsys-ae registry list --registry {registry}\n"
        "  your own log: write a TOML file as README.md shows, then recsys-ae train and evaluate",
        highlight=False,
    )


def most_popular(data: Dataset, n: int) -> tuple[Id, ...]:
    """The n items with the most users."""
    return tuple(data.items.at(np.argsort(-np.array(data.metadata.popularity), kind="stable")[:n]))


def title_of(data: Dataset, item: Id) -> str:
    """The title, or the id where there is none."""
    return data.metadata.title(data.items.position(item)) or str(item)


def asked(response: httpx.Response) -> Any:
    """The answer's JSON. Raises RecsysError for anything but 200."""
    if response.status_code != 200:
        raise RecsysError(f"{response.request.method} {response.request.url}: {response.status_code} {response.text[:300]}")
    return response.json()


@contextlib.contextmanager
def service(registry: Path) -> Iterator[str]:
    """The API on a free port while the block runs; yields its address.

    The child is never left behind: it is stopped on the way out, whatever the reason, and it watches its standard input,
    which closes with this process even where that was killed.
    """
    command = [sys.executable, "-m", "service", "--registry", str(registry), "--port", "0", "--exit-with-stdin"]
    with terminated_as_interrupt():
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
        try:
            yield address_of(child)
        finally:
            child.terminate()
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            for stream in (child.stdin, child.stderr):
                if stream:
                    stream.close()


def address_of(child: "subprocess.Popen[str]") -> str:
    """What the service says once it listens. Raises RecsysError with its own words where it does not."""
    assert child.stderr is not None
    said: list[str] = []
    timer = threading.Timer(START_SECONDS, child.kill)
    timer.start()
    try:
        for line in child.stderr:
            said.append(line.strip())
            if " at http://" in line:
                # Nobody reads on: a full pipe would block the service.
                threading.Thread(target=child.stderr.read, daemon=True).start()
                return line.rsplit(" at ", 1)[1].strip()
    finally:
        timer.cancel()
    raise RecsysError(f"the service did not start: {' / '.join(said[-5:]) or 'it said nothing'}")


@contextlib.contextmanager
def terminated_as_interrupt() -> Iterator[None]:
    """SIGTERM unwinds the block as Ctrl-C does, so that its child is stopped."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
