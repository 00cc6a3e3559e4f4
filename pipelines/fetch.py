"""The public data sets on the command line: what is known of one, and its fetching once its terms are accepted."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from recsys_ae.datasets import CATALOGUE, DATASETS, check_name, descriptions, store
from recsys_ae.datasets.catalogue import PublicSet
from recsys_ae.datasets.download import Progress as Report
from recsys_ae.errors import ConfigError


def about(name: str) -> dict[str, Any]:
    """What is known of a data set. Raises ConfigError for an unknown one."""
    check_name(name)
    if name in DATASETS:
        return {"name": name, "title": descriptions()[name], "files": []}
    found = CATALOGUE[name]
    return {
        "name": name,
        "title": found.title,
        "home": found.home,
        "files": [
            {"url": file.url, "bytes": file.size, "digests": list(file.digests), "vouched": file.vouched}
            for file in found.files
        ],
        "changing": found.changing,
        "counts": vars(found.counts),
        "licence": {"text": found.licence.text, "url": found.licence.url},
        "citation": found.citation,
    }


def describe(name: str, out: Console) -> None:
    """The same for people."""
    known = about(name)
    out.print(f"[bold]{name}[/bold]  {known['title']}", highlight=False)
    if name in DATASETS:
        out.print("nothing to fetch: it comes with this package, or with its extra demo")
        return
    found = CATALOGUE[name]
    rows = [("home", found.home)]
    for file in found.files:
        size = "size not known" if file.size is None else f"{file.size:,} bytes"
        rows.append(("file", f"{file.url} ({size})"))
        rows += [("digest", digest) for digest in file.digests]
        rows.append(
            ("", file.vouched or "no digest is published: the first file to come is recorded, later ones must equal it")
        )
    rows += [("holds", str(found.counts)), ("cite", found.citation), ("terms", found.licence.url)]
    if found.changing:
        rows.append(("note", found.changing))
    for label, text in rows:
        out.print(f"{label:7} {text}", markup=False, highlight=False, soft_wrap=True)
    _print_licence(found, out)


def fetch(name: str, folder: Path | None, given: Path | None, accepted: bool, err: Console) -> dict[str, Any]:
    """Show the terms, ask, fetch and prepare; a set that is here already is left as it is. Progress goes to `err`.

    Raises ConfigError where there is nothing to fetch or the terms are not accepted.
    """
    check_name(name)
    if name in DATASETS:
        raise ConfigError(f"data set {name} needs no fetching; expected one of {', '.join(CATALOGUE)}")
    found = CATALOGUE[name]
    if not store.prepared(found, folder):
        _accept(found, accepted, err)
    with download_bars(err) as report:
        seal = store.fetch(found, folder, given=given, progress=report)
    return {"name": name, "folder": str(store.data_folder(folder) / name), **seal["counts"], "source": seal["source"]}


def _accept(found: PublicSet, accepted: bool, err: Console) -> None:
    _print_licence(found, err)
    if accepted:
        return
    if not sys.stdin.isatty():
        raise ConfigError(f"the terms of {found.name} must be accepted; without a terminal to ask on, --yes accepts them")
    try:
        answer = err.input(
            f"Do you accept the terms of {found.name}? (y/n) ", markup=False
        )  # asked on stderr, unlike typer.confirm
    except EOFError:
        answer = ""
    if answer.strip().lower() not in ("y", "yes"):
        raise ConfigError(f"the terms of {found.name} were not accepted; nothing was fetched")


def _print_licence(found: PublicSet, console: Console) -> None:
    console.print(f"\nTerms of {found.name} ({found.licence.url}):", markup=False, highlight=False, soft_wrap=True)
    console.print(f"{found.licence.text}\n", markup=False, highlight=False)


@contextmanager
def download_bars(console: Console) -> Iterator[Report]:
    """A bar for each file; nothing but the last state of it where the console is no terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), DownloadColumn(), TransferSpeedColumn())
    tasks: dict[str, TaskID] = {}
    bars = Progress(*columns, TimeRemainingColumn(), console=console)

    def report(name: str, done: int, total: int | None) -> None:
        if name not in tasks:
            bars.start()  # not before there is something to show: it would leave a blank line above an error
            tasks[name] = bars.add_task(name, total=total)
        bars.update(tasks[name], completed=done, total=total)

    try:
        yield report
    finally:
        if tasks:
            bars.stop()
