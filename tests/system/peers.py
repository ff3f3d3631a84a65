"""A peer that says what it likes: frames by hand over a real connection."""

from __future__ import annotations

import json
import math
import secrets
import time
from typing import Any

from desktopgrid.link import websocket
from desktopgrid.link.address import ServerName
from desktopgrid.link.connection import Connection
from desktopgrid.link.duplex import Duplex
from desktopgrid.link.errors import ConnectionLost, RefusedByServer
from desktopgrid.link.handshake import Dialler
from desktopgrid.link.identity import Identity
from desktopgrid.model.objects import new_uid
from desktopgrid.wire.messages import Welcome
from tests.system.processes import DEADLINE

FACTS = {"name": "raw", "cpu": "x86_64", "os": "linux", "cores": 1, "memory_mib": 1000}
FACTS |= {"disk_mib": 1000}


class RawPeer:
    """A session whose frames the test writes itself. It shakes hands as it should."""

    def __init__(
        self,
        identity: Identity,
        *,
        session: str = "",
        seen: int = 0,
        polls: bool = False,
        **hello: Any,
    ) -> None:
        self.session = session or secrets.token_hex(16)
        self.host = new_uid()
        if identity.kind != "client":
            hello = {"host": self.host, "facts": FACTS, **hello}
            self.host = str(hello["host"])
        dialler = Dialler(lambda: hello, "raw", None, {})
        server = ServerName.parse(identity.servers[0])
        if polls:
            dialler._polls_until[server] = math.inf
        opened = dialler.open(server, identity, self.session, seen)
        self.connection: Connection = opened.connection
        self.welcome: Welcome = opened.welcome
        self.heard: list[tuple[str, int, Any]] = []
        """All messages, in order."""
        self.acknowledged = 0
        self.ending = ""
        """How the connection ended, if it did."""
        for frame in opened.frames:
            self._take(frame)

    @property
    def port(self) -> int:
        """Our end of the connection."""
        assert isinstance(self.connection, Duplex)
        port: int = self.connection._stream._socket.getsockname()[1]
        return port

    def send(self, frame: bytes | list[Any]) -> None:
        """Send a frame: as it is, or as JSON."""
        raw = frame if isinstance(frame, bytes) else json.dumps(frame).encode()
        self.connection.send(raw)

    def say(self, verb: str, number: int, body: Any, acknowledging: int = 0) -> None:
        """Send one message."""
        self.send([acknowledging, [verb, number, body]])

    def listen(self, seconds: float = 0.05) -> bool:
        """Hear what comes next; whether anything did."""
        if self.ending:
            return False
        try:
            frames = self.connection.receive(seconds)
        except ConnectionLost as lost:
            self.ending = str(lost)
            self.connection.close()
            return True
        for frame in frames:
            self._take(frame)
        return bool(frames)

    def _take(self, frame: bytes) -> None:
        acknowledged, *messages = json.loads(frame)
        self.acknowledged = max(self.acknowledged, acknowledged)
        self.heard += [(verb, number, body) for verb, number, body in messages]

    def hear(self, verb: str, **fields: Any) -> dict[str, Any]:
        """The body of the first message of this verb with these fields."""
        deadline = time.monotonic() + DEADLINE
        while True:
            for said, _, body in self.heard:
                if said == verb and fields.items() <= body.items():
                    found: dict[str, Any] = body
                    return found
            assert time.monotonic() < deadline, f"no {verb} with {fields} in {self.heard}"
            assert self.listen(1.0) or not self.ending, f"{self.ending}: {self.heard}"

    def has_answered(self, number: int) -> bool:
        """Whether the server has answered a request."""
        return any(
            verb in ("reply", "failure") and body["to"] == number for verb, _, body in self.heard
        )

    def answer(self, number: int) -> tuple[str, dict[str, Any]]:
        """`reply` or `failure` to a request, and its body."""
        deadline = time.monotonic() + DEADLINE
        while True:
            for verb, _, body in self.heard:
                if verb in ("reply", "failure") and body["to"] == number:
                    return verb, body
            assert time.monotonic() < deadline, f"request {number} was not answered"
            assert self.listen(1.0) or not self.ending, f"{self.ending}: {self.heard}"

    def refusal(self) -> tuple[str, str]:
        """Why the server ended the connection: code and reason. It is closed when this returns."""
        deadline = time.monotonic() + DEADLINE
        while not self.ending:
            assert time.monotonic() < deadline, "the connection goes on"
            self.listen(1.0)
        for verb, _, body in self.heard:
            if verb == "refused":
                return body["code"], body["reason"]
        return "", self.ending

    def cut(self, frame: bytes = b"", sent: int = 0) -> None:
        """Cut the connection, in the middle of ``frame`` when ``sent`` bytes of it are out."""
        duplex = self.connection
        assert isinstance(duplex, Duplex)
        if sent:
            duplex._stream.write(websocket.frame(frame)[:sent])
            duplex._stream.drain(DEADLINE)
        duplex._stream.abort()
        duplex._stream.close()

    def close(self) -> None:
        """Go without a word."""
        self.connection.close()


def refused_hello(identity: Identity, **hello: Any) -> tuple[str, str]:
    """Code and reason of the refusal that this hello gets."""
    try:
        RawPeer(identity, **hello)
    except RefusedByServer as refused:
        return refused.error.code, str(refused.error)
    raise AssertionError("the hello was welcome")


def submission(**fields: Any) -> dict[str, Any]:
    """The body of a submit."""
    description = {"application": "square", **fields.pop("description", {})}
    return {"uid": new_uid(), "description": description, **fields}
