"""An object store on this machine that speaks S3 (moto): what was asked of it is kept, and it misbehaves as told."""

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import boto3
import httpx
import pytest
from werkzeug.serving import make_server

from recsys_ae import objects

BUCKET = "shop"
KEY, SECRET = "AKIATESTKEYOFTHESHOP", "a-secret-that-nobody-is-told"


class Store:
    """`asked` holds method and path of every request; `before` is called with them and may hold a request back."""

    def __init__(self) -> None:
        from moto.server import DomainDispatcherApplication, create_backend_app

        self.asked: list[tuple[str, str]] = []
        self.before: Callable[[str, str], None] | None = None
        self._app = DomainDispatcherApplication(create_backend_app)
        self.server = make_server("127.0.0.1", 0, self, threaded=True)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"].encode("latin-1").decode()
        if not path.startswith("/moto-api"):
            self.asked.append((method, path))
            if self.before is not None:
                self.before(method, path)
        return self._app(environ, start_response)

    @property
    def fetched(self) -> list[str]:
        """Keys of the objects that were read, a part or the whole, since `asked` was emptied."""
        return [path.removeprefix(f"/{BUCKET}/") for method, path in self.asked if method == "GET" and is_object(path)]

    def put(self, key: str, content: bytes) -> None:
        self.client.put_object(Bucket=BUCKET, Key=key, Body=content)

    def remove(self, key: str) -> None:
        self.client.delete_object(Bucket=BUCKET, Key=key)

    @cached_property
    def client(self) -> Any:
        return boto3.client(
            "s3", endpoint_url=self.url, aws_access_key_id=KEY, aws_secret_access_key=SECRET, region_name="us-east-1"
        )

    def environment(self) -> dict[str, str]:
        """What a client finds in its environment; nothing of this machine's own."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_MAX_ATTEMPTS": "1",
        }


def is_object(path: str) -> bool:
    """Whether a request is for an object and not for its bucket."""
    return path.startswith(f"/{BUCKET}/") and path != f"/{BUCKET}/"


@contextmanager
def running() -> Iterator[Store]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    store = Store()
    thread = threading.Thread(target=store.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield store
    finally:
        store.server.shutdown()
        thread.join()
        store.server.server_close()


@contextmanager
def emptied(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """The store with one empty bucket, its address and credentials in the environment."""
    store.before = None
    httpx.post(f"{store.url}/moto-api/reset").raise_for_status()
    for name, value in store.environment().items():
        monkeypatch.setenv(name, value)
    store.client.create_bucket(Bucket=BUCKET)
    monkeypatch.setattr(objects, "_driver", _once)  # a client takes longer to make than all that it is asked here
    store.asked.clear()
    yield store
    store.before = None


_made: dict[tuple[Any, ...], Any] = {}
_driver = objects._driver


def _once(url: str, options: objects.Options) -> Any:
    """One driver for one protocol, environment and settings."""
    environment = tuple(sorted((name, value) for name, value in os.environ.items() if name.startswith("AWS_")))
    key = (url.partition("://")[0], environment, repr(options))
    if key not in _made:
        _made[key] = _driver(url, options)
    return _made[key]
