"""The commands of `recsys-ae registry`."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from pipelines.terminal import AsJson, RegistryPath, out, print_json, warn
from recsys_ae.errors import ConfigError

if TYPE_CHECKING:
    from recsys_ae.registry import Registry

registry_app = typer.Typer(no_args_is_help=True, help="The versions of models on disk.")


@registry_app.command("list")
def registry_list(registry: RegistryPath, as_json: AsJson = False) -> None:
    """All versions, oldest first; an empty registry lists nothing."""
    from pipelines.tables import versions_table
    from pipelines.versions import described
    from recsys_ae.registry import Registry

    opened = Registry(registry)
    rows = described(opened, opened.versions())
    if as_json:
        print_json(rows)
    elif rows:
        out.print(versions_table(rows))


@registry_app.command("show")
def registry_show(
    registry: RegistryPath,
    version: Annotated[str | None, typer.Argument(help="A version; current without.", show_default=False)] = None,
    as_json: AsJson = False,
) -> None:
    """Version, model, time, metrics."""
    from pipelines.versions import described
    from recsys_ae.registry import Registry

    (about,) = described(Registry(registry), [version])
    if as_json:
        print_json(about)
        return
    for name in ("version", "model", "created", "current", "users", "items", "pinned", "note", "traffic"):
        if about[name] not in (None, ""):
            out.print(f"{name:10} {about[name]}", markup=False)
    table = Table(title="On the validation users", title_justify="left")
    for name in ("metric", "mean", "95 % interval"):
        table.add_column(name)
    for name, score in about["metrics"].items():
        interval = "" if score["ci95"] is None else f"{score['ci95'][0]:.4f} to {score['ci95'][1]:.4f}"
        table.add_row(name, f"{score['mean']:.4f}", interval)
    out.print(table)


@registry_app.command("promote")
def registry_promote(registry: RegistryPath, version: Annotated[str, typer.Argument(show_default=False)]) -> None:
    """Make a version current; its digests are checked first. An A/B test goes on."""
    from recsys_ae.registry import Registry

    opened = Registry(registry)
    opened.promote(version)
    out.print(f"current is {version}")
    _tell_test(opened)


@registry_app.command("rollback")
def registry_rollback(registry: RegistryPath) -> None:
    """Go back to the version that was current before. An A/B test goes on."""
    from recsys_ae.registry import Registry

    opened = Registry(registry)
    out.print(f"current is {opened.rollback()}")
    _tell_test(opened)


def _tell_test(registry: "Registry") -> None:
    from pipelines.versions import in_test

    if (told := in_test(registry)) is not None:
        warn(told)


@registry_app.command("pin")
def registry_pin(
    registry: RegistryPath,
    version: Annotated[str, typer.Argument(show_default=False)],
    note: Annotated[str, typer.Option(help="Why.")] = "",
) -> None:
    """Never prune a version."""
    from recsys_ae.registry import Registry

    out.print(f"pinned is {Registry(registry).pin(version, note)}", markup=False, highlight=False, soft_wrap=True)


@registry_app.command("unpin")
def registry_unpin(registry: RegistryPath, version: Annotated[str, typer.Argument(show_default=False)]) -> None:
    """Prune a version as any other."""
    from recsys_ae.registry import Registry

    out.print(f"no longer pinned is {Registry(registry).unpin(version)}", markup=False, highlight=False, soft_wrap=True)


@registry_app.command("traffic")
def registry_traffic(
    registry: RegistryPath,
    shares: Annotated[
        list[str] | None, typer.Argument(metavar="[VERSION=SHARE]...", help="Shares that sum to 1, or in percent.")
    ] = None,
    salt: Annotated[
        str | None, typer.Option(help="Who is where; that of the test in progress, or else a new one, without.")
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="End the A/B test: all traffic to current.")] = False,
    as_json: AsJson = False,
) -> None:
    """The shares of an A/B test: show, set, clear. Its versions are never pruned; promotions do not touch it."""
    from pipelines.tables import traffic_table
    from pipelines.versions import parse_shares
    from recsys_ae.registry import Registry

    if clear and (shares or salt is not None):
        raise ConfigError("--clear ends the A/B test; expected it without shares and salt")
    if salt is not None and not shares:
        raise ConfigError("--salt is of shares; expected VERSION=SHARE too")
    opened = Registry(registry)
    found = opened.set_traffic(parse_shares(shares) if shares else None, salt) if shares or clear else opened.traffic()
    if as_json:
        print_json({"current": opened.current(), "traffic": found and found.as_json()})
    elif found is None:
        out.print(f"no A/B test; current is {opened.current()}", markup=False, highlight=False, soft_wrap=True)
    else:
        out.print(traffic_table(found))


@registry_app.command("check")
def registry_check(
    registry: RegistryPath,
    version: Annotated[str | None, typer.Argument(help="A version; current without.", show_default=False)] = None,
    all_versions: Annotated[bool, typer.Option("--all", help="All versions, and the registry's own files.")] = False,
    as_json: AsJson = False,
) -> None:
    """Verify every byte of a version, its twin's too; exit code 1 and a line for each file that is damaged."""
    from pipelines.versions import faults
    from recsys_ae.registry import Registry

    if version is not None and all_versions:
        raise ConfigError("expected either a version or --all")
    found = faults(Registry(registry), version, all_versions)
    if as_json:
        print_json(found)
    for name, lines in found.items():
        if not as_json:
            out.print(f"{name} {'is damaged' if lines else 'is whole'}", markup=False, highlight=False, soft_wrap=True)
        for line in lines:
            warn(line)
    if any(found.values()):
        raise typer.Exit(1)
