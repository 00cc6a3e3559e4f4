"""The commands of `recsys-ae content`."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands.latent import Version
from pipelines.terminal import AsJson, RegistryPath, out, plain, print_json, warn
from recsys_ae.errors import ConfigError
from recsys_ae.latent.features import WORDS

content_app = typer.Typer(no_args_is_help=True, help="Items that nobody has met, placed by what is known of them.")

MOST_TOLD = 5  # files that could not be read


@content_app.command("fit")
def content_fit(
    registry: RegistryPath,
    version: Version = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of images, each named for its item: ITEM_ID.png, .jpg.", show_default=False)
    ] = None,
    items: Annotated[
        Path | None, typer.Option(help="Table of items; CSV, TSV, JSON lines or Parquet.", show_default=False)
    ] = None,
    id_column: Annotated[str, typer.Option("--id", help="Column of the ids.")] = "item_id",
    title: Annotated[str | None, typer.Option(help="Column of titles; `title` without either.", show_default=False)] = None,
    category: Annotated[
        str | None, typer.Option(help="Column of categories, separated by |; `category` without either.", show_default=False)
    ] = None,
    words: Annotated[int, typer.Option(min=1, help="Words of titles, and of categories, at most.")] = WORDS,
    seed: Annotated[int, typer.Option(min=0, help="Of the image autoencoder.")] = 0,
    table: Annotated[
        Path | None, typer.Option("--out", help="Parquet file for the features: item_id, cold, features.", show_default=False)
    ] = None,
    promote: Annotated[bool, typer.Option("--promote", help="Make the extended version current.")] = False,
    as_json: AsJson = False,
) -> None:
    """Add items that nobody has met to a model, from their images, titles, categories: a new version of the registry."""
    from pipelines.config import ItemsSection
    from pipelines.latent.content import columns_of, fit

    if images is None and items is None:
        raise ConfigError("expected --images FOLDER, --items FILE, or both")
    section = None
    if items is not None:
        if title is None and category is None:
            title, category = (name if name in columns_of(items) else None for name in ("title", "category"))
        if title is None and category is None:
            raise ConfigError(f"{items} has no column title or category; expected --title COLUMN or --category COLUMN")
        section = ItemsSection(path=str(items), id=id_column, title=title, category=category)
    done = fit(registry, version, images=images, table=section, words=words, seed=seed, promote=promote, out=table)
    if as_json:
        print_json(done.as_json())
        return
    plain(out, f"{done.version}: {len(done.extended.cold):,} cold items added to {done.of}{', now current' if promote else ''}")
    for name, fit_ in done.extended.fits.items():
        plain(out, f"explained of {name}: {fit_.explained:.1%} of the variance, items left out one by one")
    if done.skipped:
        warn(f"{len(done.skipped):,} files are left out")
        for file, why in list(done.skipped.items())[:MOST_TOLD]:
            warn(f"{file}: {why}")
