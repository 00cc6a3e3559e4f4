"""The commands of `recsys-ae keys`."""

from typing import Annotated

import typer

from pipelines.terminal import AsJson, KeysPath, out, plain, print_json

keys_app = typer.Typer(no_args_is_help=True, help="The API keys of a file, which the service reads again when it changes.")


@keys_app.command("add")
def keys_add(
    name: Annotated[str, typer.Argument(help="Who it is for; logs show it.", show_default=False)],
    file: KeysPath,
    scopes: Annotated[str, typer.Option(help="read, write, admin, separated by commas; admin may all.")] = "read",
    as_json: AsJson = False,
) -> None:
    """Make a key and print it, this once: the file holds only its hash."""
    from recsys_ae.keys import add_key

    wanted = [scope.strip() for scope in scopes.split(",") if scope.strip()]
    key = add_key(file, name, wanted)
    if as_json:
        print_json({"name": name, "scopes": wanted, "key": key})
    else:
        plain(out, key)


@keys_app.command("list")
def keys_list(file: KeysPath, as_json: AsJson = False) -> None:
    """Names, scopes and dates; never a key."""
    from recsys_ae.keys import read_keys

    keys = read_keys(file).keys
    if as_json:
        print_json([{"name": key.name, "scopes": key.scopes, "created": key.created} for key in keys])
        return
    for key in keys:
        plain(out, f"{key.name}  {','.join(key.scopes)}  {key.created}")


@keys_app.command("remove")
def keys_remove(name: Annotated[str, typer.Argument(show_default=False)], file: KeysPath) -> None:
    """End a key; running services refuse it within a second."""
    from recsys_ae.keys import remove_key

    remove_key(file, name)
    plain(out, f"removed {name}")
