"""Errors of the system in words, and doors that are none for what is shown there."""

from __future__ import annotations

import socket
import ssl

import pytest

from desktopgrid.link.address import ServerName, connect
from desktopgrid.link.errors import ConnectionLost, in_words
from desktopgrid.link.transfer import login
from desktopgrid.model.errors import Unavailable


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "Connection refused"),
        (OSError("no number"), "no number"),
        (TimeoutError("timed out"), "timed out"),
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
        (ValueError("odd"), "odd"),
    ],
)
def test_an_error_says_what_it_is_without_its_number(error: Exception, said: str) -> None:
    assert in_words(error) == said


def test_an_error_of_tls_keeps_its_words() -> None:
    error = ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number")
    assert "wrong version number" in in_words(error)


def test_where_nobody_listens_is_said_in_words() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ConnectionLost) as caught:
        connect(ServerName("127.0.0.1", port), 5.0)
    assert str(caught.value) == f"cannot connect to 127.0.0.1:{port}: Connection refused"


def test_a_server_that_takes_frames_only_takes_no_password_and_says_where_one_goes() -> None:
    with pytest.raises(Unavailable, match="are shown at the grid's https:// port"):
        login(["tcp+tls://grid.example.org:4321"], "no CA", "ann", "password")
