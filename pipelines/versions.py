"""registry: what the command line says of versions, their pins, their traffic and their faults."""

from collections.abc import Sequence
from typing import Any

from recsys_ae.errors import ArtifactError, ConfigError
from recsys_ae.registry import Registry


def described(registry: Registry, versions: Sequence[str | None]) -> list[dict[str, Any]]:
    """Of each version (`current` where None) what `show` says, whether it is pinned and why, its share of the traffic."""
    pins, traffic = registry.pins(), registry.traffic()
    rows = []
    for version in versions:
        about = registry.show(version)
        name = about["version"]
        share = traffic.shares.get(name, 0.0) if traffic else None
        rows.append(about | {"pinned": name in pins, "note": pins.get(name, ""), "traffic": share})
    return rows


def parse_shares(given: Sequence[str]) -> dict[str, float]:
    """VERSION=0.9 or VERSION=90%. Raises ConfigError."""
    shares: dict[str, float] = {}
    for each in given:
        version, _, share = each.rpartition("=")
        number = share.removesuffix("%")
        try:
            value = float(number)
        except ValueError:
            version = ""
        if not version or version in shares:
            raise ConfigError(f"found {each!r}; expected VERSION=SHARE, each version once, as in V1=0.9 V2=0.1")
        shares[version] = value / 100 if number != share else value
    return shares


def in_test(registry: Registry) -> str | None:
    """What to say where current is not what is served, or that cannot be told."""
    try:
        traffic = registry.traffic()
    except ArtifactError as error:
        return f"{error}; set the shares again, or end the A/B test with `recsys-ae registry traffic --clear`"
    if traffic is None:
        return None
    shares = ", ".join(f"{version} {share:.4g}" for version, share in traffic.shares.items())
    return f"an A/B test is in progress ({shares}) and goes on until `recsys-ae registry traffic --clear`"


def faults(registry: Registry, version: str | None, all_versions: bool) -> dict[str, list[str]]:
    """Version -> what is wrong with its files, a line each; with all of them, the registry's own files too, as `registry`."""
    if not all_versions:
        name = registry.show(version)["version"] if version is None else version
        return {name: registry.faults(name)}
    own = []
    for read in (registry.current, registry.pins, registry.traffic):
        try:
            read()
        except ArtifactError as error:
            own.append(str(error))
    return {"registry": own} | {name: registry.faults(name) for name in registry.versions()}
