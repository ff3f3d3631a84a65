"""Files to a server and back, over connections that break."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from itertools import chain, repeat
from pathlib import Path

import pytest

from desktopgrid.link import persistence
from desktopgrid.link.address import ServerName
from desktopgrid.link.identity import Identity
from desktopgrid.link.transfer import Transfers, login
from desktopgrid.model.errors import (
    BadRequest,
    LimitExceeded,
    NotAuthenticated,
    RemoteProtocolError,
    Unavailable,
    UnknownObject,
)
from desktopgrid.wire.messages import Welcome
from tests.authority import Authority
from tests.link_server import SECRET, TICKET, LinkServer, Stored, digest_of
from tests.relay import Relay

CHANCE = random.Random(1)  # noqa: S311 (the same each time, so that a failure comes again)
CONTENT = CHANCE.randbytes(3_000_000)
DIGEST = digest_of(CONTENT)
PATH = "/v1/datas/a-data"


class ASession:
    """A link as far as transfers see it."""

    def __init__(self, identity: Identity, server: str, ticket: str = TICKET) -> None:
        self.identity = identity
        self.server: ServerName | None = ServerName.parse(server)
        self.welcome: Welcome | None = Welcome(True, 0, 30.0, ticket, "alice", 1)
        self.proxy: str | None = None


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LinkServer]:
    with LinkServer(Authority.new(), tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def session(server: LinkServer) -> ASession:
    return ASession(server.identity(), server.url)


@pytest.fixture
def transfers(session: ASession) -> Iterator[Transfers]:
    transfers = Transfers(session)
    yield transfers
    transfers.close()


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(persistence, "PAUSE", 0.001)


def has(server: LinkServer, content: bytes = CONTENT) -> None:
    server.datas["a-data"] = Stored(len(content), bytearray(content), True)


# Getting.


def test_a_data_is_fetched_whole(server: LinkServer, transfers: Transfers, tmp_path: Path) -> None:
    has(server)
    seen: list[int] = []
    transfers.get(PATH, tmp_path / "data", DIGEST, len(CONTENT), seen.append)
    assert (tmp_path / "data").read_bytes() == CONTENT
    assert seen == sorted(seen)
    assert seen[-1] == len(CONTENT)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_an_empty_data_is_a_data(server: LinkServer, transfers: Transfers, tmp_path: Path) -> None:
    has(server, b"")
    transfers.get(PATH, tmp_path / "data", digest_of(b""), 0)
    assert (tmp_path / "data").read_bytes() == b""


def test_a_broken_fetch_goes_on_where_it_broke_off(
    server: LinkServer, transfers: Transfers, tmp_path: Path
) -> None:
    has(server)
    server.cut_transfer_after = 700_000
    transfers.get(PATH, tmp_path / "data", DIGEST, len(CONTENT))
    assert (tmp_path / "data").read_bytes() == CONTENT
    assert server.transfers == 5


def test_a_fetch_survives_cuts_at_any_byte(server: LinkServer, tmp_path: Path) -> None:
    has(server)
    limits = chain((CHANCE.randrange(1, 900_000) for _ in range(12)), repeat(None))
    with Relay(server.port, limits) as relay:
        transfers = Transfers(ASession(server.identity(), relay.url))
        transfers.get(PATH, tmp_path / "data", DIGEST, len(CONTENT))
        transfers.close()
    assert (tmp_path / "data").read_bytes() == CONTENT


def test_what_an_earlier_attempt_left_is_used(
    server: LinkServer, transfers: Transfers, tmp_path: Path
) -> None:
    has(server)
    (tmp_path / "data.part").write_bytes(CONTENT[:1_000_000])
    seen: list[int] = []
    transfers.get(PATH, tmp_path / "data", DIGEST, len(CONTENT), seen.append)
    assert seen[0] > 1_000_000
    assert (tmp_path / "data").read_bytes() == CONTENT


@pytest.mark.parametrize(
    "left", [b"something else", bytes(len(CONTENT)), bytes(len(CONTENT) + 1)], ids=len
)
def test_what_is_left_of_something_else_does_no_harm(
    server: LinkServer, transfers: Transfers, tmp_path: Path, left: bytes
) -> None:
    has(server)
    (tmp_path / "data.part").write_bytes(left)
    transfers.get(PATH, tmp_path / "data", DIGEST, len(CONTENT))
    assert (tmp_path / "data").read_bytes() == CONTENT


def test_a_wrong_digest_is_noticed_and_leaves_nothing(
    server: LinkServer, transfers: Transfers, tmp_path: Path
) -> None:
    has(server, CONTENT[:-1] + bytes((CONTENT[-1] ^ 1,)))
    with pytest.raises(RemoteProtocolError, match="digest"):
        transfers.get(PATH, tmp_path / "data", DIGEST, len(CONTENT))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [10, len(CONTENT) + 1])
def test_a_wrong_size_is_noticed_before_it_comes(
    server: LinkServer, transfers: Transfers, tmp_path: Path, size: int
) -> None:
    has(server)
    with pytest.raises(RemoteProtocolError, match=f"{len(CONTENT)} bytes instead of {size}"):
        transfers.get(PATH, tmp_path / "data", DIGEST, size)
    assert not (tmp_path / "data").exists()


def test_what_the_server_has_not_is_unknown(transfers: Transfers, tmp_path: Path) -> None:
    with pytest.raises(UnknownObject, match="there is no such data"):
        transfers.get(PATH, tmp_path / "data", DIGEST, len(CONTENT))


def test_a_wrong_ticket_opens_nothing(server: LinkServer, tmp_path: Path) -> None:
    has(server)
    transfers = Transfers(ASession(server.identity(), server.url, "another"))
    with pytest.raises(NotAuthenticated):
        transfers.get(PATH, tmp_path / "data", DIGEST, len(CONTENT))


def test_a_new_ticket_is_taken_as_soon_as_there_is_one(
    server: LinkServer, session: ASession, transfers: Transfers, monkeypatch: pytest.MonkeyPatch
) -> None:
    has(server)
    session.welcome = Welcome(True, 0, 30.0, "of a session before", "alice", 1)
    monkeypatch.setattr(persistence, "PAUSE", 0.05)
    later = threading.Timer(
        0.1, lambda: setattr(session, "welcome", Welcome(True, 0, 30.0, TICKET, "alice", 1))
    )
    later.start()
    assert transfers.read(PATH, len(CONTENT)) == CONTENT
    later.join()


def test_without_a_session_there_is_no_transfer(
    session: ASession, transfers: Transfers, tmp_path: Path
) -> None:
    session.welcome = None
    with pytest.raises(Unavailable, match="no session"):
        transfers.get(PATH, tmp_path / "data", DIGEST, len(CONTENT))


def test_a_server_that_is_gone_is_unavailable(session: ASession, transfers: Transfers) -> None:
    session.server = ServerName("127.0.0.1", 1)
    with pytest.raises(Unavailable, match="cannot connect"):
        transfers.read(PATH, 10)


def test_reading_is_limited(server: LinkServer, transfers: Transfers) -> None:
    has(server)
    assert transfers.read(PATH, len(CONTENT)) == CONTENT
    with pytest.raises(LimitExceeded):
        transfers.read(PATH, len(CONTENT) - 1)


def test_a_connection_is_kept_for_the_next_transfer(
    server: LinkServer, session: ASession, transfers: Transfers
) -> None:
    has(server)
    with Relay(server.port) as relay:
        session.server = ServerName.parse(relay.url)
        for _ in range(5):
            transfers.read(PATH, len(CONTENT))
        assert relay.connections == 1
        transfers.close()


def test_a_kept_connection_that_was_closed_is_replaced(
    server: LinkServer, transfers: Transfers
) -> None:
    has(server)
    for _ in range(3):
        assert transfers.read(PATH, len(CONTENT)) == CONTENT
        server.cut()


def test_many_threads_transfer_at_a_time(
    server: LinkServer, transfers: Transfers, tmp_path: Path
) -> None:
    has(server)

    def fetch(n: int) -> None:
        transfers.get(PATH, tmp_path / str(n), DIGEST, len(CONTENT))

    threads = [threading.Thread(target=fetch, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all((tmp_path / str(n)).read_bytes() == CONTENT for n in range(6))


# Putting.


@pytest.fixture(params=["file", "bytes"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Path | bytes:
    if request.param == "bytes":
        return CONTENT
    (tmp_path / "source").write_bytes(CONTENT)
    return tmp_path / "source"


def stored(server: LinkServer, uid: str = "a-data") -> bytes:
    assert server.datas[uid].is_whole
    return bytes(server.datas[uid].content)


def test_a_data_is_uploaded_whole(
    server: LinkServer, transfers: Transfers, source: Path | bytes
) -> None:
    seen: list[int] = []
    transfers.put(PATH, source, DIGEST, len(CONTENT), seen.append)
    assert stored(server) == CONTENT
    assert seen == sorted(seen)
    assert seen[-1] == len(CONTENT)


def test_a_broken_upload_goes_on_where_it_broke_off(
    server: LinkServer, transfers: Transfers, source: Path | bytes
) -> None:
    server.cut_transfer_after = 700_000
    transfers.put(PATH, source, DIGEST, len(CONTENT))
    assert stored(server) == CONTENT


def test_an_upload_survives_cuts_at_any_byte(server: LinkServer, source: Path | bytes) -> None:
    limits = chain((CHANCE.randrange(1, 900_000) for _ in range(12)), repeat(None))
    with Relay(server.port, limits) as relay:
        transfers = Transfers(ASession(server.identity(), relay.url))
        transfers.put(PATH, source, DIGEST, len(CONTENT))
        transfers.close()
    assert stored(server) == CONTENT


def test_what_the_server_has_is_not_uploaded_again(
    server: LinkServer, transfers: Transfers
) -> None:
    has(server)
    transfers.put(PATH, CONTENT, DIGEST, len(CONTENT))
    assert server.transfers == 1


@pytest.mark.parametrize("content", [b"", b"short"])
def test_a_short_data_takes_one_request(
    server: LinkServer, transfers: Transfers, content: bytes
) -> None:
    transfers.put(PATH, content, digest_of(content), len(content))
    assert stored(server) == content
    assert server.transfers == 1


def test_an_output_is_uploaded_in_one_piece(server: LinkServer, transfers: Transfers) -> None:
    transfers.put("/v1/tasks/w:1/outputs/" + DIGEST, CONTENT, DIGEST, len(CONTENT))
    assert stored(server, "w:1") == CONTENT
    assert server.transfers == 1


def test_a_source_of_another_size_is_not_uploaded(
    server: LinkServer, transfers: Transfers, source: Path | bytes
) -> None:
    with pytest.raises(BadRequest, match="not 10"):
        transfers.put(PATH, source, DIGEST, 10)
    assert server.transfers == 0


@pytest.mark.parametrize(
    "status, code, error",
    [
        (507, "unavailable", Unavailable),
        (422, "bad-request", BadRequest),
        (413, "limit-exceeded", LimitExceeded),
    ],
)
def test_a_server_that_says_no_is_heard_at_once(
    server: LinkServer, transfers: Transfers, status: int, code: str, error: type[Exception]
) -> None:
    server.transfer_refusal = (status, code, "no room")
    with pytest.raises(error, match="no room"):
        transfers.put("/v1/tasks/w:1/outputs/" + DIGEST, CONTENT, DIGEST, len(CONTENT))
    assert server.transfers == 1


# Login.


def test_a_password_buys_a_token(server: LinkServer) -> None:
    servers = ("https://127.0.0.1:1", server.url)
    answer = login(servers, server.authority.pem, "alice", "right", 60)
    assert answer["secret"] == SECRET


def test_a_wrong_password_buys_nothing(server: LinkServer) -> None:
    with pytest.raises(NotAuthenticated, match="wrong login or password"):
        login((server.url,), server.authority.pem, "alice", "wrong")


def test_nobody_gets_the_password_but_the_grid(server: LinkServer) -> None:
    with pytest.raises(Unavailable, match="certificate"):
        login((server.url,), Authority.new().pem, "alice", "right")
