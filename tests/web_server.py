"""A web server on loopback whose answers a test chooses: honest ones, and others."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[["Asked"], None]


class Asked(BaseHTTPRequestHandler):
    """One request. What ``server.pages`` has under its path answers it."""

    protocol_version = "HTTP/1.1"
    server: Any

    def do_GET(self) -> None:
        """Answer as the test wants it."""
        self.server.asked.append((self.path, dict(self.headers)))
        path = self.path.removeprefix(self.server.url)
        answer = self.server.pages.get(path)
        if answer is None:
            self.say(404)
        else:
            answer(self)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing on standard error."""

    @property
    def start(self) -> int:
        """Where the asker wants to go on."""
        return int(self.headers.get("Range", "bytes=0-")[len("bytes=") :].partition("-")[0])

    def say(self, status: int, **headers: object) -> None:
        """A head without a body."""
        self.send_response(status)
        for name, value in {"Content_Length": 0, **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def serve(self, content: bytes, until: int | None = None) -> None:
        """``content`` from where it is asked for; its connection breaks after ``until`` bytes."""
        start, size = self.start, len(content)
        more = {"Content_Range": f"bytes {start}-{size - 1}/{size}"} if start else {}
        self.say(206 if start else 200, Content_Length=size - start, **more)
        self.wfile.write(content[start : None if until is None else start + until])
        if until is not None:
            self.close_connection = True


class WebServer(ThreadingHTTPServer):
    """Pages by their path, on a port of 127.0.0.1, for the length of a `with`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Asked)
        self.pages: dict[str, Answer] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.over = threading.Event()
        """Set at the end; an answer that hangs waits for it."""
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,))

    def handle_error(self, request: object, client_address: object) -> None:
        """Who asked went away, or did not trust us: tests see that at its side."""

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def page(self, path: str, content: bytes) -> str:
        """An honest page; its URI."""
        self.pages[path] = lambda asked: asked.serve(content)
        return self.url + path

    def __enter__(self) -> WebServer:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.over.set()
        self.shutdown()
        self._thread.join()
        self.server_close()
