"""Every planted truth is found again in the generated log."""

import dataclasses
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.generator import shape
from recsys_ae import MODELS, Dataset, InteractionLog, evaluate, strong_generalization
from recsys_ae.datasets import DATASETS, synthetic
from recsys_ae.datasets.generator import PRESETS, GeneratorConfig, World, generate, preset
from recsys_ae.datasets.generator.sampling import Tables, draw_distinct, lengths_of
from recsys_ae.errors import ConfigError
from tests.worlds import cpu

DAY = 86_400


def world(name: str = "synthetic", **changes: Any) -> World:
    return generate(preset(name, **changes))


@pytest.fixture(scope="module")
def wide() -> World:
    """3,000 users, 2,000 items, 20 tastes, one of ten interactions is noise, a third of the items carries two tastes."""
    return world(n_users=3_000, n_items=2_000, n_tastes=20, tastes_per_user=3, second_taste=0.3, noise=0.1, seed=4)


def carried(world: World) -> np.ndarray:
    """(N,): whether the item carries one of its user's tastes. Without attacks."""
    events, latent = world.events, world.truth.latent
    theirs = latent.tastes[events.users]  # (N, K)
    return (theirs[:, :, None] == latent.item_tastes[events.items][:, None, :]).any(axis=(1, 2))


def test_the_same_seed_gives_the_same_world_and_another_another() -> None:
    one, same, other = (synthetic(50, 40, mean_length=12, seed=s) for s in (1, 1, 2))
    assert one.events.equals(same.events)
    assert one.titles == same.titles
    assert not one.events.equals(other.events)


