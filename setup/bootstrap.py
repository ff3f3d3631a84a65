"""The virtual environment: the packages that setup.cfg names, also without Debian's python3-venv.

    bootstrap.py        makes it or brings it up to date, prints its directory

The project itself is not installed into it: all checkouts of a user share one environment, and
PYTHONPATH says whose code runs. The commands that setup.cfg declares are there all the same.
"""

from __future__ import annotations

import configparser
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cache
from account import unprivileged
from cache import SetupError, Unavailable, say
from debian import PrivateApt

OLDEST_PYTHON = (3, 11)
WHEELS = Path("/usr/share/python-wheels")
CHECKOUT = Path(__file__).resolve().parent.parent

COMMAND = """\
#!{python}
import sys

from {module} import {function}

if __name__ == "__main__":
    sys.exit({function}())
"""


def ensure(checkout: Path) -> Path:
    """The environment for ``checkout``, complete; a stat or two if nothing has changed."""
    if sys.version_info < OLDEST_PYTHON:
        found = ".".join(map(str, sys.version_info[:3]))
        raise SetupError(
            f"Python 3.11 or newer is needed, and {sys.executable} is {found}; "
            "name another one: make PYTHON=/path/to/python3.11 ..."
        )
    environment = cache.directory() / "venv"
    stamp, wanted = environment / ".done", _fingerprint(checkout)
    if not (stamp.exists() and stamp.read_text() == wanted):
        with cache.locked(environment):
            if not (stamp.exists() and stamp.read_text() == wanted):
                _build(environment, checkout)
                stamp.write_text(wanted)
    return environment


def _fingerprint(checkout: Path) -> str:
    """Changes whenever the environment has to."""
    digest = hashlib.sha256(f"{sys.executable} {sys.version}".encode())
    for path in (checkout / "setup.cfg", Path(__file__)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _build(environment: Path, checkout: Path) -> None:
    started = time.monotonic()
    interpreter, python = _interpreter(), environment / "bin/python"
    if not _runs(python, "-c", "import pip") or _version(python) != _version(interpreter):
        _make(environment, interpreter)
    wanted = configparser.ConfigParser()
    wanted.read(checkout / "setup.cfg")
    requirements = wanted["options"]["install_requires"].split("\n")
    for extra in wanted["options.extras_require"].values():
        requirements += extra.split("\n")
    say("installing Python packages")
    options = ["--quiet", "--no-cache-dir", "--disable-pip-version-check"]
    done = subprocess.run(
        [python, "-m", "pip", "install", *options, *filter(None, requirements)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        reasons = [line for line in done.stdout.splitlines() if line.startswith("ERROR")]
        raise SetupError(
            "pip could not install the Python packages. Is there a way to a package index "
            "from here? pip obeys PIP_INDEX_URL, PIP_CERT and HTTPS_PROXY.\n" + "\n".join(reasons)
        )
    for line in filter(None, wanted["options.entry_points"]["console_scripts"].split("\n")):
        name, _, target = (part.strip() for part in line.partition("="))
        module, _, function = target.partition(":")
        command = environment / "bin" / name
        command.write_text(COMMAND.format(python=python, module=module, function=function))
        command.chmod(0o755)
    say(f"Python packages are in {environment}, {time.monotonic() - started:.1f} s")


def _interpreter() -> str:
    """The Python that make was called with, or the system's where tests could not run the former.

    Root's tests run in an unprivileged account, which cannot read a Python under /root.
    """
    account = unprivileged()
    if account is not None:
        account.do(lambda: None)
    candidates = list(dict.fromkeys([sys.executable, "/usr/bin/python3"]))
    for candidate in candidates:
        ask = [candidate, "-c", "import sys; print(sys.prefix, sys.version_info >= (3, 11))"]
        own = _output(ask)
        theirs = own if account is None else _output(ask, **account.popen_arguments())
        # started on a path that it cannot read, the system's Python may answer in its place
        if own.endswith(b" True\n") and own == theirs:
            return candidate
    raise SetupError(f"none of {', '.join(candidates)} is a Python 3.11 that every account can run")


def _make(environment: Path, interpreter: str) -> None:
    """A new environment with pip in it, by the first way that works on this host."""
    shutil.rmtree(environment, ignore_errors=True)
    # Without python3-venv Debian's venv fails half-way and leaves a broken environment: ask first.
    if _runs(interpreter, "-c", "import ensurepip") and _runs(
        interpreter, "-m", "venv", environment
    ):
        return
    subprocess.run([interpreter, "-m", "venv", "--without-pip", "--clear", environment], check=True)
    python = environment / "bin/python"
    with tempfile.TemporaryDirectory(prefix="pip-", dir=environment.parent) as work:
        ways: list[Callable[[], Path | None]] = [
            lambda: Path(os.environ["PIP_WHEEL"]) if "PIP_WHEEL" in os.environ else None,
            lambda: next(WHEELS.glob("pip-*.whl"), None),
            lambda: _debian_wheel(Path(work)),
        ]
        for way in ways:
            # a wheel is a zip file that Python can run from
            wheel = way()
            if wheel and _runs(python, wheel / "pip", "install", "--no-index", wheel):
                return
    # the host's own pip can install another one elsewhere, given an index
    if _runs(interpreter, "-m", "pip", "--python", python, "install", "--no-cache-dir", "pip"):
        return
    raise SetupError(
        "no way to pip on this host: install python3-venv (Debian: apt-get install python3-venv), "
        "or set PIP_WHEEL to the path of a pip-*.whl"
    )


def _debian_wheel(work: Path) -> Path | None:
    """The wheel that Debian's python3-venv would use, fetched from the host's mirror."""
    try:
        apt = PrivateApt(work)
        apt.update()
        apt.unpack(["python3-pip-whl"], work)
    except Unavailable as reason:
        say(f"no pip from Debian: {reason}")
    return next(work.glob("usr/share/python-wheels/pip-*.whl"), None)


def _runs(*command: str | Path) -> bool:
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        return False


def _output(command: Sequence[str | Path], **how: Any) -> bytes:
    """What ``command`` prints; nothing if it cannot be started."""
    try:
        return bytes(subprocess.run(command, capture_output=True, **how).stdout)
    except OSError:
        return b""


def _version(python: str | Path) -> bytes:
    return _output([python, "-c", "import sys; print(sys.version, sys.base_prefix)"])


if __name__ == "__main__":
    os.umask(0o022)
    try:
        print(ensure(CHECKOUT))
    except SetupError as error:
        sys.exit(f"set-up: {error}")
