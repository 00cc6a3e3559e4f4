"""Pruning, after whatever was promoted, rolled back, pinned and tried on some of the traffic."""

import tempfile
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_ae import Registry
from recsys_ae.errors import ConfigError, RegistryError
from recsys_ae.sealed import write_sealed
from recsys_ae.traffic import Traffic

steps = st.lists(
    st.tuples(
        st.sampled_from(["publish", "promote", "promote", "rollback", "pin", "unpin", "traffic", "clear", "prune"]),
        st.integers(0, 9),
    ),
    max_size=25,
)


def bare(store: Registry, number: int) -> None:
    """A version of no files but its own."""
    folder = store.path / f"{datetime(2026, 11, 1, tzinfo=UTC) + timedelta(days=number):%Y%m%dT%H%M%S.%f}-m-{number:08}"
    folder.mkdir(parents=True)
    write_sealed(folder / "manifest.json", {"files": {}})
    write_sealed(folder / "version.json", {"version": folder.name, "files": {}})


@settings(max_examples=40, derandomize=True, deadline=None)
@given(steps, st.integers(0, 4))
def test_prune_keeps_the_newest_and_all_that_is_held(steps: list[tuple[str, int]], keep: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store, made = Registry(folder), 3
        order: list[str] = []  # what was current, as a person would note it down
        pins, test = set(), set()
        for number in range(made):
            bare(store, number)
        for step, number in [*steps, ("prune", 0)]:
            there = store.versions()
            version = there[number % len(there)]
            match step:
                case "publish":
                    bare(store, made)
                    made += 1
                case "promote":
                    store.promote(version)
                    if order[-1:] != [version]:
                        order.append(version)
                case "rollback":
                    before = [v for v in order[:-1] if v in there]
                    if before:
                        assert store.rollback() == before[-1]
                        order = before
                    else:
                        with pytest.raises(RegistryError):
                            store.rollback()
                case "pin":
                    pins.add(store.pin(version, "why"))
                case "unpin" if version in pins:
                    pins.remove(store.unpin(version))
                case "traffic":
                    test = {version, there[-1]}
                    store.set_traffic(dict.fromkeys(test, 1 / len(test)))
                case "clear":
                    store.set_traffic(None)
                    test = set()
                case "prune":
                    held = {
                        *order[-1:],
                        *[v for v in order[:-1] if v in there][-1:],
                        *pins,
                        *test,
                        *there[len(there) - min(keep, len(there)) :],
                    }
                    gone = store.prune(keep)
                    assert store.versions() == [v for v in there if v in held]
                    assert gone == [v for v in there if v not in held]
                    if not store.versions():
                        bare(store, made)
                        made += 1
            assert store.current() == (order[-1] if order else None)


@settings(max_examples=60, derandomize=True, deadline=None)
@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 1_000), min_size=1), st.text(max_size=8), st.text())
def test_shares_in_parts_or_in_percent_give_every_user_one_of_the_versions(parts: dict[str, int], salt: str, user: str) -> None:
    total = sum(parts.values())
    whole = Traffic.of({version: part / total for version, part in parts.items()}, salt)
    percent = Traffic.of({version: 100 * part / total for version, part in parts.items()}, salt)
    assert percent.shares == pytest.approx(dict(whole.shares))
    assert list(whole.shares) == sorted(parts)
    assert whole.version_of(user) == Traffic(whole.shares, salt).version_of(user) in parts


def test_users_fall_by_the_shares_and_few_move_with_them() -> None:
    users = range(20_000)
    one, more = Traffic.of({"a": 0.9, "b": 0.1}, "s"), Traffic.of({"a": 0.7, "b": 0.3}, "s")
    first, second = [one.version_of(u) for u in users], [more.version_of(u) for u in users]
    assert abs(first.count("b") / len(users) - 0.1) < 0.01 and abs(second.count("b") / len(users) - 0.3) < 0.01
    assert not [1 for a, b in zip(first, second, strict=True) if (a, b) == ("b", "a")]  # who has b keeps it
    other = [Traffic.of({"a": 0.9, "b": 0.1}, "t").version_of(u) for u in users]
    assert abs(sum(a == b == "b" for a, b in zip(first, other, strict=True)) / len(users) - 0.01) < 0.005


@pytest.mark.parametrize(
    "shares",
    [
        {},
        {"a": 0.5},
        {"a": 1.5, "b": -0.5},
        {"a": 1.0, "b": 0.0},
        {"a": float("nan")},
        {"a": float("inf"), "b": float("-inf")},
        {"a": 0.9, "b": 0.1 + 1e-8},
    ],
)
def test_other_shares_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        Traffic.of(shares, "")
