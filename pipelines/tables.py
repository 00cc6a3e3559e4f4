"""What a person sees: tables and progress bars, on stderr or stdout as the command says."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from pipelines.telling.record import NightRecord, duration, moment
from pipelines.train import Report
from recsys_ae.traffic import Traffic
from recsys_ae.training.run import Progress as Epoch

if TYPE_CHECKING:
    from pipelines.checks import Finding

SHOWN = 5
"""Trials of a model in its table."""


@contextmanager
def progress_bars(console: Console) -> Iterator[Report]:
    """A bar for each fit; nothing but the last state of it where the console is no terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[state]}"),
        TimeElapsedColumn(),
    )
    tasks: dict[tuple[str, bool], TaskID] = {}
    bars = Progress(*columns, console=console)

    def report(model: str, epoch: Epoch) -> None:
        refit = epoch.validation is None
        if (model, refit) not in tasks:
            bars.start()  # not before there is something to show: it would leave a blank line above an error
            tasks[model, refit] = bars.add_task(f"{model}{' on all rows' if refit else ''}", total=epoch.epochs, state="")
        state = f"loss {epoch.loss:.2f}" + ("" if refit else f"  validation {epoch.validation:.4f}")
        bars.update(tasks[model, refit], completed=epoch.epoch, total=epoch.epochs, state=state)

    try:
        yield report
    finally:
        if tasks:
            bars.stop()


@dataclass(frozen=True)
class Standing:
    """Where the search of a model stands: trials done of all, best value so far, what is being done, and a line to keep."""

    key: str
    done: int
    trials: int
    best: float | None
    now: str = ""
    line: str = ""


