"""The commands of `recsys-ae datasets`."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.terminal import AsJson, err, out, print_json

datasets_app = typer.Typer(help="The data sets known by name: list, show one, fetch a public one, generate one.")


@datasets_app.callback(invoke_without_command=True)
def datasets(context: typer.Context, as_json: AsJson = False) -> None:
    """The data sets known by name: list them, show one, fetch a public one, generate one."""
    if context.invoked_subcommand is not None:
        return
    from recsys_ae.datasets import descriptions

    if as_json:
        print_json(descriptions())
        return
    for name, text in descriptions().items():
        out.print(f"[bold]{name}[/bold]  {text}", highlight=False)


@datasets_app.command("show")
def datasets_show(name: Annotated[str, typer.Argument(show_default=False)], as_json: AsJson = False) -> None:
    """Address, size, digests, counts, terms and citation of one data set."""
    from pipelines.fetch import about, describe

    if as_json:
        print_json(about(name))
    else:
        describe(name, out)


@datasets_app.command("fetch")
def datasets_fetch(
    name: Annotated[str, typer.Argument(show_default=False)],
    folder: Annotated[Path | None, typer.Option(help="Data folder; RECSYS_AE_DATA or the cache folder without.")] = None,
    source: Annotated[
        Path | None, typer.Option("--from", help="What you already have: the zip, its extracted folder, or the data file.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Accept the terms without being asked.")] = False,
    as_json: AsJson = False,
) -> None:
    """Fetch and prepare a public data set, once its terms are accepted, for runs that say `dataset = "NAME"`."""
    from pipelines.fetch import fetch

    told = fetch(name, folder, source, yes, err)
    if as_json:
        print_json(told)
        return
    counts = f"{told['users']:,} users, {told['items']:,} items, {told['interactions']:,} interactions"
    out.print(f"{name}: {counts} in {told['folder']}", markup=False, highlight=False, soft_wrap=True)
    for each in told["source"]:
        out.print(f"checked {each['name']}: {each['how']}", markup=False, highlight=False, soft_wrap=True)


@datasets_app.command("generate")
def datasets_generate(
    preset: Annotated[str, typer.Argument(help="synthetic, ml-1m-like, ml-20m-like or gowalla-like.", show_default=False)],
    log: Annotated[
        Path, typer.Option("--out", help="The log: .csv, .tsv, .jsonl or .parquet, also .gz, .zst.", show_default=False)
    ],
    items: Annotated[Path | None, typer.Option("--items", help="Titles and categories, a file of the same kinds.")] = None,
    truth: Annotated[Path | None, typer.Option("--truth", help="What was planted, a Parquet file.")] = None,
    n_users: Annotated[int | None, typer.Option("--users", help="Genuine users.")] = None,
    n_items: Annotated[int | None, typer.Option("--items-count", help="Items.")] = None,
    n_interactions: Annotated[int | None, typer.Option("--interactions", help="Interactions of all genuine users.")] = None,
    seed: Annotated[int | None, typer.Option(help="Another seed, another world.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE: any parameter of docs/generator.md.")] = None,
    as_json: AsJson = False,
) -> None:
    """Generate a log of latent tastes, its items, and the planted truth."""
    from pipelines.generate import configured, write_world

    sizes = {"n_users": n_users, "n_items": n_items, "n_interactions": n_interactions, "seed": seed}
    done = write_world(configured(preset, sizes, settings or ()), log, items, truth)
    if as_json:
        print_json(done)
        return
    out.print(
        f"{done['interactions']:,} interactions of {done['users']:,} users with {done['items']:,} items, seed {done['seed']}"
    )
    if done["noise"] or done["attackers"]:
        out.print(f"planted: {done['noise']:,} interactions of noise, {done['attackers']:,} attackers")
    for path in done["written"]:
        out.print(f"written to {path}")
