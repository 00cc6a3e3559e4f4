"""The command line. Exit codes: 0 done, 1 the job failed, 2 the input or configuration is wrong, 3 the gate refused."""

import os
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn
from rich.table import Table

from pipelines.commands.content import content_app
from pipelines.commands.datasets import datasets_app
from pipelines.commands.keys import keys_app
from pipelines.commands.latent import latent_app
from pipelines.commands.registry import registry_app
from pipelines.terminal import AsJson, ConfigPath, RegistryPath, err, out, plain, print_json, warn
from recsys_ae.errors import ConfigError, RecsysError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
app.add_typer(registry_app, name="registry")
app.add_typer(keys_app, name="keys")
app.add_typer(datasets_app, name="datasets")
app.add_typer(latent_app, name="latent")
app.add_typer(content_app, name="content")


@app.command()
def ingest(
    config: ConfigPath,
    full: Annotated[bool, typer.Option("--full", help="Read all of a database, not only what is new.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Compare with the nights before, as the nightly job does.")] = False,
    as_json: AsJson = False,
) -> None:
    """Source -> clean log (Parquet in the run folder), with a table of what was read, kept and dropped, by cause."""
    from pipelines.config import load_config
    from pipelines.ingest import clean_source
    from pipelines.tables import checks_table, cleaning_table, reading_line

    settings = load_config(config)
    source = clean_source(settings, full)
    counts = {**source.log.counts, "path": str(source.log.source)}
    findings = []
    if check:
        from pipelines import checks
        from pipelines.ingest import dataset
        from pipelines.nightly import home_of

        tonight = checks.tonight_of(settings, dataset(settings, source), source.log.counts, home_of(settings))
        findings = checks.look(settings, tonight)
        counts["checks"] = checks.as_json(findings)
    if as_json:
        print_json(counts | ({"source": source.facts} if source.facts else {}))
    else:
        out.print(cleaning_table(counts))
        if source.facts:
            out.print(reading_line(source.facts), markup=False, highlight=False, soft_wrap=True)
        if check:
            out.print(checks_table(findings))
        out.print(f"written to {counts['path']}")
    if check:
        checks.require(findings)


@app.command()
def train(
    config: ConfigPath,
    promote: Annotated[bool, typer.Option("--promote", help="Make the best on validation current.")] = False,
    as_json: AsJson = False,
) -> None:
    """Fit every model (early stopping on validation users, then on all rows): one registry version each."""
    from pipelines.config import load_config
    from pipelines.journal import now
    from pipelines.tables import cleaning_table, progress_bars
    from pipelines.telling import track_training
    from pipelines.train import train as run

    settings = load_config(config)
    started = now()
    with progress_bars(err) as report:
        published, counts = run(settings, promote, report)
    if (failed := track_training(settings, published, started)) is not None:
        warn(f"not told to {failed}")
    if as_json:
        versions = [{"model": p.key, "version": p.version, "current": p.current, "metrics": p.metrics} for p in published]
        print_json({"registry": str(settings.registry.path), "cleaning": counts, "versions": versions})
        return
    out.print(cleaning_table(counts))
    metric = settings.publish.metric
    table = Table(title="Versions", title_justify="left")
    for name in ("version", f"validation {metric}", "current"):
        table.add_column(name, no_wrap=name == "version")
    for p in published:
        table.add_row(p.version, f"{p.metrics[metric]['mean']:.4f}", "yes" if p.current else "")
    out.print(table)


