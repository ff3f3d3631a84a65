"""Which identity counts, and that nobody else can read it."""

from __future__ import annotations

from pathlib import Path

import pytest

from desktopgrid.client import profile
from desktopgrid.model.errors import BadRequest, ConfigurationError, NotAuthenticated, UnknownObject

CA = "-----BEGIN CERTIFICATE-----\nnot looked at here\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize(
    "named, environment, path",
    [
        pytest.param(None, {"HOME": "/h"}, "/h/.config/glidebridge/identity.json", id="home"),
        pytest.param(
            None, {"HOME": "/h", "XDG_CONFIG_HOME": "/x"}, "/x/glidebridge/identity.json", id="XDG"
        ),
        pytest.param(
            None, {"XDG_CONFIG_HOME": "/x", "GLIDEBRIDGE_IDENTITY": "/i"}, "/i", id="the variable"
        ),
        pytest.param("/n", {"GLIDEBRIDGE_IDENTITY": "/i"}, "/n", id="the option before all"),
    ],
)
def test_the_first_identity_that_is_named_counts(
    named: str | None, environment: dict[str, str], path: str
) -> None:
    assert profile.identity_path(Path(named) if named else None, environment) == Path(path)


def test_no_identity_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UnknownObject, match="make one by `xw login --server"):
        profile.load(tmp_path / "none.json")


def grant(*asked: object) -> dict[str, object]:
    """A server that knows everybody."""
    return {"token": "t-1", "secret": "s" * 64, "user": "alice", "level": 20}


def refuse(*asked: object) -> dict[str, object]:
    """A server that knows nobody."""
    raise NotAuthenticated("no")


def test_log_in_keeps_the_token_for_the_owner_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profile, "ask_for_token", grant)
    path = tmp_path / "new" / "identity.json"
    profile.log_in(["https://grid:4325"], CA, "alice", "pw", path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert "pw" not in path.read_text()


def test_a_wrong_password_leaves_the_old_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "identity.json"
    path.write_text("old")
    monkeypatch.setattr(profile, "ask_for_token", refuse)
    with pytest.raises(NotAuthenticated, match="does not know 'alice'"):
        profile.log_in(["https://grid:4325"], CA, "alice", "wrong", path)
    assert path.read_text() == "old"


def test_a_ca_that_is_none_is_refused_before_the_password_travels(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="no certificate in PEM"):
        profile.log_in(["https://grid:4325"], "hello", "alice", "pw", tmp_path / "identity.json")


def test_an_identity_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "identity.json"
    path.write_text("{}")
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        profile.load(path)
