"""A web server of one file on this machine, which misbehaves as told: one fault a request, in order, then none."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PAGE = b"<!DOCTYPE html><html><body>Please log in</body></html>"


class Site(ThreadingHTTPServer):
    """Serves `files` by path with ETag and ranges. `asked` holds the path and Range of every request."""

    daemon_threads = True

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = files
        self.etag: str | None = '"one"'
        self.faults: list[str] = []
        self.asked: list[tuple[str, str | None]] = []

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is part of the play."""


class _Handler(BaseHTTPRequestHandler):
    server: Site

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, status: int, body: bytes, length: int | None, sent: int | None = None, **headers: str) -> None:
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        if self.server.etag is not None and "ETag" not in headers:
            headers["ETag"] = self.server.etag
        for name, value in {"Content_Type": "application/octet-stream", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body[:sent])

    def do_GET(self) -> None:
        site = self.server
        asked = self.headers["Range"]
        site.asked.append((self.path, asked))
        fault = site.faults.pop(0) if site.faults else ""
        whole = site.files.get(self.path.lstrip("/"), b"")
        size = len(whole)
        start = 0
        if asked and fault != "no ranges" and (self.headers["If-Range"] == site.etag or fault == "forgets If-Range"):
            found = re.fullmatch(r"bytes=(\d+)-", asked)
            assert found
            start = int(found[1])
        part = {"Content_Range": f"bytes {start}-{size - 1}/{size}"} if start else {}
        status, rest = (206 if start else 200), whole[start:]
        match fault:
            case "" | "no ranges" | "forgets If-Range":
                self.answer(status, rest, len(rest), **part)
            case "breaks":
                self.answer(status, rest, len(rest), sent=len(rest) // 2, **part)
            case "breaks without a length":
                self.answer(status, rest, None, sent=len(rest) // 2, **part)
            case "says more":
                self.answer(status, rest, len(rest) + 7, **part)
            case "says less":
                self.answer(status, rest, len(rest) - 7, **part)
            case "sends more":
                self.answer(200, whole + b"x" * 1_000_000, None)
            case "other part":
                self.answer(206, whole[1:], size - 1, Content_Range=f"bytes 1-{size - 1}/{size}")
            case "page":
                self.answer(200, PAGE, len(PAGE), Content_Type="text/html; charset=utf-8")
            case "hidden page":
                self.answer(200, PAGE, len(PAGE))
            case "encoded":
                self.answer(200, whole, size, Content_Encoding="gzip")
            case "to itself":
                self.answer(302, b"", 0, Location=self.path)
            case "to plain HTTP":
                self.answer(301, b"", 0, Location="http://files.example.org/set.zip")
            case "moved":
                self.answer(302, b"", 0, Location=self.path + "?again")
            case _:
                self.answer(int(fault), b"no", 2)


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[Site]:
    with Site(files) as site:
        thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield site
        finally:
            site.shutdown()
            thread.join()
