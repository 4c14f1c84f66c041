"""Server of a page that is refreshed while a run goes on, for this machine alone."""

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import Any, cast

from metarule.config.messages import first_line
from metarule.config.toml import ConfigError
from metarule.reports.content import Page
from metarule.reports.page import read_page, render
from metarule.runs.directory import REPORT
from metarule.runs.stopping import Terminated

__all__ = ["page_server", "serve_page"]

# Seconds between two questions of a page for a newer one, and those that a request may take.
_SECONDS, _TIMEOUT = 3, 10
# Endings of the files that a page is made of.
_READ = (".json", ".jsonl", ".toml", ".csv")


def serve_page(path: Path, say: Callable[[str], None]) -> None:
    """Serve the page of a run or a sweep until Ctrl-C.

    Args:
        path: its directory.
        say: receives the address.

    Raises:
        ConfigError: no run and no sweep there.
    """
    with page_server(path) as server:
        say(f"http://127.0.0.1:{server.server_port}/")
        try:
            server.serve_forever()
        except KeyboardInterrupt as stop:
            if isinstance(stop, Terminated):
                raise


def page_server(path: Path) -> ThreadingHTTPServer:
    """Make a server of the page of a run or a sweep, at a free port of the loopback interface.

    It answers requests for `/` that name this machine as their host, so that no page of another host can read it.
    """
    current = _Current(path)
    current.text(current.tag())  # an error is that of the command

    class Handler(_Handler):
        content = current

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    return server


class _Current:
    """The page as of the last change of a file."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, Lock()
        self._text, self._tag = b"", ""

    def tag(self) -> str:
        """Hash of the names, times and sizes of the files that the page is made of."""
        return hashlib.sha256(repr(_state(self._path)).encode()).hexdigest()[:32]

    def text(self, tag: str) -> bytes:
        """Text of the page, which is made again if its tag is another one."""
        with self._lock:
            if tag != self._tag:
                self._text, self._tag = self._rendered(tag), tag
            return self._text

    def _rendered(self, tag: str) -> bytes:
        try:
            page = read_page([str(self._path)])
        except ConfigError as error:
            if not self._text:
                raise
            page = Page(self._path.name, "cannot be read now", (first_line(error),), (), (), ())
        return render(page, _SECONDS, tag).encode()


def _state(path: Path) -> list[tuple[str, int, int]]:
    """Names, times and sizes of the files that a page is made of."""
    found = []
    for folder, _, names in os.walk(path):
        for name in names:
            if name.endswith(_READ) and name != REPORT:
                with suppress(FileNotFoundError):  # it was replaced meanwhile
                    status = (file := Path(folder, name)).stat()
                    found.append((str(file), status.st_mtime_ns, status.st_size))
    return sorted(found)


class _Handler(BaseHTTPRequestHandler):
    """Handler of requests for one page."""

    content: _Current
    timeout = _TIMEOUT
    server_version, sys_version = "metarule", ""

    def do_GET(self) -> None:
        """Send the page, or only that it has not changed."""
        self._answer(with_text=True)

    def do_HEAD(self) -> None:
        """Send the tag of the page."""
        self._answer(with_text=False)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged."""

    def _answer(self, with_text: bool) -> None:
        port = cast(ThreadingHTTPServer, self.server).server_port
        if self.headers.get("Host") not in (f"127.0.0.1:{port}", f"localhost:{port}"):
            self.send_error(HTTPStatus.FORBIDDEN)
        elif self.path != "/":
            self.send_error(HTTPStatus.NOT_FOUND)
        else:
            self._send(self.content.tag(), with_text)

    def _send(self, tag: str, with_text: bool) -> None:
        is_same = self.headers.get("If-None-Match") == f'"{tag}"'
        text = b"" if is_same or not with_text else self.content.text(tag)
        self.send_response(HTTPStatus.NOT_MODIFIED if is_same else HTTPStatus.OK)
        self.send_header("ETag", f'"{tag}"')
        self.send_header("Cache-Control", "no-cache")
        if text:
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
