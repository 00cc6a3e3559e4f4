"""A file over HTTPS: goes on where a broken connection left it, and never lets a server send more than was expected."""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import httpx

from recsys_ae.datasets.catalogue import File
from recsys_ae.errors import FetchError

Progress: TypeAlias = Callable[[str, int, int | None], None]
"""Called with the file's name, the bytes here so far, and the bytes in all where known."""

PASSING = {408, 425, 429, 500, 502, 503, 504}  # answers that another attempt may better
RANGE = re.compile("bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|[*])")
LOOPBACK = {"127.0.0.1", "localhost", "::1"}


def silent(name: str, done: int, total: int | None) -> None:
    """Progress that nobody sees."""


class _BrokenError(Exception):
    """An attempt failed in a way that the next one may not."""


@dataclass(frozen=True)
class _Partial:
    """What is here of a file, with the validator (a strong ETag, else a date) of the version that it is of."""

    path: Path

    @property
    def _note(self) -> Path:
        return self.path.with_name(self.path.name + ".of")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def validator(self) -> str:
        return self._note.read_text("utf-8") if self._note.exists() else ""

    def begin(self, validator: str) -> None:
        self.drop()
        if validator:
            self._note.write_text(validator, "utf-8")

    def drop(self) -> None:
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def finish(self) -> Path:
        self._note.unlink(missing_ok=True)
        return self.path


@dataclass(frozen=True)
class Downloader:
    """How to fetch.

    attempts: connections per file, all told; pause: seconds before the second one, doubled for each after it; timeout: seconds
    without a byte; redirects: hops followed, each of which must be HTTPS as well; loopback: plain HTTP to this machine is
    taken too.
    """

    attempts: int = 6
    pause: float = 1.0
    timeout: float = 30.0
    redirects: int = 5
    loopback: bool = False

    def download(self, file: File, folder: Path, largest: int, progress: Progress = silent) -> Path:
        """Fetch `file` to `NAME.partial` in `folder`; what an earlier call left there is gone on from.

        Raises FetchError; bytes that came before a broken connection stay for the next call.
        """
        partial = _Partial(folder / f"{file.name}.partial")
        fault = "no attempt"
        with httpx.Client(timeout=self.timeout, follow_redirects=False, trust_env=not self.loopback) as client:
            for attempt in range(self.attempts):
                if attempt:
                    time.sleep(self.pause * 2 ** (attempt - 1))
                try:
                    self._attempt(client, file, partial, largest, progress)
                    return partial.finish()
                except (_BrokenError, httpx.TransportError) as error:
                    fault = str(error) or type(error).__name__
        raise FetchError(
            f"{file.url}: {fault}; gave up after {self.attempts} attempts. {partial.size:,} bytes are kept, the next fetch "
            "goes on from there; a file that you have from elsewhere is taken with --from"
        )

    def _attempt(self, client: httpx.Client, file: File, partial: _Partial, largest: int, progress: Progress) -> None:
        begun, validator = partial.size, partial.validator
        asked = {"Accept-Encoding": "identity"}
        if begun and validator:
            asked |= {"Range": f"bytes={begun}-", "If-Range": validator}
        with self._response(client, file.url, asked) as response:
            goes_on = response.status_code == 206 and _continues(response, begun, validator)
            if response.status_code == 200 or goes_on:
                total = _total(response)
                _check_headers(response, file, total)
                if not goes_on:
                    begun = 0
                    partial.begin(_validator(response))
                _receive(response, file, partial, begun, total, largest, progress)
            elif response.status_code in (206, 416):
                partial.drop()
                raise _BrokenError(f"another part of the file came than was asked for (answer {response.status_code})")
            elif response.status_code in PASSING:
                raise _BrokenError(f"the server answered {response.status_code} {response.reason_phrase}")
            else:
                raise FetchError(
                    f"{file.url}: the server answered {response.status_code} {response.reason_phrase}; expected the file"
                )

    @contextmanager
    def _response(self, client: httpx.Client, url: str, headers: Mapping[str, str]) -> Iterator[httpx.Response]:
        """The answer, after redirects."""
        here = httpx.URL(url)
        for _ in range(self.redirects + 1):
            self._check_scheme(here, url)
            with client.stream("GET", here, headers=headers) as response:
                if not response.has_redirect_location:
                    yield response
                    return
                try:
                    here = here.join(response.headers["location"])
                except httpx.InvalidURL as error:
                    raise FetchError(f"{url}: redirected to no address ({error})") from None
        raise FetchError(f"{url}: redirected more than {self.redirects} times, at last to {here}")

    def _check_scheme(self, here: httpx.URL, url: str) -> None:
        if here.scheme == "https" or (self.loopback and here.scheme == "http" and here.host in LOOPBACK):
            return
        led = "" if str(here) == url else f" leads to {here}, which"
        raise FetchError(f"{url}:{led} is not HTTPS; expected https://")


def _receive(
    response: httpx.Response, file: File, partial: _Partial, begun: int, total: int | None, largest: int, progress: Progress
) -> None:
    """Append the body to what is here. Raises _BrokenError where it ends early, FetchError where it does not end in time."""
    expected = total if file.size is None else file.size
    done, most = begun, largest if file.size is None else file.size
    progress(file.name, done, expected)
    with partial.path.open("ab") as out:
        for block in response.iter_raw():
            done += len(block)
            if done > most:
                partial.drop()
                raise FetchError(f"{file.url}: the server sent more than {most:,} bytes; expected at most that")
            out.write(block)
            progress(file.name, done, expected)
    if expected is not None and done < expected:
        raise _BrokenError(f"the connection ended after {done:,} of {expected:,} bytes")


def _check_headers(response: httpx.Response, file: File, total: int | None) -> None:
    """Raises FetchError for an answer that cannot be the file; what came before it stays (a network's log-in page, say)."""
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    coding = response.headers.get("content-encoding", "identity").lower()
    fault = ""
    if kind in ("text/html", "application/xhtml+xml"):
        fault = f"the server answered a web page ({kind}); expected the file"
    elif coding != "identity":
        fault = f"the server sent the file encoded ({coding}); expected it as it is"
    elif total is not None and file.size is not None and total != file.size:
        fault = f"the server's file has {total:,} bytes; expected {file.size:,}"
    if fault:
        raise FetchError(f"{file.url}: {fault}")


def _continues(response: httpx.Response, begun: int, validator: str) -> bool:
    """Whether a partial answer is the rest of what is here, and of the same version."""
    start = RANGE.fullmatch(response.headers.get("content-range", ""))
    return begun > 0 and start is not None and int(start[1]) == begun and _validator(response) in ("", validator)


def _total(response: httpx.Response) -> int | None:
    """Bytes of the whole file, where the answer says it."""
    if response.status_code == 206:
        found = RANGE.fullmatch(response.headers.get("content-range", ""))
        return int(found[2]) if found and found[2] != "*" else None
    length = response.headers.get("content-length", "")
    return int(length) if re.fullmatch("[0-9]{1,18}", length) else None


def _validator(response: httpx.Response) -> str:
    """What names this version of the file to the server: If-Range takes no weak ETag (RFC 9110, 13.1.5)."""
    tag = response.headers.get("etag", "")
    return tag if tag and not tag.startswith("W/") else response.headers.get("last-modified", "")
