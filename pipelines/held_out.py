"""Which rows a twin was kept from, as its manifest says: what a later night must know before it trusts it."""

from collections.abc import Mapping
from typing import Any

from pipelines.config import RunConfig
from recsys_ae.split import Split


def held_out(config: RunConfig, split: Split) -> dict[str, Any]:
    """How tonight's held-out rows were chosen."""
    return {
        "split": config.split.model_dump(mode="json") | {"users": split.refit.users.kind},
        "trained_until": split.window.validation_from if split.window else None,
    }


def may_have_seen(known: Mapping[str, Any] | None, config: RunConfig, split: Split) -> str | None:
    """Why a twin of which this is known may have trained on tonight's test rows; None where it has not, or nothing is known."""
    if known is None:
        return None
    if split.window is not None and known["split"]["kind"] == "by_time":
        until = known["trained_until"]
        late = until is not None and until > split.window.test_from
        return f"it was trained until {until}, and tonight's test begins at {split.window.test_from}" if late else None
    was, tonight = known["split"], held_out(config, split)["split"]
    if changed := [key for key in ("kind", "by", "salt", "users") if was.get(key) != tonight[key]]:
        return f"[split] was another when it was made: {', '.join(changed)}"
    # The same hashes decide: the least of them are for the test, the next for validation, and it was kept from both.
    kept_from = was["test_users"] + was["validation_users"]
    if tonight["test_users"] > kept_from:
        return f"it was kept from a share of {kept_from:g} of the users, and {tonight['test_users']:g} are tested tonight"
    return None
