"""Click-through is what was planted, and what a plain count in Python gives; the command says it to people and machines."""

import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.clicks import Asked, clicks, moment
from pipelines.config import RunConfig, make_config
from recsys_ae.errors import ConfigError, LogError
from recsys_ae.shares import Products, Sums, ratio, ratio_difference
from service.store import NewEvent, Shown, Store, listed
from tests.pipelines.test_commands import run

DAY = 1_700_000_000
HOUR = 3_600


def config_of(url: str) -> RunConfig:
    return make_config({"log": {"source": "store"}, "store": {"url": url}})


def random_world(seed: int) -> tuple[list[Shown], list[NewEvent]]:
    """Lists in batches, of known users and of nobody, some with one request id; events right and wrong."""
    rng = np.random.default_rng(seed)
    lists, events = [], []
    for n in range(250):
        request = f"r{n - n % 3 if n % 5 == 0 else n}"
        for place in range(rng.integers(1, 4)):
            user = None if rng.random() < 0.2 else f"u{rng.integers(40)}"
            items = rng.choice(30, rng.integers(1, 7), replace=False).tolist()
            arm = None if n < 50 else "ab"[n % 2]
            source = "model" if rng.random() < 0.8 else "popularity"
            lists.append(Shown(request, place, user, f"v{n // 100}", arm, source, listed(items), DAY + 60 * n))
    for n in range(600):
        one = lists[rng.integers(len(lists))]
        user = one.user_id if one.user_id is not None and rng.random() < 0.8 else f"u{rng.integers(40)}"
        item = rng.choice(items_of(one)) if rng.random() < 0.9 else rng.integers(30)
        at = one.shown_at + int(rng.integers(-100, 2 * HOUR))
        named = one.request_id if rng.random() < 0.9 else (None, "of nobody")[n % 2]
        events.append(NewEvent(f"e{n}", user, int(item), None, at, (None, "view", "cart's")[rng.integers(3)], named))
    return lists, events


def items_of(one: Shown) -> list[int]:
    """Best first."""
    return [int(item) for item in json.loads(one.items)]


def counted(lists: list[Shown], events: list[NewEvent], asked: Asked) -> list[tuple[str, Shown, set[int]]]:
    """A user, a list, and the ranks clicked of it: what the rules say, one by one."""
    kept = [
        (n, one) for n, one in enumerate(lists)
        if (asked.since is None or one.shown_at >= asked.since) and (asked.until is None or one.shown_at < asked.until)
    ]  # fmt: skip
    hit: dict[int, set[int]] = defaultdict(set)
    for event in events:
        if asked.event_types and event.event_type not in asked.event_types:
            continue
        could = [
            (one.user_id is None, one.place, n, items_of(one).index(event.item_id) + 1)
            for n, one in kept
            if one.request_id == event.request_id
            and event.item_id in items_of(one)
            and one.user_id in (None, event.user_id)
            and event.timestamp - one.shown_at <= asked.within * HOUR
        ]
        if could:
            *_, n, rank = min(could)
            hit[n].add(rank)
    return [(one.user_id or f"list {n}", one, hit[n]) for n, one in kept]


def by_user(rows: Iterable[tuple[str, int, int]]) -> dict[str, np.ndarray]:
    """Hits and counts of each user."""
    found: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(2))
    for user, hits, counts in rows:
        found[user] += (hits, counts)
    return found


def same(found: dict[str, Any], rows: Iterable[tuple[str, int, int]]) -> None:
    """A share of the document is that of the users' hits and counts."""
    hits, counts = np.array(list(by_user(rows).values())).T
    expected = ratio(hits, counts)
    assert (found["shown"], found["clicked"]) == (counts.sum(), hits.sum())
    assert found["mean"] == pytest.approx(expected.mean)
    assert found["se"] == pytest.approx(expected.se, abs=1e-9)
    assert found["ci95"] == pytest.approx(expected.interval)


@pytest.mark.parametrize(
    "asked",
    [
        Asked(within=1.0),
        Asked(since=DAY + 60 * 20, until=DAY + 60 * 180, within=0.5, event_types=("view", "cart's")),
    ],
    ids=["all", "some"],
)
def test_all_figures_are_those_of_a_plain_count(store: Store, url: str, asked: Asked) -> None:
    lists, events = random_world(3)
    store.add_shown(lists)
    store.add(events)
    found = clicks(config_of(url), asked)
    truth = counted(lists, events, asked)
    assert sum(len(ranks) for _, _, ranks in truth) > 40

    def check(entry: dict[str, Any], rows: list[tuple[str, Shown, set[int]]]) -> None:
        same(entry["lists"], [(user, bool(ranks), 1) for user, _, ranks in rows])
        same(entry["items"], [(user, len(ranks), len(items_of(one))) for user, one, ranks in rows])
        assert entry["users"] == len({user for user, _, _ in rows})

    check(found["all"], truth)
    for group, field in (("versions", "model_version"), ("arms", "arm"), ("sources", "source")):
        names = {getattr(one, field) for _, one, _ in truth} - {None}
        assert set(found[group]) == names and len(names) > 1
        for name in names:
            check(found[group][name], [row for row in truth if getattr(row[1], field) == name])
    assert list(found["positions"]) == [str(place) for place in range(1, 7)]
    for place, entry in found["positions"].items():
        rank = int(place)
        same(entry, [(user, rank in ranks, 1) for user, one, ranks in truth if len(items_of(one)) >= rank])
    (difference,) = found["differences"]
    assert (difference["arm"], difference["less"]) == ("b", "a")
    sides = [by_user((u, bool(ranks), 1) for u, one, ranks in truth if one.arm == arm) for arm in "ba"]
    users = sorted(set().union(*sides))
    (hb, cb), (ha, ca) = (np.array([side.get(user, np.zeros(2)) for user in users]).T for side in sides)
    assert ((ca > 0) & (cb > 0)).sum() > 20
    b, a = (Sums(int((c > 0).sum()), h.sum(), c.sum(), h @ h, h @ c, c @ c) for h, c in ((hb, cb), (ha, ca)))
    expected = ratio_difference(b, a, Products(hb @ ha, hb @ ca, cb @ ha, cb @ ca))
    assert difference["lists"]["mean"] == pytest.approx(expected.mean)
    assert difference["lists"]["ci95"] == pytest.approx(expected.interval)


