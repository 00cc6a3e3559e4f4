"""The commands of `recsys-ae latent`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from pipelines.terminal import AsJson, RegistryPath, plain, print_json
from pipelines.terminal import out as terminal

latent_app = typer.Typer(no_args_is_help=True, help="What a model's codes are good for beside recommending.")

Version = Annotated[str | None, typer.Option(help="A version; current without.", show_default=False)]
LogPath = Annotated[Path, typer.Option("--log", help="A log: user_id, item_id, and timestamp, weight where known.")]
OutPath = Annotated[Path, typer.Option("--out", help="Parquet file to write.", show_default=False)]


@latent_app.command()
def anomalies(
    registry: RegistryPath,
    log: LogPath,
    out: OutPath,
    version: Version = None,
    false_positive_rate: Annotated[
        float | None,
        typer.Option(help="Adds a column `flagged`: true for about this share of ordinary users.", show_default=False),
    ] = None,
    usual: Annotated[
        Path | None,
        typer.Option(help="A log whose users say what is usual; those stored with the version without.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """How unlike the population each user of a log is -> Parquet: user_id, score (higher is stranger)."""
    from pipelines.latent.anomalies import anomalies as run

    done = run(registry, version, log, out, false_positive_rate, usual)
    if as_json:
        print_json(done)
        return
    plain(
        terminal,
        f"{done['users']:,} users by {done['version']}, {done['users_without_known_items']:,} without an item it knows",
    )
    if "flagged" in done:
        plain(terminal, f"{done['flagged']:,} flagged, whose score is above {done['threshold']:.3f}")
    plain(terminal, f"written to {out}")


@latent_app.command()
def generate(
    registry: RegistryPath,
    out: OutPath,
    users: Annotated[int, typer.Option(min=1, help="How many.", show_default=False)],
    version: Version = None,
    seed: Annotated[int, typer.Option(min=0, help="The same draws the same users.")] = 0,
    source: Annotated[
        Literal["prior", "aggregated", "history"], typer.Option("--from", help="Where codes are drawn from.")
    ] = "aggregated",
    history: Annotated[
        str | None, typer.Option(help="Item ids, separated by commas, with --from history.", show_default=False)
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(help="Divides the logits; without it items are drawn as popular as real ones.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Synthetic users with histories as long as real ones -> Parquet: user_id, item_id, a log that can be shared."""
    from pipelines.latent.generate import Asked
    from pipelines.latent.generate import generate as run

    ids = None if history is None else [text.strip() for text in history.split(",") if text.strip()]
    done = run(registry, version, out, Asked(users, seed, source, ids, temperature))
    if as_json:
        print_json(done)
        return
    plain(terminal, f"{done['users']:,} users with {done['interactions']:,} interactions by {done['version']}")
    plain(terminal, f"drawn from {source} at temperature {done['temperature']:.3f}")
    plain(terminal, f"written to {out}")
