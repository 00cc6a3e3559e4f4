"""The commands of `recsys-ae latent`."""

from pathlib import Path
from typing import Annotated

import typer

latent_app = typer.Typer(no_args_is_help=True, help="What a model's codes are good for beside recommending.")

Version = Annotated[str | None, typer.Option(help="A version; current without.", show_default=False)]
LogPath = Annotated[Path, typer.Option("--log", help="A log: user_id, item_id, and timestamp, weight where known.")]
OutPath = Annotated[Path, typer.Option("--out", help="Parquet file to write.", show_default=False)]
