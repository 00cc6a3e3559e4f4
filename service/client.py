"""Client: the API from Python, typed. It needs httpx and the schemas alone: no model, no FastAPI.

with Client("http://localhost:8000") as client:
    for item in client.recommend([Event(item_id=260), Event(item_id=2571)], k=5, explain=True).items:
        print(item.rank, item.title, [reason.item_id for reason in item.because or []])
"""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from recsys_ae.ids import Id
from service.schemas import (
    Anomaly,
    BatchResults,
    Event,
    FieldError,
    Live,
    ModelInfo,
    Problem,
    RankRequest,
    Ready,
    RecommendationRequest,
    Recommendations,
)
from service.schemas_store import Interaction, Interactions, ItemState, PutItem, StoredInteractions, Taken

Answer = TypeVar("Answer", bound=BaseModel)


class ApiError(Exception):
    """The API refused or failed: its problem document. `errors` says what is wrong where."""

    def __init__(self, status: int, title: str, detail: str, request_id: str, errors: Sequence[FieldError] = ()) -> None:
        where = "".join(f"; {error.place}: {error.message}" for error in errors)
        super().__init__(f"{status} {title}: {detail}{where} (request {request_id})")
        self.status, self.title, self.detail, self.request_id, self.errors = status, title, detail, request_id, list(errors)


class Client:
    """One method a route. Each raises ApiError, and httpx.HTTPError where no answer comes. Safe to use from many threads."""

    def __init__(
        self, url: str, *, api_key: str | None = None, timeout: float = 10.0, transport: httpx.BaseTransport | None = None
    ) -> None:
        headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout, transport=transport)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self.close()

    def recommend_to_user(
        self,
        user_id: Id,
        *,
        k: int = 10,
        exclude: Sequence[Id] = (),
        categories: Sequence[str] | None = None,
        include_seen: bool = False,
        diversity: float = 0.0,
        calibration: float = 0.0,
        explore: float = 0.0,
        explain: bool = False,
    ) -> Recommendations:
        """The list of a stored user; ApiError with status 404 for one that is not."""
        query: dict[str, Any] = {"k": k, "exclude": list(exclude), "include_seen": include_seen, "explain": explain}
        query |= {"diversity": diversity, "calibration": calibration, "explore": explore, "category": list(categories or ())}
        return self._ask(Recommendations, "GET", f"/v1/users/{_part(user_id)}/recommendations", query)

    def recommend(self, history: Sequence[Event], **wishes: Any) -> Recommendations:
        """The list for a history. `wishes` are the other keys of RecommendationRequest: k, exclude, allow, diversity, ..."""
        return self._ask(
            Recommendations, "POST", "/v1/recommendations", body=RecommendationRequest(history=list(history), **wishes)
        )

    def recommend_in_batch(self, requests: Sequence[RecommendationRequest]) -> list[Recommendations | Problem]:
        """One result for each request, in their order; a Problem where that one was refused."""
        body = {"requests": [_posted(request) for request in requests]}
        return self._ask(BatchResults, "POST", "/v1/recommendations/batch", body=body).results

    def similar(self, item_id: Id, *, k: int = 10) -> Recommendations:
        """The items most like one."""
        return self._ask(Recommendations, "GET", f"/v1/items/{_part(item_id)}/similar", {"k": k})

    def rank(self, history: Sequence[Event], items: Sequence[Id]) -> Recommendations:
        """The candidates in order, unknown ones in `unknown_items`."""
        return self._ask(Recommendations, "POST", "/v1/rank", body=RankRequest(history=list(history), items=list(items)))

    def post_interactions(self, events: Sequence[Interaction]) -> Taken:
        """Store what users did; what is stored already is not stored again, so a batch may be sent again."""
        return self._ask(Taken, "POST", "/v1/interactions", body=Interactions(events=list(events)))

    def interactions_of_user(self, user_id: Id, *, limit: int = 100, after: int = 0) -> StoredInteractions:
        """A page of what is stored of a user."""
        path = f"/v1/users/{_part(user_id)}/interactions"
        return self._ask(StoredInteractions, "GET", path, {"limit": limit, "after": after})

    def anomaly_of_user(self, user_id: Id, *, false_positive_rate: float = 0.01) -> Anomaly:
        """How unlike the population a user is; ApiError with status 404 where nothing is stored of them."""
        path = f"/v1/users/{_part(user_id)}/anomaly"
        return self._ask(Anomaly, "GET", path, {"false_positive_rate": false_positive_rate})

    def erase_user(self, user_id: Id) -> None:
        """Forget a user."""
        self._send("DELETE", f"/v1/users/{_part(user_id)}")

    def put_item(
        self, item_id: Id, *, title: str | None = None, categories: Sequence[str] | None = None, available: bool = True
    ) -> ItemState:
        """Say what an item is called, belongs to, and whether it may be recommended."""
        body = PutItem(title=title, categories=None if categories is None else list(categories), available=available)
        return self._ask(ItemState, "PUT", f"/v1/items/{_part(item_id)}", body=body)

    def switch_off_item(self, item_id: Id) -> None:
        """Recommend it no more."""
        self._send("DELETE", f"/v1/items/{_part(item_id)}")

    def metrics(self) -> str:
        """Figures for Prometheus, as it reads them."""
        return self._send("GET", "/metrics").text

    def model(self) -> ModelInfo:
        """The version that is served."""
        return self._ask(ModelInfo, "GET", "/v1/model")

    def live(self) -> Live:
        """Whether the process answers."""
        return self._ask(Live, "GET", "/health/live")

    def ready(self) -> Ready:
        """Whether a model is served; ApiError with status 503 where none is."""
        return self._ask(Ready, "GET", "/health/ready")

    def _ask(
        self,
        kind: type[Answer],
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        body: BaseModel | Mapping[str, Any] | None = None,
    ) -> Answer:
        """The answer of a route. Raises ApiError for an error, and for an answer that is none of this API."""
        answer = self._send(method, path, query, body)
        try:
            return kind.model_validate_json(answer.content)
        except ValidationError:
            raise _strange(answer, kind.__name__) from None

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        body: BaseModel | Mapping[str, Any] | None = None,
    ) -> httpx.Response:
        """A successful answer. Raises ApiError for an error."""
        content = _posted(body) if isinstance(body, BaseModel) else body
        answer = self._http.request(method, path, params=query, json=content)
        if answer.is_success:
            return answer
        try:
            problem = Problem.model_validate_json(answer.content)
        except ValidationError:
            raise _strange(answer, "a problem document") from None
        raise ApiError(problem.status, problem.title, problem.detail, problem.request_id, problem.errors)


def _strange(answer: httpx.Response, expected: str) -> ApiError:
    """The error of an answer that is none of this API."""
    detail = f"the answer is not {expected}; is this the API?"
    return ApiError(answer.status_code, answer.reason_phrase, detail, answer.headers.get("x-request-id", "unknown"))


def _part(id_: Id) -> str:
    """An id as a part of a path, whatever signs it holds."""
    return quote(str(id_), safe="")


def _posted(body: BaseModel) -> dict[str, Any]:
    """A body without what was left at its default."""
    return body.model_dump(exclude_unset=True)
