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
    current.page()  # an error is that of the command

    class Handler(_Handler):
        page = staticmethod(current.page)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    return server


class _Current:
    """The page as of the last change of a file; one that is damaged by now gives way to the page before."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, Lock()
        self._state: Any = None
        self._text, self._tag = b"", ""

    def page(self) -> tuple[bytes, str]:
        """Page and its tag."""
        with self._lock:
            if (state := _state(self._path)) != self._state:
                self._text = self._rendered()
                self._tag = f'"{hashlib.sha256(self._text).hexdigest()[:32]}"'
                self._state = state
            return self._text, self._tag

    def _rendered(self) -> bytes:
        try:
            return render(read_page([str(self._path)]), refresh=_SECONDS).encode()
        except ConfigError as error:
            if not self._text:
                raise
            page = Page(self._path.name, "cannot be read now", (first_line(error),), (), (), ())
            return render(page, refresh=_SECONDS).encode()


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

    page: Callable[[], tuple[bytes, str]]
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
            text, tag = self.page()
            is_same = self.headers.get("If-None-Match") == tag
            self.send_response(HTTPStatus.NOT_MODIFIED if is_same else HTTPStatus.OK)
            self.send_header("ETag", tag)
            self.send_header("Cache-Control", "no-cache")
            if not is_same:
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            if with_text and not is_same:
                self.wfile.write(text)