def test_size_no_repeats_ratings_and_order() -> None:
    events = synthetic(80, 60, mean_length=12.0).events.to_pandas()
    assert events["user_id"].nunique() == 80
    assert events["item_id"].between(1, 60).all()
    assert not events.duplicated(["user_id", "item_id"]).any()
    assert set(events["weight"]) <= {1, 2, 3, 4, 5}
    assert len(events) == 80 * 12
    assert events.groupby("user_id")["timestamp"].apply(lambda t: t.is_monotonic_increasing).all()


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    st.integers(1, 60), st.integers(12, 60), st.floats(1, 6), st.floats(0, 2), st.floats(0, 3), st.integers(1, 12),
    st.integers(1, 4), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.integers(0, 3),
)  # fmt: skip
def test_any_small_world_is_whole(
    n_users: int, n_items: int, mean: float, spread: float, exponent: float, n_tastes: int, k: int, strength: float,
    noise: float, drift: float, least: int,
) -> None:  # fmt: skip
    least = min(least, n_users, int(n_users * mean) // n_items)
    made = world(
        n_users=n_users, n_items=n_items, mean_length=mean, min_length=1, length_spread=spread, popularity_exponent=exponent,
        n_tastes=n_tastes, tastes_per_user=min(k, n_tastes), taste_strength=strength, noise=noise, taste_drift=drift,
        popularity_drift=drift, min_popularity=least,
    )  # fmt: skip
    events = made.events
    assert len(events.users) == round(n_users * mean)
    assert len(np.unique(events.users.astype(np.int64) * n_items + events.items)) == len(events.users)
    lengths = np.bincount(events.users, minlength=n_users)
    assert lengths.min() >= 1 and lengths.max() <= n_items // 2
    assert np.bincount(events.items, minlength=n_items).min() >= least
    assert np.all((np.diff(events.times) >= 0) | (np.diff(events.users) > 0))
    np.testing.assert_array_equal(made.log["item_id"].to_numpy(), events.items + 1)
    np.testing.assert_array_equal(made.log["user_id"].to_numpy(), events.users + 1)


def test_a_history_concentrates_on_the_users_tastes(wide: World) -> None:
    """Noise is a tenth, taste_strength is .9: .81 of a history by taste alone, and some by chance. 3 of 20 tastes are .15."""
    noise = wide.events.is_noise
    assert 0.86 < carried(wide)[~noise].mean() < 0.97
    assert carried(wide)[noise].mean() < 0.25
    assert abs(noise.mean() - 0.1) < 0.005


def test_categories_and_titles_name_the_tastes(wide: World) -> None:
    tastes = wide.truth.latent.item_tastes
    assert 0.25 < (tastes[:, 1] >= 0).mean() < 0.35
    for item, (first, second) in enumerate(tastes.tolist(), start=1):
        names = [f"taste {first + 1}"] + ([f"taste {second + 1}"] if second >= 0 else [])
        assert wide.categories[item] == tuple(names)
        assert wide.titles[item].startswith(f"Item {item} of taste {first + 1}")


def test_synthetic_users_have_two_tastes_and_rate_them_higher() -> None:
    """The same from the table alone, as somebody who does not know the truth would find it."""
    raw = synthetic(200, 300)
    events = raw.events.to_pandas()
    events["taste"] = [raw.categories[i][0] for i in events["item_id"]]
    sizes = events.groupby(["user_id", "taste"]).size()
    two = sizes.groupby("user_id").apply(lambda s: s.nlargest(2).sum() / s.sum())
    assert two.mean() > 0.75  # two of eight tastes would hold a quarter by chance
    top = events.merge(sizes.groupby("user_id").idxmax().str[1].rename("top"), on="user_id")
    assert top[top["taste"] == top["top"]]["weight"].mean() > 0.2 + top[top["taste"] != top["top"]]["weight"].mean()


def test_synthetic_popularity_has_a_long_tail() -> None:
    counts = np.sort(np.unique(synthetic(600, 300).events["item_id"].to_numpy(), return_counts=True)[1])[::-1]
    assert counts[:30].sum() > 2 * 0.1 * counts.sum()  # a tenth of the items has more than twice its share
    assert counts[0] > 4 * np.median(counts)


@pytest.mark.parametrize("exponent", [0.5, 1.0])
def test_popularity_falls_with_the_slope_asked_for(exponent: float) -> None:
    """Least squares of log count on log rank, where no history is long enough to exhaust the head."""
    made = world(n_users=20_000, n_items=2_000, mean_length=10, length_spread=0.3, popularity_exponent=exponent)
    counts = np.sort(np.bincount(made.events.items, minlength=2_000))[::-1]
    ranks = np.arange(20, 1_000)
    slope = np.polyfit(np.log(ranks + 1), np.log(counts[ranks]), 1)[0]
    assert abs(slope + exponent) < 0.12


def test_popularity_shift_flattens_the_head_and_the_cutoff_thins_the_tail() -> None:
    def counts(**changes: Any) -> np.ndarray:
        made = world(n_users=4_000, n_items=1_000, mean_length=20, min_popularity=0, popularity_exponent=1.0, **changes)
        return np.sort(np.bincount(made.events.items, minlength=1_000))[::-1]

    plain, flat, thin = counts(), counts(popularity_shift=0.05), counts(popularity_cutoff=0.1)
    assert plain[0] / plain[20] > 2 * flat[0] / flat[20]
    assert thin[500:].sum() < 0.3 * plain[500:].sum()


@pytest.mark.parametrize("spread", [0.0, 0.5, 1.3])
def test_lengths_are_shifted_lognormal_with_the_total_asked_for(spread: float) -> None:
    lengths = lengths_of(np.random.default_rng(0), 50_000, 2_000_000, 10, 5_000, spread)
    assert lengths.sum() == 2_000_000
    assert lengths.min() >= 10 and lengths.max() <= 5_000
    logs = np.log(lengths - 9.5)
    assert abs(logs.std() - spread) < 0.1
    assert np.median(lengths) == pytest.approx(10 + 30 / np.exp(spread**2 / 2), rel=0.05)


def test_times_lie_within_the_span_and_come_in_sessions() -> None:
    made = world(n_users=2_000, session_length=4, session_gap=60, span_days=200, lifetime=0.5)
    users, times = made.events.users, made.events.times
    config = PRESETS["synthetic"]
    assert times.min() >= config.start and times.max() < config.start + 200 * DAY
    gaps = np.diff(times)[np.diff(users) == 0]
    short, between = gaps < 600, (gaps >= 600) & (gaps < 3_600)
    assert 0.70 < short.mean() < 0.80  # three gaps of four lie within a session of four
    assert abs(gaps[short].mean() - 60) < 5
    assert between.mean() < 0.02  # almost nothing between minutes and hours
    assert np.median(gaps[gaps >= 3_600]) > 6 * 3_600


def test_evenings_and_weekends_are_busier() -> None:
    made = world(n_users=3_000, span_days=364, start=1_672_617_600)  # Monday 2023-01-02
    seconds = made.events.times - 1_672_617_600
    hours = np.bincount(seconds % DAY // 3_600, minlength=24)
    assert hours[19:22].mean() > 5 * hours[2:5].mean()
    days = np.bincount(seconds // DAY % 7, minlength=7)
    assert days[5:].mean() > 1.2 * days[:4].mean()


def thirds(made: World) -> tuple[np.ndarray, np.ndarray]:
    """Flags of the interactions in the first and the last third of the span."""
    progress = (made.events.times - made.events.times.min()) / np.ptp(made.events.times)
    return progress < 1 / 3, progress > 2 / 3


def test_tastes_drift() -> None:
    """A user's first tastes make less of the last third than of the first, by about the drift at its middle."""
    still, moving = (world(n_users=3_000, n_items=2_000, n_tastes=20, lifetime=1.0, taste_drift=drift) for drift in (0.0, 0.6))
    for made, least, most in ((still, -0.02, 0.02), (moving, 0.25, 0.45)):
        first, last = thirds(made)
        assert least < carried(made)[first].mean() - carried(made)[last].mean() < most
        assert abs(carried(made).mean() - carried(made)[~first & ~last].mean()) < 0.02
    np.testing.assert_array_equal(still.truth.latent.tastes, moving.truth.latent.tastes)


def test_without_drift_an_exhausted_taste_leaves_no_trace_in_time() -> None:
    """Long histories run out of their tastes' items; that must not look like drift."""
    made = world(n_users=2_000, n_tastes=20, lifetime=1.0)
    first, last = thirds(made)
    assert carried(made).mean() < 0.75
    assert abs(carried(made)[first].mean() - carried(made)[last].mean()) < 0.02


def test_popularity_drifts() -> None:
    still, moving = (world(n_users=4_000, taste_strength=0.0, popularity_drift=drift) for drift in (0.0, 0.8))
    overlap = []
    for made in (still, moving):
        first, last = (np.bincount(made.events.items[part], minlength=300) for part in thirds(made))
        overlap.append(np.corrcoef(first, last)[0, 1])
    assert overlap[0] > 0.95
    assert overlap[1] < 0.8


def test_repeats_are_as_many_as_asked_for_and_of_items_met_before() -> None:
    made = world(n_users=1_000, repeats=0.4)
    keys = made.events.users.astype(np.int64) * 300 + made.events.items
    distinct = len(np.unique(keys))
    assert len(keys) == 30_000
    # The first interaction of a user is always new: 0.4 of the other 29 in 30.
    assert 1 - distinct / len(keys) == pytest.approx(0.4 * 29 / 30, abs=0.01)


ATTACKS = [
    {"kind": "average", "profiles": 30, "length": 40, "targets": 3},
    {"kind": "bandwagon", "profiles": 20, "length": 41, "targets": 1, "direction": "nuke"},
    {"kind": "random", "profiles": 10, "length": 30, "targets": 2},
    {"kind": "bot", "profiles": 5, "length": 120, "days": 2.0},
]


@pytest.fixture(scope="module")
def attacked() -> World:
    return world(n_users=800, n_items=400, attacks=ATTACKS)


def test_attackers_are_known_and_stand_among_the_users(attacked: World) -> None:
    truth, lengths = attacked.truth, np.bincount(attacked.events.users)
    assert np.bincount(truth.attack + 1).tolist() == [800, 30, 20, 10, 5]
    assert len(truth.genuine) == 800 and (truth.attack[truth.genuine] == -1).all()
    for number, settings_ in enumerate(ATTACKS):
        assert (lengths[truth.attack == number] == settings_["length"]).all()
        assert np.flatnonzero(truth.attack == number).mean() == pytest.approx(432, abs=250)
    keys = attacked.events.users.astype(np.int64) * 400 + attacked.events.items
    assert len(np.unique(keys)) == len(keys) == 800 * 30 + sum(a["profiles"] * a["length"] for a in ATTACKS)
    assert np.all((np.diff(attacked.events.times) >= 0) | (np.diff(attacked.events.users) > 0))


def test_genuine_users_do_the_same_with_and_without_attackers(attacked: World) -> None:
    calm, genuine = world(n_users=800, n_items=400).events, attacked.truth.attack[attacked.events.users] < 0
    np.testing.assert_array_equal(attacked.events.items[genuine], calm.items)
    np.testing.assert_array_equal(attacked.events.ratings[genuine], calm.ratings)


def test_every_profile_holds_the_targets_with_the_rating_meant(attacked: World) -> None:
    events, truth = attacked.events, attacked.truth
    popularity = np.bincount(events.items[truth.attack[events.users] < 0], minlength=400)
    for number, rating, is_head in ((0, 5.0, False), (1, 1.0, True), (2, 5.0, False)):
        for target in truth.targets[number]:
            on_target = (truth.attack[events.users] == number) & (events.items == target)
            assert on_target.sum() == ATTACKS[number]["profiles"]
            assert (events.ratings[on_target] == rating).all()
            assert (popularity[target] >= np.median(popularity)) == is_head
    assert len(truth.targets[3]) == 0


def test_average_filler_follows_the_items_means_and_bandwagon_takes_the_most_popular(attacked: World) -> None:
    events, truth = attacked.events, attacked.truth
    kind, genuine = truth.attack[events.users], truth.attack[events.users] < 0
    counts = np.bincount(events.items[genuine], minlength=400)
    means = np.bincount(events.items[genuine], events.ratings[genuine], 400) / counts
    slopes = {}
    for number in (0, 2):
        filler = (kind == number) & ~np.isin(events.items, truth.targets[number])
        slopes[number] = np.polyfit(means[events.items[filler]], events.ratings[filler], 1)[0]
    assert slopes[0] > 0.6 and abs(slopes[2]) < 0.4
    untargeted = np.argsort(-counts, kind="stable")
    untargeted = untargeted[~np.isin(untargeted, truth.targets[1])][:20]
    held = np.isin(events.items[kind == 1], untargeted)
    assert held.sum() == 20 * 20
    assert (events.ratings[kind == 1][held] == 5).all()


def test_bots_click_fast_and_attacks_are_bursts(attacked: World) -> None:
    events, kind = attacked.events, attacked.truth.attack[attacked.events.users]
    gaps, same = np.diff(events.times), np.diff(events.users) == 0
    assert np.median(gaps[same & (kind[1:] == 3)]) <= 2
    assert np.ptp(events.times[kind == 0]) < 7.1 * DAY
    assert np.ptp(events.times[kind == 3]) < 2.1 * DAY


def test_an_implicit_log_with_string_ids_has_no_weights_and_its_titles_fit() -> None:
    raw = synthetic(50, 40, mean_length=12, ratings=None, string_ids=True, attacks=[{"kind": "bandwagon", "length": 10}])
    assert raw.events.column_names == ["user_id", "item_id", "timestamp"]
    assert set(raw.events["item_id"].to_pylist()) == set(raw.titles) == set(raw.categories)
    data = Dataset.from_log(InteractionLog.from_table(raw.events), titles=raw.titles, categories=raw.categories)
    assert (len(data.users), len(data.items)) == (70, 40)
    assert data.metadata.title(data.items.position("i7")) == raw.titles["i7"]


def test_ease_learns_what_popularity_cannot_know() -> None:
    raw = synthetic(500, 200, seed=3)
    split = strong_generalization(Dataset.from_log(InteractionLog.from_table(raw.events)), seed=0)
    means = {}
    for name in ("ease", "popularity"):
        model = MODELS[name](MODELS[name].Config(), len(split.train.items))
        model.fit(split.train.histories, validation=split.validation, run=cpu())
        means[name] = evaluate(model, split.test).scores["ndcg@100"].mean
    assert means["ease"] > 1.3 * means["popularity"]


ORIGINALS = {  # measured on the originals: users, items, interactions; by user and by item min, median, max, Gini; Lorenz
    "gowalla-like": (
        (29_858, 40_981, 1_027_370), (9, 20, 1_014, 0.467), (10, 15, 2_310, 0.435),
        [0.037, 0.132, 0.292, 0.396, 0.530, 0.765],
    ),
    "ml-1m-like": (
        (6_040, 3_706, 1_000_209), (20, 96, 2_314, 0.529), (1, 123.5, 3_428, 0.634),
        [0.009, 0.087, 0.283, 0.444, 0.652, 0.924],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ORIGINALS)
def test_a_preset_has_the_shape_of_its_original(name: str) -> None:
    """Lorenz: what the most popular .1, 1, 5, 10, 20 and 50 % of the items have of all interactions."""
    size, of_users, of_items, lorenz = ORIGINALS[name]
    made = generate(PRESETS[name]).events
    found = shape(made.users, made.items)
    users, items = found["users"], found["items"]
    assert (users["number"], items["number"], found["interactions"]) == size
    assert of_users[0] <= users["min"] <= of_users[0] + 1 and users["max"] == of_users[2]
    assert users["median"] == pytest.approx(of_users[1], rel=0.05)
    assert items["min"] >= of_items[0]
    assert items["median"] == pytest.approx(of_items[1], rel=0.15)
    assert items["max"] == pytest.approx(of_items[2], rel=0.15)
    assert (users["gini"], items["gini"]) == pytest.approx((of_users[3], of_items[3]), abs=0.03)
    np.testing.assert_allclose(list(items["lorenz"].values()), lorenz, atol=0.03)


def test_ml_20m_like_asks_for_the_size_of_movielens_20m() -> None:
    config = PRESETS["ml-20m-like"]
    assert (config.n_users, config.n_items, config.n_interactions) == (138_493, 26_744, 20_000_263)
    lengths = lengths_of(np.random.default_rng(0), 138_493, 20_000_263, 20, 9_254, config.length_spread)
    assert (lengths.min(), lengths.max()) == (20, 9_254)
    assert np.median(lengths) == pytest.approx(68, abs=2)


def test_every_preset_is_a_data_set_by_name() -> None:
    assert set(PRESETS) == set(DATASETS) - {"movielens-small"}


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"n_users": 0}, ["n_users", "greater than 0", "found 0"]),
        ({"noise": 1.5}, ["noise", "less than or equal to 1", "1.5"]),
        ({"tastes": 3}, ["tastes", "unknown", "n_tastes"]),
        ({"mean_length": float("nan")}, ["mean_length", "finite"]),
        ({"min_length": 40}, ["40 at least", "30 in the mean", "min_length <= mean_length"]),
        ({"max_length": 400}, ["400 at most", "300 items"]),
        ({"n_tastes": 1}, ["2 tastes a user, 1 tastes"]),
        ({"min_popularity": 61}, ["min_popularity 61", "18300", "18000 interactions"]),
        ({"attacks": [{"kind": "bandwagon", "targets": 0}]}, ["attacks.0", "targets is 0"]),
        ({"attacks": [{"kind": "bot", "length": 151}]}, ["length is 151", "at most 150"]),
        ({"ratings": None, "attacks": [{"kind": "average", "direction": "nuke"}]}, ["nuke", "no ratings"]),
        ({"ratings": {"low": 5, "high": 1}}, ["ratings", "from 5.0 to 1.0"]),
    ],
)
def test_an_impossible_world_is_a_clear_error(changes: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        preset("synthetic", **changes)
    for part in parts:
        assert part in str(caught.value)


def test_an_unknown_preset_is_a_clear_error() -> None:
    with pytest.raises(
        ConfigError, match="'ml-20m' is unknown; expected one of synthetic, ml-1m-like, ml-20m-like, gowalla-like"
    ):
        preset("ml-20m")


def test_tables_draw_in_proportion_and_from_their_own_group_alone() -> None:
    tables = Tables.of(np.array([1, 0, 1, 0]), np.array([7, 3, 8, 4]), np.array([1.0, 3.0, 3.0, 1.0]))
    rng = np.random.default_rng(0)
    for group, often, rarely in ((0, 3, 4), (1, 8, 7)):
        drawn = tables.draw(rng, np.full(20_000, group))
        assert set(drawn) == {often, rarely}
        assert (drawn == often).mean() == pytest.approx(0.75, abs=0.01)


def test_draw_distinct_is_successive_sampling() -> None:
    """Two of three values with weights 6, 3, 1: the probability of each pair by hand."""
    rng = np.random.default_rng(0)
    owners = np.repeat(np.arange(40_000), 2)
    weights = np.array([0.6, 0.3, 0.1])
    drawn = draw_distinct(rng, owners, 3, lambda places: rng.choice(3, len(places), p=weights)).reshape(-1, 2)
    for a, b in ((0, 1), (0, 2), (1, 2)):
        expected = weights[a] * weights[b] / (1 - weights[a]) + weights[b] * weights[a] / (1 - weights[b])
        assert (np.sort(drawn, axis=1) == (a, b)).all(axis=1).mean() == pytest.approx(expected, abs=0.01)


def test_the_config_is_frozen_and_its_streams_are_its_own() -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - that the global one is left alone
    generate(GeneratorConfig(n_users=20, n_items=30, mean_length=8))
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002
    with pytest.raises(dataclasses.FrozenInstanceError):
        world(n_users=20).events.users = None  # type: ignore[misc]


def test_importing_the_data_sets_loads_neither_torch_nor_scipy_nor_pandas() -> None:
    code = "import sys, recsys_ae.datasets; assert not {'torch', 'pandas', 'scipy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
