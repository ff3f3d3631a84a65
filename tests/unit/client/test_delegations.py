"""Delegating to a bridge over a grid in memory: who is believed, what is signed, what a bridge
keeps, and what becomes of that when it is killed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from desktopgrid.client import bearer, trustee
from desktopgrid.client.cli import xw
from desktopgrid.client.commands.shell import Shell
from desktopgrid.client.delegations import Delegations, KnownBridges
from desktopgrid.client.fake import USER, FakeGrid
from desktopgrid.client.grid import Grid
from desktopgrid.client.trustee import Trustee
from desktopgrid.credentials.offers import Keys
from desktopgrid.credentials.proof import Proof
from desktopgrid.credentials.subjects import certificates_in
from desktopgrid.model.errors import BadRequest, Unavailable, UnknownObject
from desktopgrid.wire import messages as m
from tests.grid_ca import a_ca, a_person, a_proxy, write_proxy

pytestmark = pytest.mark.feature("XW-CLI-13", "XW-PIL-3")

CA = a_ca()
ANN = a_person(CA)
PROXY = a_proxy(ANN)
OFFERED = 2


@pytest.fixture(autouse=True)
def small_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that are made in no time."""
    monkeypatch.setattr(trustee, "OFFERS", OFFERED)


@pytest.fixture
def fake(tmp_path: Path) -> FakeGrid:
    fake = FakeGrid(tmp_path / "grid")
    script = tmp_path / "echo.sh"
    script.write_text("#!/bin/sh\necho hello\n")
    with fake.open() as grid:
        grid.send_application("echo", script)
    return fake


@pytest.fixture
def grid(fake: FakeGrid) -> Iterator[Grid]:
    with fake.open() as grid:
        yield grid


@pytest.fixture
def bridge(grid: Grid, tmp_path: Path) -> Iterator[Trustee]:
    with Trustee(grid, tmp_path / "bridge") as bridge:
        bridge.publish(OFFERED)
        yield bridge


@pytest.fixture
def mine(grid: Grid, bridge: Trustee, tmp_path: Path) -> Delegations:
    known = KnownBridges(tmp_path / "bridges")
    known.trust(USER, bridge.card.fingerprint)
    return Delegations(grid, known)


@pytest.fixture
def proof(tmp_path: Path) -> Proof:
    return Proof.read(write_proxy(tmp_path / "x509up", PROXY, ANN), None)


