from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from desktopgrid.link.identity import Identity
from desktopgrid.model.errors import ConfigurationError
from tests.authority import Authority

CA = Authority.new().pem
VALUES = {
    "servers": ["https://grid.lal.fr:4321", "https://10.1.2.3:4321"],
    "kind": "worker",
    "identity": "an-identity",
    "secret": "5ecret",
    "ca": CA,
}


def write(path: Path, content: str, mode: int = 0o600) -> Path:
    path.write_text(content)
    path.chmod(mode)
    return path


def test_what_was_written_is_read(tmp_path: Path) -> None:
    identity = Identity(("https://grid:1", "https://grid:2"), "pilot", "a-stamp", "5ecret", CA)
    identity.write(tmp_path / "identity")
    assert Identity.read(tmp_path / "identity") == identity
    assert (tmp_path / "identity").stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["identity"]


def test_an_identity_keeps_its_secret_to_itself() -> None:
    assert "5ecret" not in repr(Identity(("https://grid:1",), "worker", "i", "5ecret", CA))


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "identity").mkdir()
    with pytest.raises(OSError, match="identity"):
        Identity(("https://grid:1",), "worker", "i", "s", CA).write(tmp_path / "identity")
    assert os.listdir(tmp_path) == ["identity"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_a_secret_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path / "identity", json.dumps(VALUES), mode)
    with pytest.raises(ConfigurationError, match=f"identity:1: others can read .*{mode:o}"):
        Identity.read(path)


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"secret": None}, "'secret' must be a text"),
        ({"servers": []}, "'servers' must be a list"),
        ({"servers": "https://grid:1"}, "'servers' must be a list"),
        ({"servers": ["grid:1"]}, "not 'grid:1'"),
        ({"kind": "boss"}, "one of client, worker, pilot, not 'boss'"),
        ({"ca": "a certificate"}, "CA must be a certificate in PEM"),
        ({"colour": "blue"}, "no 'colour'; it has servers, kind, identity, secret, ca"),
    ],
)
def test_a_wrong_identity_says_what_is_wrong(
    tmp_path: Path, changes: dict[str, object], says: str
) -> None:
    path = write(tmp_path / "identity", json.dumps({**VALUES, **changes}))
    with pytest.raises(ConfigurationError) as caught:
        Identity.read(path)
    assert str(path) in str(caught.value)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "content, says",
    [
        ("", "identity:1: not JSON"),
        ('{\n "servers":\n oops}', "identity:3: not JSON"),
        ("[]", "must be a JSON object"),
        ('{"servers": ["https://g:1"]}', "lacks 'kind'"),
    ],
)
def test_what_is_no_identity_is_refused(tmp_path: Path, content: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        Identity.read(write(tmp_path / "identity", content))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nowhere:1: No such file"):
        Identity.read(tmp_path / "nowhere")
