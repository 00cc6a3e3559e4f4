"""The commands of `recsys-ae latent`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from pipelines.terminal import AsJson, RegistryPath, plain, print_json
from pipelines.terminal import out as terminal

latent_app = typer.Typer(no_args_is_help=True, help="What a model's codes are good for beside recommending.")

Version = Annotated[str | None, typer.Option(help="A version; current without.", show_default=False)]
LogPath = Annotated[Path, typer.Option("--log", help="A log: user_id, item_id, and timestamp, weight where known.")]
OutPath = Annotated[Path, typer.Option("--out", help="Parquet file to write.", show_default=False)]


@latent_app.command("map")
def draw_map(
    registry: RegistryPath,
    out: OutPath,
    version: Version = None,
    log: Annotated[
        Path | None, typer.Option("--log", help="Users of this log; those stored with the version without.", show_default=False)
    ] = None,
    kind: Annotated[Literal["users", "items", "both"], typer.Option(help="What is drawn.")] = "items",
    method: Annotated[
        Literal["tsne", "pca"], typer.Option(help="t-SNE keeps neighbours; PCA keeps distances, and is fast.")
    ] = "tsne",
    picture: Annotated[Path | None, typer.Option(help="SVG file, coloured by category.", show_default=False)] = None,
    codes: Annotated[Path | None, typer.Option(help="Parquet file for all codes: kind, id, code.", show_default=False)] = None,
    neighbours: Annotated[
        Path | None,
        typer.Option(help="Parquet file for the nearest by code: kind, id, rank, neighbour, cosine.", show_default=False),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Neighbours of each.")] = 10,
    most: Annotated[
        int, typer.Option(min=1, help="Users, and items, on the map: the most popular items, users by chance.")
    ] = 5_000,
    seed: Annotated[int, typer.Option(help="Of t-SNE, and of the users that are drawn.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Codes of users and items as a map in two dimensions -> Parquet: kind, id, x, y."""
    from pipelines.latent.map import Asked, draw

    asked = Asked(out, kind, method, most, seed, picture, codes, neighbours, k)
    done = draw(registry, version, log, asked)
    if as_json:
        print_json(done)
        return
    for name in ("users", "items"):
        if name in done:
            plain(terminal, f"{name}: " + ", ".join(map_words(done[name])))
    for path in (out, picture, codes, neighbours):
        if path is not None:
            plain(terminal, f"written to {path}")


def map_words(facts: dict[str, Any]) -> Iterator[str]:
    """What a map of users or items came to."""
    yield f"{facts['drawn']:,} of {facts['codes']:,} codes of {facts['width']} numbers by {facts['method']}"
    for name, value in facts.items():
        if name.startswith("trustworthiness"):
            yield f"{name} {value:.3f}"
    for name, value in facts.get("categories", {}).items():
        yield f"{name} of categories {value:.3f}"


@latent_app.command()
def denoise(
    registry: RegistryPath,
    log: LogPath,
    out: OutPath,
    version: Version = None,
    cleaned: Annotated[
        Path | None, typer.Option(help="Parquet file for the log without what is least supported.", show_default=False)
    ] = None,
    remove: Annotated[float | None, typer.Option(help="Share of the interactions to remove.", show_default=False)] = None,
    threshold: Annotated[float | None, typer.Option(help="Remove those of less support.", show_default=False)] = None,
    folds: Annotated[int, typer.Option(min=2, help="Parts of a history, each scored from the others.")] = 10,
    seed: Annotated[int, typer.Option(help="Of the parts.")] = 0,
    as_json: AsJson = False,
) -> None:
    """How far the rest of its history supports each interaction of a log -> Parquet: user_id, item_id, support."""
    from pipelines.latent.denoise import Asked
    from pipelines.latent.denoise import denoise as run

    done = run(registry, version, log, Asked(out, cleaned, remove, threshold, folds, seed))
    if as_json:
        print_json(done)
        return
    counts = f"{done['interactions']:,} interactions of {done['users']:,} users by {done['version']}"
    plain(terminal, f"{counts}, {done['unknown_items']:,} with unknown items not judged")
    plain(terminal, f"written to {out}")
    if cleaned is not None:
        plain(terminal, f"{done['rows_kept']:,} rows written to {cleaned}, {done['rows_removed']:,} removed")


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