@pytest.fixture
def run(fake: FakeGrid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run `xw`, whose identity file is in ``tmp_path``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GLIDEBRIDGE_IDENTITY", str(tmp_path / "me.identity"))
    (tmp_path / "me.identity").write_text("{}")

    def run(*arguments: str) -> Result:
        shell = Shell(connect=lambda path, patience: fake.open())
        return CliRunner().invoke(xw, arguments, obj=shell)

    return run


# --- a bridge's side ------------------------------------------------------------------------------


def test_what_was_signed_becomes_a_file_that_grid_tools_take(
    bridge: Trustee, mine: Delegations, proof: Proof
) -> None:
    given = mine.give_proxy(proof, mine.bridge())
    [held] = bridge.collect()
    assert (held.uid, held.kind, held.user) == (given.uid, "proxy", USER)
    assert held.path.stat().st_mode & 0o777 == 0o600
    text = held.path.read_text()
    first, *others = certificates_in(text.replace("PRIVATE KEY", ""))
    key = load_pem_private_key(text.encode(), None)
    assert first.public_key() == key.public_key()
    assert others == [PROXY.certificate, ANN.certificate]
    kinds = [line for line in text.splitlines() if line.startswith("-----BEGIN")]
    assert [("PRIVATE" in kind) for kind in kinds] == [False, True, False, False]
    assert [row["status"] for row in mine.own()] == ["Active"]
    Proof.read(held.path, None)  # as every client of a computing element does


def test_a_bridge_makes_new_keys_as_they_are_used(
    bridge: Trustee, mine: Delegations, proof: Proof, tmp_path: Path
) -> None:
    assert bridge.publish(OFFERED) == 0
    mine.give_proxy(proof, mine.bridge())
    assert bridge.publish(OFFERED) == 1
    bridge.collect()
    assert bridge.publish(OFFERED) == 0
    assert len(list((tmp_path / "bridge/offers").iterdir())) == OFFERED


def test_a_token_is_read_by_its_bridge_alone(
    bridge: Trustee, mine: Delegations, fake: FakeGrid
) -> None:
    mine.give_token("eyJ.secret", mine.bridge(), timedelta(hours=1))
    [asked] = [request for request in fake.requests if isinstance(request, m.Delegate)]
    assert "secret" not in str(asked)
    # The fake calls its one user by UID, and greets him so.
    [held] = bridge.collect()
    assert held.path.read_text() == "eyJ.secret\n"
    assert held.path.stat().st_mode & 0o777 == 0o600


def test_what_has_run_out_or_was_revoked_is_removed(
    grid: Grid, bridge: Trustee, mine: Delegations, proof: Proof, tmp_path: Path
) -> None:
    first = mine.give_proxy(proof, mine.bridge())
    second = mine.give_proxy(proof, mine.bridge())
    assert len(bridge.collect()) == 2
    grid.revoke(first.uid)
    assert [held.uid for held in bridge.collect()] == [second.uid]
    bridge.close()
    tomorrow = datetime.now(UTC) + timedelta(days=2)
    with Trustee(grid, tmp_path / "bridge", clock=lambda: tomorrow) as later:
        assert later.held() == []
    assert list((tmp_path / "bridge/held").iterdir()) == []


def test_a_renewed_proxy_takes_the_place_of_the_old_one(
    bridge: Trustee, mine: Delegations, proof: Proof
) -> None:
    given = mine.give_proxy(proof, mine.bridge())
    [before] = bridge.collect()
    old = before.path.read_text()
    assert mine.give_proxy(proof, mine.bridge(), renews=given.uid).uid == given.uid
    [after] = bridge.collect()
    assert (after.generation, after.path) == (2, before.path)
    assert after.path.read_text() != old


@pytest.mark.parametrize("step", range(8))
def test_a_bridge_that_is_killed_anywhere_goes_on(
    grid: Grid,
    mine: Delegations,
    bridge: Trustee,
    proof: Proof,
    tmp_path: Path,
    step: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed before its n-th step that anybody could see, from offering to holding."""
    left = [step]

    class Killed(BaseException):
        pass

    def dying(do: Callable[..., Any]) -> Callable[..., Any]:
        def once(*args: Any, **named: Any) -> Any:
            if left[0] == 0:
                left[0] = -1
                raise Killed
            left[0] -= 1
            return do(*args, **named)

        return once

    given = mine.give_proxy(proof, mine.bridge())
    with monkeypatch.context() as patch:
        patch.setattr(trustee, "write_private", dying(trustee.write_private))
        patch.setattr(grid.session, "ask", dying(grid.session.ask))
        patch.setattr(Path, "unlink", dying(Path.unlink))
        try:
            bridge.collect()
            bridge.publish(OFFERED)
        except Killed:
            pass
    bridge.close()
    with Trustee(grid, tmp_path / "bridge") as again:
        [held] = again.collect()
        again.publish(OFFERED)
        assert held.uid == given.uid
        assert again.held() == [held]
        Proof.read(held.path, None)
        offers = {path.stem for path in (tmp_path / "bridge/offers").glob("*.key")}
        reply = grid.session.ask(m.SendOffers(again.card.signing_key, again.card.sealing_key))
        assert set(reply["open"]) <= offers
    names = sorted(path.name for path in (tmp_path / "bridge/held").iterdir())
    assert names == [f"{given.uid}.json", f"{given.uid}.pem"]


def test_a_key_that_was_lost_is_said_to_be(
    bridge: Trustee, mine: Delegations, proof: Proof, tmp_path: Path
) -> None:
    mine.give_proxy(proof, mine.bridge())
    for path in (tmp_path / "bridge/offers").iterdir():
        path.unlink()
    assert bridge.collect() == []
    [row] = mine.own()
    assert row["status"] == "Refused" and "has lost the key" in row["reason"]


def test_a_bridge_says_which_credential_is_of_no_use(
    bridge: Trustee, mine: Delegations, proof: Proof
) -> None:
    given = mine.give_proxy(proof, mine.bridge())
    bridge.collect()
    assert bridge.find(given.uid).user == USER
    bridge.refuse([given.uid, "unknown"], "no site takes it")
    with pytest.raises(UnknownObject, match="nothing is held"):
        bridge.find(given.uid)
    [row] = mine.own()
    assert (row["status"], row["reason"]) == ("Refused", "no site takes it")
    assert bridge.held() == []


def test_a_bridges_directory_is_its_own(grid: Grid, bridge: Trustee, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="another process has"):
        Trustee(grid, tmp_path / "bridge")
    open_ = tmp_path / "open"
    open_.mkdir(0o755)
    with pytest.raises(BadRequest, match="chmod 700"):
        Trustee(grid, open_)
    bridge.close()
    keys = tmp_path / "bridge/keys.json"
    keys.chmod(0o644)
    with pytest.raises(BadRequest, match="others can read"):
        Trustee(grid, tmp_path / "bridge")
    keys.chmod(0o600)
    keys.write_text("{}")
    with pytest.raises(BadRequest, match="cannot be read"):
        Trustee(grid, tmp_path / "bridge")


def test_names_that_a_server_says_lead_nowhere_else(
    bridge: Trustee, mine: Delegations, proof: Proof, fake: FakeGrid, tmp_path: Path
) -> None:
    mine.give_proxy(proof, mine.bridge())
    [row] = fake._delegations.values()
    fake._delegations["../../evil"] = {**row, "uid": "../../evil"}
    with pytest.raises(Exception, match="the server calls something"):
        bridge.collect()
    assert not (tmp_path / "evil.pem").exists()


# --- a user's side --------------------------------------------------------------------------------


def test_another_bridge_than_the_one_that_is_known_gets_nothing(
    grid: Grid, bridge: Trustee, tmp_path: Path, fake: FakeGrid
) -> None:
    """A server that shows keys of its own would be the user."""
    known = KnownBridges(tmp_path / "bridges")
    mine = Delegations(grid, known)
    with pytest.raises(BadRequest, match="is not known here; it shows SHA256:"):
        mine.bridge()
    known.trust(USER, Keys.generate().card.fingerprint)
    with pytest.raises(BadRequest, match="or the server shows you another one"):
        mine.bridge()
    known.trust(USER, bridge.card.fingerprint)
    assert mine.bridge().card == bridge.card
    with pytest.raises(UnknownObject, match="there is no bridge 'x'; bridges of this grid are"):
        mine.bridge("x")
    assert not [r for r in fake.requests if isinstance(r, m.TakeOffer)]


def test_a_servers_own_key_is_not_signed_for(
    mine: Delegations, proof: Proof, fake: FakeGrid
) -> None:
    for offer in fake._offers.values():
        offer["signature"] = Keys.generate().sign("x", offer["request"])
    with pytest.raises(BadRequest, match="is not the bridge's"):
        mine.give_proxy(proof, mine.bridge())
    assert not [r for r in fake.requests if isinstance(r, m.Delegate)]


def test_no_key_goes_anywhere(
    mine: Delegations, bridge: Trustee, proof: Proof, fake: FakeGrid
) -> None:
    mine.give_proxy(proof, mine.bridge())
    bridge.collect()
    said = str(fake.requests)
    assert "PRIVATE" not in said
    for line in PROXY.key_pem.splitlines()[1:-1]:
        assert line not in said


def test_one_file_makes_one_delegation(
    mine: Delegations, bridge: Trustee, proof: Proof, tmp_path: Path, fake: FakeGrid
) -> None:
    bridge.publish(OFFERED + 1)
    known = mine.bridge()
    first = mine.give_proxy_once(proof, known)
    assert mine.give_proxy_once(proof, known).uid == first.uid
    soon = datetime.now(UTC) + timedelta(minutes=10)
    fake._delegations[first.uid]["expires_at"] = soon.isoformat()
    assert mine.give_proxy_once(proof, known).uid == first.uid
    assert fake._delegations[first.uid]["generation"] == 2
    newer = Proof.read(write_proxy(tmp_path / "newer", a_proxy(ANN), ANN), None)
    assert mine.give_proxy_once(newer, known).uid != first.uid


def test_a_delegation_that_was_taken_back_is_not_used_again(
    mine: Delegations, bridge: Trustee, proof: Proof, grid: Grid
) -> None:
    first = mine.give_proxy_once(proof, mine.bridge())
    grid.revoke(first.uid)
    assert mine.give_proxy_once(proof, mine.bridge()).uid != first.uid


# --- commands -------------------------------------------------------------------------------------


def last_submission(fake: FakeGrid) -> m.Submit:
    return [request for request in fake.requests if isinstance(request, m.Submit)][-1]


@pytest.mark.parametrize("option", ["--xwcert", "--credential"])
def test_works_carry_the_proxy_in_a_file(
    run: Callable[..., Result], fake: FakeGrid, bridge: Trustee, proof: Proof, option: str
) -> None:
    done = run("submit", "echo", option, "x509up")
    assert done.exit_code == 1 and "is not known here" in done.stderr
    shown = bridge.card.fingerprint
    assert run("bridges", "--trust", f"{USER}={shown}").exit_code == 0
    done = run("submit", "echo", option, "x509up")
    assert done.exit_code == 0, done.stderr
    [uid] = fake._delegations
    assert last_submission(fake).description["delegation"] == uid
    assert f": {uid}" in done.stderr
    assert run("submit", "echo", option, f"file://{os.getcwd()}/x509up").exit_code == 0
    assert list(fake._delegations) == [uid]
    assert run("submit", "echo", option, uid).exit_code == 0
    assert last_submission(fake).description["delegation"] == uid
    done = run("submit", "echo", option, "https://example.org/x509up")
    assert done.exit_code == 1 and "neither a file here" in done.stderr


def test_delegate_lists_renews_and_takes_back(
    run: Callable[..., Result], bridge: Trustee, proof: Proof, tmp_path: Path
) -> None:
    run("bridges", "--trust", f"{USER}={bridge.card.fingerprint}")
    done = run("delegate", "--proxy", "x509up", "--label", "mine", "--lifetime", "2h")
    assert done.exit_code == 0, done.stderr
    uid = done.stdout.strip()
    assert f"Next: xw submit --xwcert {uid}" in done.stderr
    [row] = json.loads(run("delegations", "--format", "json").stdout)
    assert (row["uid"], row["label"], row["status"]) == (uid, "mine", "Signed")
    bridge.publish(OFFERED)
    assert run("delegate", "--renew", uid, "--proxy", "x509up").stdout.strip() == uid
    assert run("delegate", "--renew", "x", "--proxy", "x509up").exit_code == 1
    assert run("revoke", uid).exit_code == 0
    [row] = json.loads(run("delegations", "--format", "json").stdout)
    assert row["status"] == "Revoked"


def test_a_token_is_delegated_for_as_long_as_it_says(
    run: Callable[..., Result], bridge: Trustee, fake: FakeGrid, tmp_path: Path
) -> None:
    run("bridges", "--trust", f"{USER}={bridge.card.fingerprint}")
    (tmp_path / "opaque").write_text("opaque\n")
    done = run("delegate", "--token-file", "opaque")
    assert done.exit_code == 2 and "does not say when it ends" in done.stderr
    assert run("delegate", "--token-file", "opaque", "--lifetime", "1h").exit_code == 0
    [asked] = [request for request in fake.requests if isinstance(request, m.Delegate)]
    assert (asked.kind, asked.lifetime) == ("token", 3600)


@pytest.mark.parametrize(
    "token, left",
    [
        ("e30.eyJleHAiOjE3MDAwMDAwNjB9.x", timedelta(seconds=60)),
        ("e30.e30.x", None),
        ("opaque", None),
        ("a.%%%.c", None),
        ("e30.eyJleHAiOiJ4In0.x", None),
    ],
)
def test_a_token_tells_when_it_ends_if_it_is_a_jwt(token: str, left: timedelta | None) -> None:
    assert bearer.remaining(token, datetime.fromtimestamp(1_700_000_000, UTC)) == left


@pytest.mark.parametrize(
    "words",
    [
        ("--proxy", "x509up", "--bearer"),
        ("--key", "x509up"),
    ],
)
def test_one_way_to_delegate_is_named(
    run: Callable[..., Result], proof: Proof, words: tuple[str, ...]
) -> None:
    assert run("delegate", *words).exit_code == 2


def test_bridges_are_listed_with_what_one_believes_of_them(
    run: Callable[..., Result], bridge: Trustee
) -> None:
    def known() -> str:
        [row] = json.loads(run("bridges", "--format", "json").stdout)
        return str(row["known"])

    assert known() == "new here"
    run("bridges", "--trust", f"{USER}={bridge.card.fingerprint}")
    assert known() == "yes"
    other = Keys.generate().card.fingerprint
    run("bridges", "--trust", f"{USER}={other}")
    assert known() == f"no: by {other}"
    assert run("bridges", "--trust", f"{USER}=md5:1").exit_code == 2


@pytest.mark.feature("XW-PIL-4")
def test_an_application_is_validated(run: Callable[..., Result]) -> None:
    [row] = json.loads(run("validate", "echo", "--format", "json").stdout)
    assert (row["name"], row["validated"]) == ("echo", True)
    [row] = json.loads(run("validate", "echo", "--withdraw", "--format", "json").stdout)
    assert row["validated"] is False
