"""Rate limits by key: in memory, and in Redis where RECSYS_AE_TEST_REDIS names one, for two processes together."""

import os
from pathlib import Path

import httpx
import pytest

from recsys_ae.keys import add_key
from tests.service.conftest import World, assert_problem, service
from tests.service.test_app import command

REDIS = os.environ.get("RECSYS_AE_TEST_REDIS", "")
needs_redis = pytest.mark.skipif(not REDIS, reason="RECSYS_AE_TEST_REDIS is not set; expected the url of a Redis for tests")
PATH = "/v1/model"


def statuses(client: httpx.Client, key: str, times: int) -> list[int]:
    return [client.get(PATH, headers={"X-API-Key": key}).status_code for _ in range(times)]


@pytest.mark.slow
def test_each_key_has_its_own_limit(integers: World, tmp_path: Path) -> None:
    keys = [add_key(tmp_path / "k", name, ["read"]) for name in ("a", "b")]
    with service(integers.path, "--keys", str(tmp_path / "k"), rate_limit="3/hour") as started, started.client() as client:
        assert statuses(client, keys[0], 5) == [200, 200, 200, 429, 429]
        assert statuses(client, keys[1], 1) == [200]
        answer = client.get(PATH, headers={"X-API-Key": keys[0]})
        assert "3 per 1 hour" in assert_problem(answer, 429)["detail"]
        assert 1 <= int(answer.headers["retry-after"]) <= 3_600
        assert answer.headers["ratelimit-policy"] == '"key";q=3;w=3600'
        assert answer.headers["ratelimit"].startswith('"key";r=0;t=')
        assert client.get("/health/ready").status_code == 200


@needs_redis
def test_two_processes_share_a_limit(integers: World, tmp_path: Path) -> None:
    name = f"t{os.getpid()}-{tmp_path.name}"[:64]
    key = add_key(tmp_path / "k", name, ["read"])
    shared = {"rate_limit": "4/hour", "rate_limit_store": REDIS}
    arguments = (integers.path, "--keys", str(tmp_path / "k"))
    with service(*arguments, **shared) as one, service(*arguments, **shared) as two, one.client() as a, two.client() as b:
        assert statuses(a, key, 2) + statuses(b, key, 3) + statuses(a, key, 1) == [200, 200, 200, 200, 429, 429]


@pytest.mark.slow
def test_while_the_store_is_away_a_process_counts_for_itself(integers: World) -> None:
    away = {"rate_limit": "2/hour", "rate_limit_store": "redis://:a-password@127.0.0.1:1"}
    with service(integers.path, **away) as started, started.client() as client:
        assert statuses(client, "", 3) == [200, 200, 429]
    told = [line for line in started.lines if "store of rate limits is away" in line]
    assert len(told) == 1 and "a-password" not in "".join(started.lines)


def test_a_wrong_limit_is_one_clear_line(integers: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_AE__SERVICE__RATE_LIMIT", "often")
    ended = command("--registry", str(integers.path))
    assert ended.returncode == 2
    expected = "error: RECSYS_AE__SERVICE__RATE_LIMIT: expected a rate as `100/second` or `600/minute`; found 'often'\n"
    assert ended.stderr == expected
