"""Asked: what an address of the page asks for. The address is all the state there is, so that it can be kept and passed on."""

from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import urlencode

from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import QueryParams

from service.schemas import LONGEST_ID

LONGEST_HISTORY = 100
"""Items of a history built by clicking: an address must stay one that browsers and proxies take."""
KS = (10, 20, 50)
DIVERSITIES = {0.0: "none", 0.3: "some", 0.6: "much"}

Text = Annotated[str, Field(max_length=LONGEST_ID)]


class Asked(BaseModel):
    """The query of an address: the history built so far, oldest first, and what else is looked at."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    history: Annotated[tuple[Text, ...], Field(max_length=LONGEST_HISTORY)] = ()
    q: Text = ""
    similar: Text = ""
    user: Text = ""
    k: int = Field(KS[0], ge=1, le=LONGEST_HISTORY)
    diversity: float = Field(0.0, ge=0, le=1, allow_inf_nan=False)

    @classmethod
    def of(cls, query: QueryParams) -> "Asked":
        """Raises pydantic.ValidationError. A field that a form left empty is as if not there."""
        values: dict[str, Any] = {name: value for name, value in query.items() if value}
        values["history"] = tuple(filter(None, query.getlist("history")))
        return cls.model_validate(values)

    def address(self, **changes: Any) -> str:
        """The address of what is asked with those changes, from the page."""
        return "?" + urlencode(self.model_copy(update=changes).pairs(), errors="replace")

    def pairs(self, *but: str) -> list[tuple[str, str]]:
        """Names and values of the query, but for those names: of an address, or of the hidden fields of a form."""
        pairs = [("history", id_) for id_ in self.history]
        pairs += [(name, str(getattr(self, name))) for name in ("q", "similar", "user", "k", "diversity")]
        return [(name, value) for name, value in pairs if name not in but and value != str(_default(name))]

    def adding(self, id_: str) -> str:
        """With an item more in the history; beyond the longest the oldest goes. Leaves the stored user."""
        kept: Sequence[str] = [known for known in self.history if known != id_]
        return self.address(history=(*kept, id_)[-LONGEST_HISTORY:], user="")

    def removing(self, id_: str) -> str:
        """Without an item of the history."""
        return self.address(history=tuple(known for known in self.history if known != id_))


def _default(name: str) -> Any:
    return Asked.model_fields[name].default