def test_what_was_planted_by_position_and_arm_is_within_the_intervals(tmp_path: Path) -> None:
    """Users differ in how much they click and how often they come; arm b is clicked half as often again."""
    url = f"sqlite:///{tmp_path / 'events.db'}"
    rng = np.random.default_rng(11)
    by_place = np.array([0.3, 0.2, 0.1, 0.05])
    lists, events = [], []
    for user in range(900):
        taste, arm = rng.beta(2, 2) * 2, "ab"[user % 2]
        for n in range(rng.integers(1, 7)):
            lists.append(Shown(f"{user}-{n}", 0, str(user), "v1", arm, "model", listed(range(4)), DAY))
            clicked = rng.random(4) < by_place * taste / 1.5 * (1.5 if arm == "b" else 1.0)
            events += [
                NewEvent(f"{user}-{n}-{i}", str(user), i, None, DAY + 5, None, f"{user}-{n}") for i in np.flatnonzero(clicked)
            ]
    store = Store(url)
    store.add_shown(lists)
    store.add([event._replace(item_id=int(event.item_id)) for event in events])
    store.close()
    found = clicks(config_of(url), Asked())
    for arm, times in (("a", 1 / 1.5), ("b", 1.0)):
        low, high = found["arms"][arm]["items"]["ci95"]
        assert low < by_place.mean() * times < high < low + 0.03
    for place, share in enumerate(by_place, 1):
        low, high = found["positions"][str(place)]["ci95"]
        assert low < share * (1 + 1 / 1.5) / 2 < high
    low, high = found["differences"][0]["items"]["ci95"]
    assert 0 < low < by_place.mean() / 3 < high


def one_list(url: str) -> None:
    store = Store(url)
    store.add_shown([Shown("r", 0, "u", "20261124T031500-mult_vae-1a2b3c4d", None, "model", listed(range(25)), DAY)])
    store.add([NewEvent("e", "u", 1, None, DAY + 30 * HOUR, None, "r")])
    store.close()


def test_the_command_tells_people_and_machines(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text('[log]\nsource = "store"\n[store]\nurl = "sqlite:///events.db"\n')
    url = f"sqlite:///{tmp_path / 'events.db'}"
    Store(url).close()
    done = run(tmp_path, "clicks", "run.toml")
    assert (done.returncode, done.stdout) == (0, "no lists were shown in that time, or none are logged yet\n")
    assert json.loads(run(tmp_path, "clicks", "run.toml", "--json").stdout)["all"] is None
    one_list(url)
    done = run(tmp_path, "clicks", "run.toml", "--within", "48")
    assert done.returncode == 0 and done.stderr == ""
    assert "1 lists shown to 1 users, clicks within 48 h" in done.stdout and "20261124T031500-mult_vae-1a2b3c4d" in done.stdout
    assert "and 5 more with --json" in done.stdout and "difference" not in done.stdout.lower()
    found = json.loads(run(tmp_path, "clicks", "run.toml", "--json", "--since", "2023-11-14", "--within", "48").stdout)
    assert found["since"] == "2023-11-14T00:00:00+00:00" and found["all"]["lists"] == {
        "shown": 1, "clicked": 1, "mean": 1.0, "se": None, "ci95": None,
    }  # fmt: skip
    assert found["positions"]["2"]["clicked"] == 1 and found["positions"]["25"]["clicked"] == 0
    late = json.loads(run(tmp_path, "clicks", "run.toml", "--json").stdout)
    assert late["all"]["lists"]["clicked"] == 0  # thirty hours later is not within a day
    assert json.loads(run(tmp_path, "clicks", "run.toml", "--json", "--until", "2023-11-14").stdout)["all"] is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--since", "yesterday"), "--since is 'yesterday'; expected a date"),
        (("--since", "2026-02-02", "--until", "2026-02-02"), "is not before --until 2026-02-02"),
        (("--within", "0"), "--within is 0.0; expected hours above 0"),
        (("--within", "nan"), "--within is nan"),
        ((), "expected [store] url, or RECSYS_AE__STORE__URL"),
    ],
)
def test_what_is_wrong_is_one_message_and_code_2(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    (tmp_path / "run.toml").write_text('[log]\npath = "log.csv"\n')
    done = run(tmp_path, "clicks", "run.toml", *arguments)
    assert (done.returncode, done.stdout) == (2, "") and said in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_store_of_before_has_no_lists(store: Store, url: str) -> None:
    with store._database.writing() as connection:
        connection.exec_driver_sql("update recsys_schema set version = 1")
    with pytest.raises(LogError, match="version 1, which has no lists; expected 2"):
        clicks(config_of(url), Asked())


def test_times_of_options() -> None:
    assert moment("--since", "2023-11-14T22:13:20") == moment("--since", "2023-11-15T00:13:20+02:00") == DAY
    assert moment("--since", None) is None
    with pytest.raises(ConfigError, match="ISO 8601"):
        moment("--until", "14.11.2023")
