"""An issuer of tokens on loopback: real HTTPS, its metadata, its keys, and tokens as one asks."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.authority import Authority

AUDIENCE = "https://grid.example.org"


class IssuerUnderTest:
    """Says what ``metadata`` and ``keys`` say, and counts who asks."""

    def __init__(self, directory: Path) -> None:
        authority = Authority.new()
        self.ca = directory / "issuer-ca.pem"
        self.ca.write_text(authority.pem)
        self.keys: dict[str, Any] = {}
        self.metadata: dict[str, Any] = {}
        self.asked: list[str] = []
        self.is_down = False
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked.append(self.path)
                body = issuer.answer(self.path)
                self.send_response(200 if body is not None else 500)
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = authority.server_context(directory, ("127.0.0.1",))
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self._server.server_address[1]}/realm"
        self.metadata = {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}
        self._thread = threading.Thread(target=self._server.serve_forever, name="issuer")
        self.add_key("first")

    def __enter__(self) -> IssuerUnderTest:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._thread.join(5)
        self._server.server_close()

    def add_key(self, kid: str, key: Any = None) -> Any:
        """A key that the issuer signs by from now on."""
        self.keys[kid] = key or ec.generate_private_key(ec.SECP256R1())
        return self.keys[kid]

    def answer(self, path: str) -> bytes | None:
        """What it says at ``path``; nothing while it is down."""
        if self.is_down:
            return None
        if path.endswith("/.well-known/openid-configuration"):
            return json.dumps(self.metadata).encode()
        listed = []
        for kid, key in self.keys.items():
            kind = jwt.algorithms.RSAAlgorithm if is_rsa(key) else jwt.algorithms.ECAlgorithm
            listed.append({**json.loads(kind.to_jwk(key.public_key())), "kid": kid, "use": "sig"})
        return json.dumps({"keys": listed}).encode()

    def token(
        self, *, by: str = "first", key: Any = None, headers: Any = None, **claims: Any
    ) -> str:
        """A token about ann for an hour, unless said otherwise; without claims that are None."""
        now = int(time.time())
        said = {
            **{"iss": self.url, "aud": AUDIENCE, "sub": "ann", "iat": now, "exp": now + 3600},
            **{"scope": "openid compute.read compute.create compute.cancel"},
            **claims,
        }
        said = {name: value for name, value in said.items() if value is not None}
        signer = key or self.keys[by]
        algorithm = "RS256" if is_rsa(signer) else "ES256"
        return jwt.encode(said, signer, algorithm, headers={"kid": by, **(headers or {})})


def is_rsa(key: Any) -> bool:
    """Whether ``key`` is RSA's."""
    return isinstance(key, rsa.RSAPrivateKey)
