"""What the API answers: the lists of `rank_top_k`, filtered as asked."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from recsys_ae.histories import Histories
from recsys_ae.ranking import rank_top_k
from tests.service.conftest import N_ITEMS, Server, problem


def ids(answer: dict[str, object]) -> list[object]:
    return [item["item_id"] for item in answer["items"]]  # type: ignore[attr-defined]


def history(*items: object) -> list[dict[str, object]]:
    return [{"item_id": item} for item in items]


def test_a_posted_history_gets_the_list_of_rank_top_k(server: Server) -> None:
    artifact, _ = server.registry.load()
    columns = [2, 4, 9]
    expected = rank_top_k(artifact.model, Histories.from_rows([columns], N_ITEMS), 7)
    answer = server.post(history=history(*(100 + c for c in columns)), k=7).json()
    assert ids(answer) == artifact.items.at(expected.items[0])
    np.testing.assert_allclose([i["score"] for i in answer["items"]], expected.scores[0], rtol=1e-6)
    assert [i["rank"] for i in answer["items"]] == list(range(1, 8))
    assert [i["title"] for i in answer["items"]] == [f"Title of {i}" if i != 123 else None for i in ids(answer)]
    assert answer["source"] == "model"
    assert answer["model_version"] == server.registry.current()


def test_a_stored_user_gets_the_list_of_the_stored_history(server: Server) -> None:
    artifact, stored = server.registry.load()
    expected = rank_top_k(artifact.model, stored.histories.take(np.array([4])), 5)
    answer = server.client.get("/v1/users/5/recommendations", params={"k": 5}).json()
    assert ids(answer) == artifact.items.at(expected.items[0])
    posted = server.post(history=history(*artifact.items.at(stored.histories.row(4))), k=5).json()
    assert ids(posted) == ids(answer)


def test_taste_decides(server: Server) -> None:
    """A history of odd items brings odd items, though the most popular one is even."""
    assert all(item % 2 for item in ids(server.post(history=history(101, 103, 105), k=5).json()))  # type: ignore[operator]


def test_unknown_items_are_skipped_and_reported_in_order(server: Server) -> None:
    known = server.post(history=history(101, 103), k=5).json()
    mixed = server.post(history=history("zz", 101, 9999, "zz", 103, 2**70), k=5).json()
    assert mixed["unknown_items"] == ["zz", 9999, 2**70]
    assert ids(mixed) == ids(known)
    assert known["unknown_items"] == []


def test_an_integer_catalogue_takes_digit_strings(server: Server) -> None:
    assert ids(server.post(history=history("101", "103")).json()) == ids(server.post(history=history(101, 103)).json())
    assert server.client.get("/v1/items/101/similar").status_code == 200


def test_a_string_catalogue_keeps_strings_apart_from_numbers(strings: Server) -> None:
    answer = strings.post(history=[{"item_id": "item-1"}, {"item_id": 7}, {"item_id": "7"}], k=3).json()
    assert answer["unknown_items"] == [7]
    assert all(isinstance(i, str) for i in ids(answer))
    assert strings.client.get("/v1/items/item-3/similar").status_code == 200


def test_exactly_as_many_as_are_eligible(server: Server) -> None:
    answer = server.post(history=history(101, 103), k=1000).json()
    assert len(ids(answer)) == N_ITEMS - 2
    assert not {101, 103} & set(ids(answer))
    assert len(set(ids(answer))) == N_ITEMS - 2
    everything = server.post(history=history(101, 103), k=1000, include_seen=True).json()
    assert len(ids(everything)) == N_ITEMS
    few = server.post(history=history(101, 103), k=10, allow=[101, 105, 107, "none"]).json()
    assert sorted(ids(few)) == [105, 107]  # type: ignore[type-var]
    assert ids(server.post(history=history(101), allow=[]).json()) == []


def test_exclude_and_categories(server: Server) -> None:
    plain = ids(server.post(history=history(101, 103), k=5).json())
    without = ids(server.post(history=history(101, 103), k=5, exclude=[plain[0], "none"]).json())
    assert without[:4] == plain[1:]
    even = ids(server.post(history=history(101, 103), k=50, categories=["even", "nonsense"]).json())
    assert len(even) == N_ITEMS // 2
    assert all(i % 2 == 0 for i in even)  # type: ignore[operator]
    assert ids(server.post(history=history(101), categories=["nonsense"]).json()) == []
    params: list[tuple[str, str | int]] = [("category", "odd"), ("exclude", 101), ("exclude", 103), ("k", 50)]
    listed = ids(server.client.get("/v1/users/1/recommendations", params=params).json())
    assert all(i % 2 for i in listed)  # type: ignore[operator]
    assert not {101, 103} & set(listed)


def test_posted_events_go_through_the_models_own_preprocessing(server: Server) -> None:
    """min_weight is 3: a film rated 2 is no like; rated again, the last rating counts."""
    plain = ids(server.post(history=history(101), k=5).json())
    rated = [{"item_id": 101, "weight": 5.0}, {"item_id": 102, "weight": 2.0}]
    assert ids(server.post(history=rated, k=5, exclude=[102]).json()) == plain
    changed_mind = [{"item_id": 102, "weight": 5.0}, {"item_id": 101}, {"item_id": 102, "weight": 1}]
    assert ids(server.post(history=changed_mind, k=5, exclude=[102]).json()) == plain
    by_time = [
        {"item_id": 102, "weight": 1, "timestamp": 1_700_000_300},
        {"item_id": 101, "weight": 4, "timestamp": 1_700_000_200},
        {"item_id": 102, "weight": 5, "timestamp": 1_700_000_100},
    ]
    assert ids(server.post(history=by_time, k=5, exclude=[102]).json()) == plain


def test_nothing_known_falls_back_to_popularity(server: Server) -> None:
    artifact, _ = server.registry.load()
    popularity = np.array(artifact.metadata.popularity)
    best = artifact.items.at(np.argsort(-popularity, kind="stable"))
    for posted in ([], history("zz"), [{"item_id": 101, "weight": 1}]):
        answer = server.post(history=posted, k=4).json()
        assert answer["source"] == "popularity"
        assert ids(answer) == best[:4]
        assert answer["items"][0]["score"] == popularity.max()
    assert ids(server.post(history=[], k=3, exclude=[best[0]]).json()) == best[1:4]


def test_similar_items_are_the_list_of_a_history_of_one(server: Server) -> None:
    similar = server.client.get("/v1/items/105/similar", params={"k": 6}).json()
    assert ids(similar) == ids(server.post(history=history(105), k=6).json())
    problem(server.client.get("/v1/items/999/similar"), 404)


def test_twenty_at_once_are_answered_as_one_by_one(server: Server) -> None:
    bodies = [{"history": history(100 + a, 100 + (a * 7 + 3) % N_ITEMS), "k": 8} for a in range(20)]
    alone = [ids(server.post(**body).json()) for body in bodies]
    with ThreadPoolExecutor(20) as pool:
        together = list(pool.map(lambda body: ids(server.post(**body).json()), bodies))
    assert together == alone


def test_model_health_and_description(server: Server) -> None:
    about = server.client.get("/v1/model").json()
    assert about["version"] == server.registry.current()
    assert (about["model"], about["items"], about["users"]) == ("ease", N_ITEMS, 60)
    assert about["data_digest"] == "sha256:planted"
    assert about["metrics"]["ndcg@10"]["mean"] == 0.5
    assert server.client.get("/health/live").json()["status"] == "live"
    assert server.client.get("/health/ready").json()["model_version"] == about["version"]
    paths = server.client.get("/openapi.json").json()["paths"]
    assert "/v1/recommendations" in paths
    assert "application/problem+json" in paths["/v1/recommendations"]["post"]["responses"]["422"]["content"]
    assert server.client.get("/docs").status_code == 200


def test_request_ids_go_in_and_out(server: Server) -> None:
    given = server.client.get("/v1/users/1/recommendations", headers={"X-Request-ID": "abc-1.2_3"})
    assert given.headers["x-request-id"] == given.json()["request_id"] == "abc-1.2_3"
    hostile = server.client.get("/v1/users/1/recommendations", headers={"X-Request-ID": "a b" * 90})
    assert hostile.headers["x-request-id"] == hostile.json()["request_id"] != "a b" * 90
