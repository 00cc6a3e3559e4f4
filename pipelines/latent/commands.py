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
