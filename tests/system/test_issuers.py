"""Tokens of an issuer over real HTTPS: those that are believed, and all the others."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from desktopgrid.client.bearer import discovered
from desktopgrid.client.grid import Grid
from desktopgrid.link.identity import Identity
from desktopgrid.link.transfer import login_by_token
from desktopgrid.model.errors import (
    AccessDenied,
    BadRequest,
    GridError,
    NotAuthenticated,
    Unavailable,
)
from desktopgrid.model.objects import ANY_PLATFORM, Description
from desktopgrid.model.rights import EVERYTHING, Scope
from desktopgrid.server import issuers
from desktopgrid.server.config import IssuerSection
from desktopgrid.server.issuers import ASKED_EVERY, KEPT, KEPT_AT_MOST, Issuer
from tests.issuer import AUDIENCE, IssuerUnderTest
from tests.system.processes import ServerUnderTest, environment

pytestmark = pytest.mark.feature("XW-SEC-1")


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IssuerUnderTest]:
    with IssuerUnderTest(tmp_path_factory.mktemp("issuer")) as issuer:
        yield issuer


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[IssuerUnderTest]:
    """One of a test's own, whose keys it may change."""
    with IssuerUnderTest(tmp_path) as issuer:
        yield issuer


class Clock:
    """A clock that is put forward."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


def known(issuer: IssuerUnderTest, clock: Any = None, **settings: Any) -> Issuer:
    """The issuer as the server knows it."""
    facts = {"audience": (AUDIENCE,), "ca": issuer.ca, **settings}
    return Issuer(IssuerSection("test", issuer.url, **facts), clock or Clock())


def test_a_token_says_who_until_when_and_for_what(issuer: IssuerUnderTest) -> None:
    ends = int(time.time()) + 600
    for scope, expected in (
        ("compute.read", Scope.READ),
        ("compute.read compute.create storage.read:/", Scope.READ | Scope.CREATE),
        ("compute.cancel", Scope.CANCEL),
    ):
        found = known(issuer).verify(issuer.token(exp=ends, scope=scope)).proved
        assert found.subject == f"{issuer.url}#ann"
        assert found.ends_at == datetime.fromtimestamp(ends, UTC)
        assert found.scope == expected
    assert (
        known(issuer, needs_scopes=False).verify(issuer.token(scope=None)).proved.scope
        == EVERYTHING
    )
    several = known(issuer, audience=("other", AUDIENCE))
    assert several.verify(issuer.token(aud=["x", AUDIENCE])).proved.subject.endswith("#ann")


def unsigned(token: str, **header: Any) -> str:
    """``token`` with another header, and its old signature."""
    _, body, signature = token.split(".")
    head = base64.urlsafe_b64encode(json.dumps({"typ": "JWT", **header}).encode()).rstrip(b"=")
    return ".".join((head.decode(), body, signature))


def with_the_public_key_as_secret(issuer: IssuerUnderTest) -> str:
    """HS256 with what everybody can read: the classic."""
    pem = (
        issuer.keys["first"]
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    import hashlib
    import hmac

    head, body, _ = unsigned(issuer.token(), alg="HS256", kid="first").split(".")
    made = hmac.new(pem, f"{head}.{body}".encode(), hashlib.sha256).digest()
    return ".".join((head, body, base64.urlsafe_b64encode(made).rstrip(b"=").decode()))


NOW = int(time.time())
BAD: dict[str, tuple[Any, str]] = {
    "expired": (lambda i: i.token(exp=NOW - 3600), "has expired"),
    "that never ends": (lambda i: i.token(exp=None), "exp"),
    "not valid yet": (lambda i: i.token(nbf=NOW + 3600), "not valid yet"),
    "of the future": (lambda i: i.token(iat=NOW + 3600), "not valid yet"),
    "with an end that is no time": (lambda i: i.token(exp="soon"), "exp|no time|integer"),
    "for somebody else": (lambda i: i.token(aud="https://other.example.org"), "[Aa]udience"),
    "for nobody": (lambda i: i.token(aud=None), "aud"),
    "for any": (lambda i: i.token(aud="https://wlcg.cern.ch/jwt/v1/any"), "[Aa]udience"),
    "of another issuer": (lambda i: i.token(iss="https://other.example.org"), "[Ii]ssuer"),
    "of no issuer": (lambda i: i.token(iss=None), "iss"),
    "about nobody": (lambda i: i.token(sub=None), "sub"),
    "about the empty one": (lambda i: i.token(sub=""), "about nobody"),
    "about a number": (lambda i: i.token(sub=7), "[Ss]ub"),
    "good for nothing here": (lambda i: i.token(scope="openid storage.read:/"), "good for none"),
    "without scopes": (lambda i: i.token(scope=None), "good for none"),
    "without a signature": (
        lambda i: unsigned(i.token(), alg="none").rpartition(".")[0] + ".",
        "by 'none' is not taken",
    ),
    "with nOnE": (lambda i: unsigned(i.token(), alg="nOnE", kid="first"), "is not taken"),
    "with a shared secret": (with_the_public_key_as_secret, "by 'HS256' is not taken"),
    "by a key that he has not": (
        lambda i: i.token(by="unknown", key=ec.generate_private_key(ec.SECP256R1())),
        "has no key 'unknown'",
    ),
    "by another key": (
        lambda i: i.token(key=ec.generate_private_key(ec.SECP256R1())),
        "[Ss]ignature",
    ),
    "by an algorithm that is not the key's": (
        lambda i: unsigned(i.token(), alg="RS256", kid="first"),
        "refused",
    ),
    "with a key of its own": (
        lambda i: i.token(
            key=ec.generate_private_key(ec.SECP256R1()), headers={"jku": "https://evil.example"}
        ),
        "[Ss]ignature",
    ),
    "changed": (lambda i: i.token()[:-6] + "AAAAAA", "[Ss]ignature|refused"),
    "of one part": (lambda i: "hello", "no token"),
    "that is very long": (lambda i: i.token(scope="x" * 20_000), "too long"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_token_that_is_not_good_is_refused(issuer: IssuerUnderTest, case: str) -> None:
    make, reason = BAD[case]
    with pytest.raises(NotAuthenticated, match=reason):
        known(issuer).verify(make(issuer))


def test_a_clock_may_be_a_little_late(issuer: IssuerUnderTest) -> None:
    known(issuer).verify(issuer.token(exp=int(time.time()) - 5, iat=int(time.time()) + 5))


def test_keys_are_asked_for_once_an_hour_and_new_ones_are_found(fresh: IssuerUnderTest) -> None:
    clock = Clock()
    ours = known(fresh, clock)
    for _ in range(3):
        ours.verify(fresh.token())
    assert len(fresh.asked) == 2, "metadata and keys, once"
    fresh.add_key("second", rsa.generate_private_key(65537, 2048))
    clock.ahead = timedelta(seconds=ASKED_EVERY + 1)
    ours.verify(fresh.token(by="second"))
    del fresh.keys["first"]
    clock.ahead = timedelta(seconds=KEPT + 100)
    with pytest.raises(NotAuthenticated, match="has no key"):
        ours.verify(jwt.encode({}, fresh.add_key("x"), "ES256", headers={"kid": "first"}))


def test_unknown_keys_are_not_asked_for_all_the_time(fresh: IssuerUnderTest) -> None:
    ours = known(fresh)
    stray = ec.generate_private_key(ec.SECP256R1())
    for number in range(20):
        with pytest.raises(NotAuthenticated, match="has no key"):
            ours.verify(fresh.token(by=f"stray{number}", key=stray))
    assert len(fresh.asked) == 2


def test_an_issuer_that_is_down_is_believed_for_a_day(fresh: IssuerUnderTest) -> None:
    clock = Clock()
    ours = known(fresh, clock)
    fresh.is_down = True
    with pytest.raises(Unavailable, match="does not answer"):
        ours.verify(fresh.token())
    fresh.is_down = False
    with pytest.raises(Unavailable, match="a moment ago"):
        ours.verify(fresh.token())
    clock.ahead = timedelta(seconds=issuers.RETRIED_EVERY)
    ours.verify(fresh.token())
    fresh.is_down = True
    far = int(time.time()) + 10 * 86_400
    clock.ahead = timedelta(seconds=KEPT_AT_MOST - 60)
    ours.verify(fresh.token(exp=far))
    clock.ahead = timedelta(seconds=KEPT_AT_MOST + 60)
    with pytest.raises(Unavailable):
        ours.verify(fresh.token(exp=far))


def test_an_issuer_in_trouble_is_not_asked_for_every_stranger(fresh: IssuerUnderTest) -> None:
    fresh.metadata["issuer"] = "https://other.example.org"
    ours = known(fresh)
    for _ in range(20):
        with pytest.raises(Unavailable):
            ours.verify(fresh.token())
    assert len(fresh.asked) == 1


def test_an_issuer_that_speaks_of_another_is_not_believed(fresh: IssuerUnderTest) -> None:
    fresh.metadata["issuer"] = "https://other.example.org"
    with pytest.raises(Unavailable, match="is about 'https://other"):
        known(fresh).verify(fresh.token())
    fresh.metadata = {"issuer": fresh.url, "jwks_uri": "http://127.0.0.1/keys"}
    with pytest.raises(Unavailable, match="no https address"):
        known(fresh).verify(fresh.token())


def test_an_issuer_whom_no_ca_of_ours_has_certified_is_not_asked(
    fresh: IssuerUnderTest, tmp_path: Path
) -> None:
    with pytest.raises(Unavailable, match=r"does not answer.*certificate"):
        known(fresh, ca=None).verify(fresh.token())
    assert fresh.asked == []


# --- the server and `xw` -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, issuer: IssuerUnderTest
) -> Iterator[ServerUnderTest]:
    server = ServerUnderTest(tmp_path_factory.mktemp("grid"))
    path = server.place / "server.conf"
    path.write_text(
        f"{path.read_text()}\n[issuer test]\nurl = {issuer.url}\naudience = {AUDIENCE}\n"
        f"login_claim = name\nca = {issuer.ca}\n"
    )
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="module")
def admin(server: ServerUnderTest, issuer: IssuerUnderTest) -> Grid:
    admin = server.client()
    admin.send_application("say", b"#!/bin/sh\necho hello\n", ANY_PLATFORM)
    admin.send_user("ann", subjects=[f"{issuer.url}#ann"])
    admin.send_user("bob", password="correct horse")
    return admin


def log_in(server: ServerUnderTest, token: str) -> Identity:
    ca = server.identity().ca
    reply = login_by_token((server.address,), ca, token)
    return Identity((server.address,), "client", str(reply["token"]), str(reply["secret"]), ca)


def test_a_token_of_the_issuer_is_exchanged_for_one_of_ours(
    server: ServerUnderTest, admin: Grid, issuer: IssuerUnderTest, tmp_path: Path
) -> None:
    path = tmp_path / "bt"
    ends = int(time.time()) + 1200
    path.write_text(issuer.token(exp=ends) + "\n")
    path.chmod(0o600)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "desktopgrid.client.cli", "login", "--bearer"),
            *("--server", server.address, "--ca", str(server.home.ca_certificate)),
        ],
        env={**environment(), "XDG_CONFIG_HOME": str(tmp_path), "BEARER_TOKEN_FILE": str(path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "Logged in as ann until" in done.stderr
    assert datetime.fromtimestamp(ends, UTC).isoformat(timespec="seconds") in done.stderr
    identity = Identity.read(tmp_path / "glidebridge/identity.json")
    with Grid.open(identity) as grid:
        grid.cancel(grid.submit(Description("say")).works)
        [row] = grid.objects("tokens", [identity.identity])
        assert (row["source"], row["scope"]) == ("issuer test", "read create cancel")
        with pytest.raises(AccessDenied):
            grid.new_identity("client")


def test_what_a_token_is_good_for_is_what_ours_is(
    server: ServerUnderTest, admin: Grid, issuer: IssuerUnderTest
) -> None:
    with Grid.open(log_in(server, issuer.token(scope="compute.read"))) as grid:
        assert list(grid.objects("apps"))
        with pytest.raises(AccessDenied, match="good for read only"):
            grid.submit(Description("say"))


def test_a_claim_may_name_the_login_but_no_super_users(
    server: ServerUnderTest, admin: Grid, issuer: IssuerUnderTest
) -> None:
    with Grid.open(log_in(server, issuer.token(sub="b-17", name="bob"))) as grid:
        assert grid.session.welcome.user == "bob"
    for name in ("admin", "nobody", 7):
        with pytest.raises(NotAuthenticated, match="nobody is known here by"):
            log_in(server, issuer.token(sub="eve", name=name))


def test_a_subject_that_is_taken_from_a_user_ends_his_tokens(
    server: ServerUnderTest, admin: Grid, issuer: IssuerUnderTest
) -> None:
    subject = f"{issuer.url}#carol"
    admin.send_user("carol", subjects=[subject])
    identity = log_in(server, issuer.token(sub="carol"))
    admin.change_user("carol", remove_subjects=[subject])
    with pytest.raises(NotAuthenticated):
        Grid.open(identity)
    with pytest.raises(NotAuthenticated):
        log_in(server, issuer.token(sub="carol"))


@pytest.mark.parametrize("case", ["expired", "for somebody else", "without a signature"])
def test_the_server_refuses_what_its_issuer_would(
    server: ServerUnderTest, admin: Grid, issuer: IssuerUnderTest, case: str
) -> None:
    make, reason = BAD[case]
    with pytest.raises(GridError, match=reason):
        log_in(server, make(issuer))


def test_an_issuer_that_is_not_named_is_nobody(
    server: ServerUnderTest, admin: Grid, fresh: IssuerUnderTest
) -> None:
    with pytest.raises(NotAuthenticated, match="no issuer"):
        log_in(server, fresh.token())
    assert fresh.asked == []


# --- where a client finds its token --------------------------------------------------------------


def test_a_token_is_found_where_wlcg_says(tmp_path: Path) -> None:
    (tmp_path / "named").write_text("from-file\n")
    runtime = tmp_path / "run"
    runtime.mkdir()
    where = {"XDG_RUNTIME_DIR": str(runtime), "BEARER_TOKEN_FILE": str(tmp_path / "named")}
    assert discovered({**where, "BEARER_TOKEN": " from-variable "}, 77) == "from-variable"
    assert discovered(where, 77) == "from-file"
    (runtime / "bt_u77").write_text("from-runtime")
    assert discovered({"XDG_RUNTIME_DIR": str(runtime)}, 77) == "from-runtime"
    with pytest.raises(BadRequest, match="BEARER_TOKEN"):
        discovered({"XDG_RUNTIME_DIR": str(tmp_path)}, 4_000_000_000)
