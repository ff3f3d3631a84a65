"""The peers' own virtual environment: their dependencies never meet the project's.

It stands under ``$GLIDEBRIDGE_CACHE/peers``, named by what was asked for, made under a lock
and stamped last, so that a half-made one is never used.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from bench.disk import cache

REQUIREMENTS = ("hyperqueue", "parsl", "distributed")
STAMP = "ready"
TIME_TO_INSTALL = 600


class PeersUnavailable(Exception):
    """The peers' environment cannot be made here; the text says why."""


def python() -> Path:
    """The interpreter of an environment that has all peers, made now if need be.

    Raises PeersUnavailable where they cannot be installed.
    """
    wanted = "\n".join((*REQUIREMENTS, sys.version))
    home = cache() / "peers"
    home.mkdir(mode=0o755, exist_ok=True)
    environment = home / hashlib.sha256(wanted.encode()).hexdigest()[:16]
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (environment / STAMP).exists():
            shutil.rmtree(environment, ignore_errors=True)
            _make(environment)
            (environment / STAMP).write_text(wanted)
    return environment / "bin" / "python"


def versions(interpreter: Path) -> dict[str, str]:
    """The version of each peer in the environment of ``interpreter``."""
    ask = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"
    answer = subprocess.run(
        [interpreter, "-c", ask, *REQUIREMENTS], capture_output=True, text=True, check=True
    )
    return dict(zip(REQUIREMENTS, answer.stdout.split(), strict=True))


def _make(environment: Path) -> None:
    # Our own pip installs into it: without python3-venv there is no ensurepip for a second one.
    _run([sys.executable, "-m", "venv", "--without-pip", str(environment)])
    interpreter = str(environment / "bin" / "python")
    _run(
        [sys.executable, "-m", "pip", "--python", interpreter, "install", "--quiet", *REQUIREMENTS]
    )


def _run(words: list[str]) -> None:
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=TIME_TO_INSTALL)
    except subprocess.TimeoutExpired as late:
        raise PeersUnavailable(f"{' '.join(words)}: took longer than {late.timeout:g} s") from late
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise PeersUnavailable(f"{' '.join(words)}: {said[-1] if said else 'failed'}")