@contextmanager
def search_bars(console: Console) -> Iterator[Callable[[Standing], None]]:
    """A bar for each model's search, and above them a line for every trial."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[now]}"),
    )
    tasks: dict[str, TaskID] = {}
    bars = Progress(*columns, TimeElapsedColumn(), console=console)

    def report(at: Standing) -> None:
        if at.key not in tasks:
            bars.start()
            tasks[at.key] = bars.add_task(at.key, now="")
        best = "" if at.best is None else f"best {at.best:.4f}  "
        bars.update(tasks[at.key], completed=at.done, total=at.trials, now=best + at.now)
        if at.line:
            bars.console.print(at.line, markup=False, highlight=False, soft_wrap=True)

    try:
        yield report
    finally:
        if tasks:
            bars.stop()


def search_table(key: str, entry: dict[str, Any], metric: str) -> Table:
    """The best trials of a model and the one with its defaults; what mattered, below."""
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in sorted(entry["trials"].items()))
    weights = ", ".join(f"{name} {weight:.2f}" for name, weight in entry["importance"].items())
    caption = f"importance: {weights}" if weights else None
    table = Table(title=f"{key}: {outcomes}", caption=caption, title_justify="left", caption_justify="left")
    table.add_column("trial", justify="right")
    table.add_column(metric, justify="right")
    table.add_column("settings", overflow="fold")
    for place, trial in enumerate(entry["complete"]):
        if place < SHOWN or trial["defaults"]:
            words = in_words(trial["settings"]) + (" (defaults)" if trial["defaults"] else "")
            table.add_row(str(trial["trial"]), f"{trial['value']:.4f}", words.strip())
    return table


def in_words(values: Mapping[str, Any]) -> str:
    """Settings as `key=value`, numbers to four digits."""
    return ", ".join(f"{key}={format(each, '.4g') if isinstance(each, float) else each}" for key, each in values.items())


def cleaning_table(counts: dict[str, Any]) -> Table:
    """Rows read, dropped by cause, and kept."""
    table = Table(title="Interactions", title_justify="left")
    table.add_column("what")
    table.add_column("rows", justify="right")
    table.add_row("read", f"{counts['read']:,}")
    for cause, count in counts["dropped"].items():
        table.add_row(f"  dropped: {_words(cause)}", f"{count:,}")
    table.add_row("kept", f"{counts['kept']:,}", style="bold")
    return table


def reading_line(facts: Mapping[str, Any]) -> str:
    """What was read of a database for the events that are known of it now."""
    if "whole" not in facts:
        return f"read {facts['rows']:,} events of the database"
    why = f", all of them: {facts['whole']}" if facts["whole"] else ""
    return f"read {facts['read']:,} events of the database, {facts['rows']:,} are known{why}"


def checks_table(findings: Sequence["Finding"]) -> Table:
    """What the checks of the data found."""
    table = Table(title="Checks", title_justify="left")
    table.add_column("check", no_wrap=True)
    table.add_column("outcome")
    for name in ("found", "expected"):
        table.add_column(name, overflow="fold")
    for each in findings:
        outcome, style = ("passed", "") if each.passed else (each.action, "red" if each.action == "stop" else "yellow")
        table.add_row(each.check, outcome, each.message, each.expected, style=style)
    return table


def evaluation_table(document: dict[str, Any], metric: str) -> Table:
    """One line a model, best first; the leading metric with its standard error, and its spread over several windows.

    All metrics are in evaluation.json.
    """
    models = document["models"]
    ks = sorted({int(name.partition("@")[2]) for name in next(iter(models.values()))["metrics"]})
    shown = dict.fromkeys((metric, f"capped_recall@{20 if 20 in ks else ks[0]}", f"coverage@{ks[0]}"))
    split = document["split"]
    windows = f" in {len(split['windows'])} windows" if "windows" in split else ""
    table = Table(title=f"{split['test_users']:,} test users{windows}, {split['kind']}", title_justify="left")
    table.add_column("model", no_wrap=True)
    for name in (*shown, *(["windows"] if windows else []), "epoch", "fit s", "users/s"):
        table.add_column(name, justify="right")
    for key, entry in sorted(models.items(), key=lambda kv: -kv[1]["metrics"][metric]["mean"]):
        scores = [entry["metrics"][name] for name in shown]
        cells = [f"{score['mean']:.4f}" for score in scores]
        if scores[0]["se"] is not None:
            cells[0] += f" ±{scores[0]['se']:.4f}"
        if windows:
            means = [window["metrics"][metric]["mean"] for window in entry["windows"]]
            cells.append(f"{min(means):.4f} to {max(means):.4f}")
        cost = entry["cost"]
        epoch = str(entry.get("fit", {}).get("best_epoch") or "")
        fitted = f"{cost['fit_seconds']:.1f}" if "fit_seconds" in cost else ""
        table.add_row(key, *cells, epoch, fitted, f"{cost['score_users_per_second']:,.0f}")
    return table


MOST_POSITIONS = 20
"""Places of a list in its table; all are in the JSON."""


def clicks_tables(document: dict[str, Any]) -> Iterator[Table]:
    """Click-through of all, by version, arm and source; between arms; by position."""
    every = document["all"]
    title = f"{every['lists']['shown']:,} lists shown to {every['users']:,} users, clicks within {document['within_hours']:g} h"
    table = Table(title=title, title_justify="left")
    table.add_column("", no_wrap=True)
    for name in ("lists", "with a click", "items", "clicked"):
        table.add_column(name, justify="right")
    table.add_row("all", *_shares(every), style="bold")
    for group, word in (("versions", "version"), ("arms", "arm"), ("sources", "source")):
        for name, entry in document[group].items():
            table.add_row(Text(f"{word} {name}"), *_shares(entry))
    yield table
    if document["differences"]:
        table = Table(title="Difference of arms, percentage points", title_justify="left")
        for name in ("", "lists with a click", "items clicked"):
            table.add_column(name, justify="right" if name else "left")
        for entry in document["differences"]:
            cells = (_percent(entry[measure], "+.2f", "") for measure in ("lists", "items"))
            table.add_row(Text(f"{entry['arm']} less {entry['less']}"), *cells)
        yield table
    positions = list(document["positions"].items())
    more = f"and {len(positions) - MOST_POSITIONS} more with --json" if len(positions) > MOST_POSITIONS else None
    table = Table(title="By position", caption=more, title_justify="left", caption_justify="left")
    for name in ("position", "shown", "clicked"):
        table.add_column(name, justify="right")
    for name, entry in positions[:MOST_POSITIONS]:
        table.add_row(name, f"{entry['shown']:,}", _percent(entry))
    yield table


def _shares(entry: dict[str, Any]) -> list[str]:
    both = (entry["lists"], entry["items"])
    return [cell for each in both for cell in (f"{each['shown']:,}", _percent(each))]


def _percent(share: dict[str, Any], form: str = ".2f", unit: str = " %") -> str:
    """With its interval, where it has one."""
    said = f"{100 * share['mean']:{form}}{unit}"
    return said if share["ci95"] is None else said + " ({} to {})".format(*(f"{100 * end:{form}}" for end in share["ci95"]))


def night_summary(record: NightRecord) -> str:
    """What a night came to, in plain lines, as cron mails them; what the run did not come to is left out."""
    when = moment(record.started) + ("" if record.ended is None else f" to {moment(record.ended)}")
    lines = [f"{record.project}: {record.headline}", *_line("run", f"{when}, process {record.process} on {record.host}")]
    if (verdict := record.verdict) is not None:
        lines += _line(
            "gate", f"{verdict.candidate} reaches {verdict.metric} {verdict.mean:.4f} on {verdict.users:,} held-out users"
        )
        if verdict.current is not None:
            ratio = "" if verdict.ratio is None else f", ratio {verdict.ratio:.4f}"
            span = verdict.difference_ci95
            interval = "" if span is None else f" (difference {span[0]:+.4f} to {span[1]:+.4f}, 95 %)"
            lines += _line("", f"the model before {verdict.current:.4f}{ratio}{interval}")
        lines += _line("", f"popularity {verdict.popularity:.4f}")
    if (data := record.done("split")) is not None:
        lines += _line("data", f"{data['users']:,} users, {data['items']:,} items")
        rows = record.cleaning
        lines += _line("rows", f"{rows['read']:,} read, {rows['kept']:,} kept")
        for cause, count in rows["dropped"].items():
            lines += _line("", f"{count:,} dropped: {_words(cause)}") if count else []
    width = max((len(stage.name) for stage in record.stages), default=0)
    for place, stage in enumerate(record.stages):
        took = stage.state if stage.seconds is None else "done before, not again" if stage.reused else duration(stage.seconds)
        lines += _line("" if place else "stages", f"{stage.name:{width}}  {took}")
    for place, text in enumerate(record.warnings):
        lines += _line("" if place else "warnings", text)
    if record.report is not None:
        lines += _line("report", str(record.report))
    if (scored := record.done("score")) is not None:
        lines += _line("scores", f"{scored['rows']:,} rows for {scored['users']:,} users in {record.scores}")
    if record.outcome != "published" and (success := record.last_success) is not None:
        lines += _line("published", f"{success['version']} was the last, {moment(success['ended'])}")
    return "\n".join(lines)


def _line(label: str, text: str) -> list[str]:
    return [f"  {label:9} {text}"]


def _words(cause: str) -> str:
    return cause.replace("_", " ")


def versions_table(rows: list[dict[str, Any]]) -> Table:
    """A line a version; pins and shares only where there are any."""
    shown: dict[str, Callable[[dict[str, Any]], str]] = {
        "version": lambda row: row["version"],
        "model": lambda row: row["model"],
        "created": lambda row: row["created"],
        "current": lambda row: "yes" if row["current"] else "",
    }
    if any(row["pinned"] for row in rows):
        shown["pinned"] = lambda row: (row["note"] or "yes") if row["pinned"] else ""
    if any(row["traffic"] for row in rows):
        shown["traffic"] = lambda row: f"{row['traffic']:.4g}" if row["traffic"] else ""
    table = Table()
    for name in shown:
        table.add_column(name, no_wrap=name == "version")
    for row in rows:
        table.add_row(*(Text(cell(row)) for cell in shown.values()))
    return table


def traffic_table(traffic: Traffic) -> Table:
    """Who gets how much."""
    table = Table(title="An A/B test is in progress", caption=Text(f"salt {traffic.salt}"), title_justify="left")
    table.add_column("version", no_wrap=True)
    table.add_column("share", justify="right")
    for version, share in traffic.shares.items():
        table.add_row(version, f"{share:.4g}")
    return table


def recommendation_table(title: str, items: list[dict[str, Any]]) -> Table:
    """A list with titles."""
    table = Table(title=title, title_justify="left")
    table.add_column("rank", justify="right")
    table.add_column("item", justify="right")
    table.add_column("title", overflow="fold")
    table.add_column("score", justify="right")
    for item in items:
        table.add_row(str(item["rank"]), str(item["item_id"]), item["title"] or "", f"{item['score']:.3f}")
    return table


def doctor_tables(found: dict[str, Any]) -> Iterator[Table]:
    """What there is; what is not installed; and, where it was measured, how fast and at what cost."""
    facts = Table(show_header=False)
    gpus = ", ".join(f"{gpu['name']} ({gpu['memory_gib']} GiB)" for gpu in found["gpus"]) or "none"
    for name, value in (
        ("recsys-ae, python, torch, numpy", ", ".join(found[name] for name in ("recsys_ae", "python", "torch", "numpy"))),
        ("system", found["system"]),
        ("processor, cores, threads", f"{found['processor']}, {found['cores']}, {found['threads']}"),
        ("memory, free disk", f"{found['memory_gib']} GiB, {found['disk_free_gib']} GiB"),
        ("GPUs", gpus),
        ("trains on, in", f"{found['device']}, {found['precision']}"),
    ):
        facts.add_row(name, Text(str(value)))
    yield facts
    extras = Table("extra", "packages", "to install it")
    for extra, packages in found["extras"].items():
        missing = [name for name, installed in packages.items() if installed is None]
        told = ", ".join(f"{name} {installed or '(missing)'}" for name, installed in packages.items())
        extras.add_row(extra, Text(told), Text(f"pip install 'recsys-ae[{extra}]'" if missing else ""))
    yield extras
    if "measured" not in found:
        return
    rates = Table("measured", "rate")
    for dtype, products in found["measured"]["gigaflops"].items():
        rates.add_row(f"matrix products, {dtype}", f"{min(products.values()):,.0f} to {max(products.values()):,.0f} gigaflops")
    rates.add_row("copies in memory", f"{found['measured']['copy_gigabytes_per_second']:,.1f} GB a second")
    rates.add_row("files written to the disk", f"{found['measured']['disk_megabytes_per_second']:,.0f} MB a second")
    yield rates
    steps = Table("items", "softmax", "a step at least", "model in memory", "travels, by users", "by items")
    steps.title = "mult_dae, latent = 512, 500 users of 50 items"
    for step in found["measured"]["steps"]:
        bytes_ = (step["model_bytes"], *step["travels_bytes"].values())
        sizes = (f"{value / 2**20:,.1f} MiB" for value in bytes_)
        steps.add_row(f"{step['items']:,}", step["softmax"], f"{step['seconds']:.3f} s", *sizes)
    yield steps
