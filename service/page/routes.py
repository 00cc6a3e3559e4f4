"""The page at `/`, its parts for the script, its files. Where keys are asked for, `/` shows no data: the script fetches it."""

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import FileResponse, HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import ValidationError

from recsys_ae.errors import StoreError
from service.engine import Engine
from service.live import Served
from service.observing import GivenList, note_list
from service.page.asked import DIVERSITIES, KS, LONGEST_HISTORY, Asked
from service.page.view import View, viewed
from service.problems import serving
from service.routes.reading import ServedNow, batcher_of, settings_of
from service.schemas import field_errors
from service.security import PAGE_DATA

STATIC = Path(__file__).parent / "static"
FILES = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
KEPT = "public, max-age=86400"  # its address changes with what is in it

router = APIRouter(include_in_schema=False)


@router.get("/")
async def page(request: Request, served: ServedNow) -> HTMLResponse:
    """The whole page; without data where keys are asked for."""
    return await _answer("page.html", request, served, locked=settings_of(request).keys is not None)


@router.get(PAGE_DATA)
async def data(request: Request, served: ServedNow) -> HTMLResponse:
    """The parts of the page that hold data, for the script to put in their places."""
    return await _answer("body.html", request, served, locked=False)


@router.get("/page/{name}")
async def file(name: str) -> FileResponse:
    """The style sheet, the script, the picture."""
    if name not in FILES:
        raise HTTPException(404)
    return FileResponse(STATIC / name, media_type=FILES[name], headers={"Cache-Control": KEPT})


async def _answer(template: str, request: Request, served: Served, locked: bool) -> HTMLResponse:
    view, asked, status, notices = None, Asked(), 200, []
    engine = served.main
    if engine is None:
        status, notices = (
            503,
            ["No model is published yet. Once the registry has a current version, the service shows it here."],
        )
    elif not locked:
        try:
            asked = Asked.of(request.query_params)
        except ValidationError as error:
            wrong = field_errors(error.errors(include_url=False, include_context=False, include_input=False))
            status, notices = 422, [f"This address cannot be shown: {one.place}: {one.message}." for one in wrong[:3]]
        engine, arm = served.engine_for(engine.users.key(asked.user) if asked.user else None)
        try:
            view = await viewed(serving(engine), batcher_of(request), asked, settings_of(request))
            note_list(request.scope, GivenList(view.list.source, view.facts.version, arm, None))
        except StoreError:
            status, notices = 503, ["The store of events does not answer. Try again soon."]
    return _rendered(template, status, view=view, asked=asked, locked=locked, notices=notices, ready=_ready(request, engine))


def _ready(request: Request, engine: Engine | None) -> str:
    """Health, as `/health/ready` has it."""
    if engine is None:
        return "no model"
    return "stopping" if request.app.state.stopping else "ready"


def _rendered(template: str, status: int, view: View | None, **values: Any) -> HTMLResponse:
    html = _environment().get_template(template).render(view=view, **values)
    # A lone surrogate in a title has no bytes; everything else passes through unchanged.
    return HTMLResponse(html.encode("utf-8", "replace"), status)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("service.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    digest = hashlib.sha256(b"".join((STATIC / name).read_bytes() for name in FILES)).hexdigest()[:12]
    environment.globals |= {"digest": digest, "ks": KS, "diversities": DIVERSITIES, "longest": LONGEST_HISTORY}
    return environment
