"""What the commands share: how they speak to a terminal or a file, and the options that several have."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

FILE_WIDTH = 120  # where nobody's terminal says how wide a line may be
out = Console(width=None if sys.stdout.isatty() else FILE_WIDTH)
err = Console(stderr=True)

ConfigPath = Annotated[Path, typer.Argument(help="The TOML file of the run.", show_default=False)]
RegistryPath = Annotated[Path, typer.Option("--registry", help="Folder of the registry.", show_default=False)]
KeysPath = Annotated[Path, typer.Option("--file", help="The file of keys.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout and nothing else there.")]


def print_json(document: Any) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def plain(console: Console, text: str, style: str | None = None) -> None:
    """Text as it is: no markup, no colour of its own, lines as long as they are."""
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def warn(text: str) -> None:
    """A line on stderr, yellow where it is a terminal."""
    plain(err, text, "yellow")
