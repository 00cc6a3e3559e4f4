"""Every error as an RFC 9457 problem document that tells what was expected and never what was sent."""

import json
import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from recsys_ae.errors import StoreError
from service.schemas import FieldError, Problem, field_errors

log = logging.getLogger("service")
Engine = TypeVar("Engine")

MEDIA_TYPE = "application/problem+json"
INVALID = "the request is not valid"


class ProblemResponse(JSONResponse):
    """Plain ASCII JSON, which no string can make fail."""

    media_type = MEDIA_TYPE

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False).encode("ascii")


def problem(
    status: int,
    detail: str,
    request_id: str,
    errors: Sequence[FieldError] = (),
    headers: dict[str, str] | None = None,
) -> ProblemResponse:
    """The answer for an error."""
    return ProblemResponse(described(status, detail, request_id, errors).model_dump(), status, headers)


def described(status: int, detail: str, request_id: str, errors: Sequence[FieldError] = ()) -> Problem:
    """The problem document of an error."""
    return Problem(title=HTTPStatus(status).phrase, status=status, detail=detail, request_id=request_id, errors=list(errors))


def install(app: FastAPI) -> None:
    """Errors of routes, of checks and of the router become problems; what is left the outermost middleware catches."""
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(StoreError, _on_store_error)


async def _on_http_error(request: Request, error: Exception) -> ProblemResponse:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers) if error.headers else None
    return problem(error.status_code, error.detail, request.state.request_id, headers=headers)


async def _on_store_error(request: Request, error: Exception) -> ProblemResponse:
    log.error("request %s: %s", request.state.request_id, error)
    detail = "the store of events does not answer; expected to work again soon"
    return problem(503, detail, request.state.request_id, headers={"Retry-After": "1"})


async def _on_invalid(request: Request, error: Exception) -> ProblemResponse:
    assert isinstance(error, RequestValidationError)
    return problem(422, INVALID, request.state.request_id, field_errors(error.errors()))


def invalid(place: tuple[int | str, ...], message: str) -> RequestValidationError:
    """The error for a value that only the settings refuse."""
    return RequestValidationError([{"type": "limit", "loc": place, "msg": message}])


def serving(engine: Engine | None) -> Engine:
    """The engine. Raises HTTPException where there is none."""
    if engine is None:
        raise HTTPException(503, "no model is published yet; expected a current version in the registry")
    return engine
