"""What a store tells of what it was given, and what the server makes of it."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from desktopgrid.server.config import StoreSection
from desktopgrid.server.objectstore import ObjectStore

pytestmark = pytest.mark.feature("XW-DM-1")
SHA256 = hashlib.sha256(b"content").hexdigest()
RIGHT = base64.b64encode(hashlib.sha256(b"content").digest()).decode()
WRONG = base64.b64encode(hashlib.sha256(b"CONTENT").digest()).decode()


class Store(ThreadingHTTPServer):
    """A store with one object, of which it says what it is told to."""

    said: dict[str, str]


class Answers(BaseHTTPRequestHandler):
    server: Store

    def do_HEAD(self) -> None:
        self.send_response(200 if self.server.said else 404)
        for name, value in self.server.said.items():
            if name != "x-amz-checksum-sha256" or "x-amz-checksum-mode" in self.headers:
                self.send_header(name, value)
        self.send_header("Last-Modified", "Wed, 25 Nov 2026 12:00:00 GMT")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: it is a test."""


@pytest.fixture
def store() -> Iterator[Store]:
    with Store(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ({}, "nothing came"),
        ({"Content-Length": "6"}, "6 bytes came to the S3 store, not 7 bytes"),
        ({"Content-Length": "7"}, None),
        ({"Content-Length": "7", "x-amz-checksum-sha256": RIGHT}, None),
        ({"Content-Length": "7", "x-amz-checksum-sha256": WRONG}, "another SHA-256"),
        ({"Content-Length": "7", "x-amz-checksum-sha256": f"{WRONG}-3"}, None),
    ],
)
def test_what_came_is_what_was_to_come_as_far_as_the_store_tells(
    store: Store, tmp_path: Path, said: dict[str, str], fault: str | None
) -> None:
    credentials = tmp_path / "credentials"
    credentials.write_text("[default]\naws_access_key_id = k\naws_secret_access_key = s\n")
    credentials.chmod(0o600)
    endpoint = f"http://127.0.0.1:{store.server_address[1]}"
    objects = ObjectStore(StoreSection(endpoint, "grid", credentials=credentials))
    store.said = said
    found = objects.fault(SHA256, "holder", 7)
    assert (found is None) == (fault is None)
    assert fault is None or fault in str(found)
