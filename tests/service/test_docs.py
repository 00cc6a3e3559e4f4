"""docs/api.md is true: every example is asked and answered as it says, every route and limit stands there."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.app import create_app
from service.settings import Settings
from tests.service.conftest import World

DOCS = Path(__file__).parents[2] / "docs"
PAGE, STORE, OPERATING = ((DOCS / f"{name}.md").read_text() for name in ("api", "store", "operating"))
EXAMPLE = re.compile(r"```http\n(GET|POST|PUT|DELETE) (\S+)\n(?:\n(.+?)\n)?```\n\n```json\n(.+?)\n```", re.DOTALL)
EXAMPLES = EXAMPLE.findall(PAGE)
VERSION = "20261124T031500-ease-1a2b3c4d"
VARIES = {"request_id": "...", "model_version": VERSION, "version": VERSION, "trained_at": "2026-11-24T03:15:00+00:00"}


def settled(value: Any) -> Any:
    """An answer with what differs from run to run replaced, and scores rounded as the page has them."""
    if isinstance(value, dict):
        own = VARIES
        if value.get("status") == 422:  # its phrase is Python's own, and not the same in all versions
            own = VARIES | {"title": "Unprocessable Content"}
        return {key: own[key] if key in own else settled(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [settled(inner) for inner in value]
    return round(value, 4) if isinstance(value, float) else value


def asked(api: httpx.Client, method: str, path: str, body: str) -> Any:
    """The settled answer of an example."""
    headers = {"content-type": "application/json"} if body else {}
    return settled(api.request(method, path, content=body.encode(), headers=headers).json())


def close(one: Any, other: Any) -> bool:
    """Equal, but for the last digit of numbers."""
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(close(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(close, one, other))
    if isinstance(one, float) or isinstance(other, float):
        return bool(one == pytest.approx(other, abs=2e-4))
    return type(one) is type(other) and one == other


@pytest.mark.parametrize(("method", "path", "body", "answer"), EXAMPLES)
def test_an_example_is_answered_as_it_says(api: httpx.Client, method: str, path: str, body: str, answer: str) -> None:
    found = asked(api, method, path, body)
    assert close(found, json.loads(answer)), json.dumps(found)


def test_every_route_has_an_example(integers: World) -> None:
    assert len(EXAMPLES) == PAGE.count("```http")
    shown = [(method, path.partition("?")[0]) for method, path, _, _ in EXAMPLES]
    for path, operations in create_app(Settings(registry=integers.path)).openapi()["paths"].items():
        pattern = re.sub(r"\{\w+\}", "[^/]+", path)
        for method in operations:
            if f"`{method.upper()} {path}" in STORE or path == "/metrics":  # docs/store.md and docs/operating.md
                continue
            assert any(m == method.upper() and re.fullmatch(pattern, p) for m, p in shown), f"{method} {path}"


def test_every_limit_is_on_the_page() -> None:
    for name, field in Settings.model_fields.items():
        if name.startswith("largest_"):
            assert field.default == 4 * 2**20 or f"{field.default:,}" in PAGE + STORE + OPERATING, name
            assert name.upper() in (PAGE + STORE + OPERATING).replace("`largest", "`LARGEST").upper(), name


def test_the_python_of_the_page_runs(api: httpx.Client) -> None:
    code = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[0].replace("http://localhost:8000", str(api.base_url))
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    lines = ended.stdout.splitlines()
    assert len(lines) == 6 and lines[0].startswith("1 Title of ") and lines[-1].startswith("404 "), ended.stderr