@app.command()
def evaluate(
    config: ConfigPath,
    folder: Annotated[Path, typer.Option("--out", help="Folder for report.html and evaluation.json.", show_default=False)],
    registry: Annotated[
        Path | None, typer.Option("--registry", help="Judge saved versions of this registry; nothing is trained.")
    ] = None,
    versions: Annotated[
        list[str] | None, typer.Option("--version", help="A version of the registry; current without. May be repeated.")
    ] = None,
    lists: Annotated[
        list[Path] | None,
        typer.Option("--lists", help="Lists of another system, judged too: user_id, item_id, rank. May be repeated."),
    ] = None,
    earlier: Annotated[
        list[Path] | None,
        typer.Option("--earlier", help="An earlier evaluation.json, or its folder, for the trend. May be repeated."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """All models on one split, compared on the test users: a table, DIR/report.html and DIR/evaluation.json."""
    from pipelines.config import load_config
    from pipelines.evaluate import Foreign, evaluate_models, write_report
    from pipelines.tables import cleaning_table, evaluation_table, progress_bars

    if versions and registry is None:
        raise ConfigError("--version is of a registry; expected --registry DIR too")
    settings = load_config(config)
    foreign = Foreign(registry, tuple(versions or ()), tuple(lists or ()), tuple(earlier or ()))
    with progress_bars(err) as report:
        document = evaluate_models(settings, report, folder, foreign)
    path = write_report(document, folder)
    if as_json:
        print_json(document)
        return
    out.print(cleaning_table(document["data"]["cleaning"]))
    out.print(evaluation_table(document, settings.publish.metric))
    for key, entry in document["models"].items():
        for warning in entry["warnings"]:
            warn(f"{key}: {warning}")
    out.print(f"written to {path}")


@app.command()
def report(
    evaluation: Annotated[Path, typer.Argument(help="evaluation.json, or the folder that holds it.", show_default=False)],
    folder: Annotated[Path | None, typer.Option("--out", help="Another folder; beside evaluation.json without.")] = None,
    as_json: AsJson = False,
) -> None:
    """Draw report.html and its pictures again from an evaluation.json."""
    from pipelines.report import render_file

    path = render_file(evaluation, folder)
    if as_json:
        print_json({"report": str(path), "pictures": [str(each) for each in sorted((path.parent / "pictures").glob("*.svg"))]})
        return
    out.print(f"written to {path}", markup=False, highlight=False, soft_wrap=True)


@app.command()
def tune(config: ConfigPath, as_json: AsJson = False) -> None:
    """Search the hyperparameters of every model on the validation users: the best of each, in a configuration to train."""
    from pipelines.config import load_config
    from pipelines.tables import search_bars, search_table
    from pipelines.tune import tune as run

    settings = load_config(config)
    with search_bars(err) as report:
        found = run(settings, config, report)
    if as_json:
        print_json(found)
        return
    for key, entry in found["models"].items():
        out.print(search_table(key, entry, found["metric"]))
    out.print(f"written to {found['written']}", markup=False, highlight=False, soft_wrap=True)


@app.command()
def nightly(
    config: ConfigPath,
    force: Annotated[bool, typer.Option("--force", help="Go on where a check or the gate refuses; recorded.")] = False,
    as_json: AsJson = False,
) -> None:
    """Ingest, check, train, evaluate, gate, publish, score. Safe to run twice; exit code 3 where the gate refuses."""
    from pipelines.config import load_config
    from pipelines.nightly import nightly as run
    from pipelines.tables import night_summary, progress_bars
    from pipelines.telling.record import NightRecord

    settings = load_config(config)
    heard: list[NightRecord] = []
    try:
        with progress_bars(err) as report:
            done = run(settings, force, report, heard.append, warn)
    finally:  # also of a night that is refused or fails: cron mails what stands on stderr
        for record in heard:
            for what in record.untold:
                warn(f"not told to {what}")
            if record.outcome != "published":
                plain(err, night_summary(record))
        if as_json and heard and heard[-1].outcome in ("refused", "failed"):
            print_json(heard[-1].as_json())
    if as_json:
        print_json(done.as_json())
        return
    plain(out, night_summary(heard[-1]) if heard else f"published {done.version}")


@app.command()
def score(
    config: ConfigPath,
    version: Annotated[str | None, typer.Option(help="A version of the registry; current without.")] = None,
    as_json: AsJson = False,
) -> None:
    """The k best items of every stored user -> Parquet, and a database's table: user_id, rank, item_id, score. Resumable."""
    from pipelines.config import load_config
    from pipelines.score import score as run

    settings = load_config(config)
    with Progress("score", MofNCompleteColumn(), "parts", TimeElapsedColumn(), console=err) as bar:
        task = bar.add_task("score", total=None)
        done = run(settings, version, lambda part, parts: bar.update(task, completed=part, total=parts))
    if as_json:
        print_json(done.as_json())
        return
    there = f", {done.resumed} of {done.parts} parts were there already" if done.resumed else ""
    out.print(f"{done.rows:,} rows for {done.users:,} users by {done.version}{there}", highlight=False, soft_wrap=True)
    out.print(f"written to {done.folder}", markup=False, highlight=False, soft_wrap=True)
    if done.table:
        how = "has them already" if done.table.reused else "has them now"
        out.print(f"table {done.table.name} {how}", markup=False, highlight=False, soft_wrap=True)


@app.command()
def recommend(
    registry: RegistryPath,
    user: Annotated[str | None, typer.Option(help="A stored user's id.")] = None,
    history: Annotated[str | None, typer.Option(help="Item ids, separated by commas.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="List length.")] = 10,
    version: Annotated[str | None, typer.Option(help="A version; current without.")] = None,
    as_json: AsJson = False,
) -> None:
    """One list of recommendations, with titles where known."""
    from pipelines.recommend import recommend as run
    from pipelines.tables import recommendation_table
    from recsys_ae.registry import Registry

    if (user is None) == (history is None):
        raise ConfigError("expected either --user or --history")
    posted = [part.strip() for part in history.split(",") if part.strip()] if history is not None else None
    answer = run(Registry(registry), version, k, user=user, history=posted)
    if as_json:
        print_json({"items": answer.items, "unknown_items": answer.unknown_items, "model_version": answer.version})
        return
    if answer.unknown_items:
        err.print(f"not in the catalogue, left out: {', '.join(map(str, answer.unknown_items))}")
    out.print(recommendation_table(f"For {'user ' + user if user else 'the history'}, by {answer.version}", answer.items))


@app.command()
def serve(
    config: Annotated[
        Path | None, typer.Argument(help="A run's TOML file: [service], [registry], [store].", show_default=False)
    ] = None,
    registry: Annotated[Path | None, typer.Option(help="Folder of the registry.", show_default=False)] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    keys: Annotated[Path | None, typer.Option(help="File of API keys; without, loopback only.", show_default=False)] = None,
    without_keys: Annotated[bool, typer.Option("--without-keys", help="Serve beyond loopback without keys.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that share the port.", show_default=False)] = None,
) -> None:
    """The API, in the foreground. Documentation of its routes is at /docs."""
    command = [sys.executable, "-m", "service", "--host", host, "--port", str(port)]
    for name, value in (("config", config), ("registry", registry), ("keys", keys), ("workers", workers)):
        command += [f"--{name}", str(value)] if value is not None else []
    command += ["--without-keys"] if without_keys else []
    # The service knows nothing of the pipelines and they nothing of it. This process becomes it, so that signals reach it.
    os.execv(sys.executable, command)


@app.command()
def clicks(
    config: ConfigPath,
    since: Annotated[str | None, typer.Option(help="Lists shown from this date or time on, UTC.", metavar="DATE")] = None,
    until: Annotated[str | None, typer.Option(help="Lists shown before this date or time, UTC.", metavar="DATE")] = None,
    within: Annotated[float, typer.Option(help="Hours from a list to a click.", metavar="HOURS")] = 24.0,
    event_types: Annotated[
        list[str] | None, typer.Option("--event-type", help="An event that counts as a click; all do without. May be repeated.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Click-through of the lists that the API has shown, by version, arm and position, with 95 % intervals.

    Named for what it counts: events that name the list they came of. The store is that of the configuration or of
    RECSYS_AE__STORE__URL, and no option, since everybody on the machine may read a command line.
    """
    from pipelines.clicks import Asked, moment
    from pipelines.clicks import clicks as run
    from pipelines.config import load_config
    from pipelines.tables import clicks_tables

    asked = Asked(moment("--since", since), moment("--until", until), within, tuple(event_types or ()))
    document = run(load_config(config), asked)
    if as_json:
        print_json(document)
    elif document["all"] is None:
        plain(out, "no lists were shown in that time, or none are logged yet")
    else:
        for table in clicks_tables(document):
            out.print(table)


@app.command()
def models(as_json: AsJson = False) -> None:
    """The models there are, with their settings and defaults."""
    from recsys_ae.models import MODELS

    found = {name: model.Config().model_dump(mode="json") for name, model in MODELS.items()}
    if as_json:
        print_json(found)
        return
    table = Table()
    table.add_column("model")
    table.add_column("settings and defaults")
    for name, config in found.items():
        table.add_row(name, ", ".join(f"{key}={value}" for key, value in config.items()))
    out.print(table)


@app.command()
def doctor(
    measure: Annotated[bool, typer.Option("--measure", help="Also measure, for about a minute.")] = False,
    folder: Annotated[
        Path, typer.Option("--folder", help="Whose disk is looked at.", exists=True, file_okay=False, writable=True)
    ] = Path(),
    as_json: AsJson = False,
) -> None:
    """What this machine can do: versions, memory, GPUs, extras; with --measure its rates and what a training step costs."""
    from pipelines.doctor import examined, measured
    from pipelines.tables import doctor_tables

    found = examined(folder) | ({"measured": measured(folder)} if measure else {})
    if as_json:
        print_json(found)
        return
    for table in doctor_tables(found):
        out.print(table)


@app.command()
def demo(
    folder: Annotated[Path, typer.Option("--folder", help="Where the demo works.")] = Path("demo"),
    dataset: Annotated[str, typer.Option(help="A data set by name.")] = "movielens-small",
) -> None:
    """The whole walk on the embedded data set: ingest, train, compare, publish, serve, ask."""
    from pipelines.demo import demo as run

    run(folder, dataset, out, err)


def main() -> None:
    """Run the command line; an error made on purpose or by the system is one message on stderr and its exit code."""
    try:
        app()
    except RecsysError as error:
        complain(str(error))
        sys.exit(error.exit_code)
    except OSError as error:  # a disk that is full, a folder without rights
        complain(str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        err.print("stopped")
        sys.exit(130)
    except Exception as error:  # a fault of ours: where it happened, and after it what
        err.print(traceback.format_exc(), markup=False, highlight=False, soft_wrap=True)
        complain(f"unexpected {type(error).__name__}: {error}")
        sys.exit(1)


def complain(what: str) -> None:
    """The one message."""
    err.print(f"error: {what}", style="red", markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
