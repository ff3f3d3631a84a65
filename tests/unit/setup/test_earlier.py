"""The tree of an earlier commit, for benchmarks beside it."""

import subprocess

import earlier
import pytest
from cache import Unavailable


@pytest.fixture
def history(tmp_path, monkeypatch):
    """A checkout with two commits, and a cache of our own; gives the first."""
    monkeypatch.setenv("GLIDEBRIDGE_CACHE", str(tmp_path / "cache"))
    checkout = tmp_path / "checkout"
    checkout.mkdir()

    def git(*words):
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        command = ["git", "-C", str(checkout), *who, *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    git("init")
    for content in ("then", "now"):
        (checkout / "file").write_text(content)
        git("add", "file")
        git("commit", "-m", content)
    return checkout, git("rev-parse", "HEAD~")


def test_the_sources_of_a_commit_are_unpacked_once(history):
    checkout, first = history
    tree = earlier.ensure(checkout, first)
    assert (tree / "file").read_text() == "then"
    (tree / "file").write_text("kept")
    assert (earlier.ensure(checkout, first) / "file").read_text() == "kept"


def test_a_commit_that_is_not_in_the_history_is_named(history):
    checkout, _ = history
    with pytest.raises(Unavailable, match="cafe123"):
        earlier.ensure(checkout, "cafe123")
