"""A webhook: the record as JSON by POST, signed where there is a key. `text` is what Slack and Mattermost show."""

import hashlib
import hmac
import html
import json
import time
from collections.abc import Callable

from pipelines.config import NotifySection, RunConfig
from pipelines.telling.record import NightRecord
from recsys_ae import __version__
from recsys_ae.errors import RecsysError

PAUSES = (1.0, 2.0)
"""Seconds before the second and the third try."""
PASSING = {408, 425, 429}
"""Answers after which another try may help, beside 5xx."""
LONGEST = 3000
"""Characters of the text: chats refuse or fold longer ones."""
SIGNATURE = "X-Recsys-Ae-Signature"


def post(config: RunConfig, record: NightRecord, pause: Callable[[float], None] = time.sleep) -> None:
    """Tell of the outcomes in `[notify] on`; a killed run is a failed one. Raises RecsysError where nobody took it."""
    section = config.notify
    if section.url is None or ("failed" if record.outcome == "killed" else record.outcome) not in section.on:
        return
    import httpx

    body = json.dumps({"text": text_of(record), **record.as_json()}).encode()
    headers = {"Content-Type": "application/json", "User-Agent": f"recsys-ae/{__version__}", **signature(section, body)}
    said = ""
    for wait in (*PAUSES, None):
        try:
            # Streamed and left unread: what is answered beyond the status concerns nobody, however long it is.
            with httpx.stream(
                "POST", section.url.get_secret_value(), content=body, headers=headers, timeout=section.timeout
            ) as answer:
                if answer.is_success:
                    return
                said = f"answered {answer.status_code}"
                if answer.status_code < 500 and answer.status_code not in PASSING:
                    break
        except httpx.TimeoutException:
            said = f"no answer within {section.timeout:g} s"
        except httpx.TransportError as error:
            said = str(error) or type(error).__name__
        if wait is not None:
            pause(wait)
    raise RecsysError(f"{said}; expected 2xx")


def signature(section: NotifySection, body: bytes) -> dict[str, str]:
    """HMAC-SHA256 of the body as it is sent, in hexadecimal; no header without a key."""
    if section.signing_key is None:
        return {}
    key = section.signing_key.get_secret_value().encode()
    return {SIGNATURE: f"sha256={hmac.new(key, body, hashlib.sha256).hexdigest()}"}


def text_of(record: NightRecord) -> str:
    """For people, in a line or two; a chat's own markup in a message (<!channel>) is made harmless."""
    lines = [f"{record.project}: {record.headline}"]
    if record.error:
        lines.append(record.error)
    lines += record.warnings
    lines.append(f"{record.host}:{record.report or record.folder}")
    return html.escape("\n".join(lines)[:LONGEST], quote=False)
