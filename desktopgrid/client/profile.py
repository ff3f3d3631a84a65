"""Whom `xw` and the Python API act for: the identity file, where it is and how it is made.

The first that is named counts: ``--identity FILE``, ``$GLIDEBRIDGE_IDENTITY``, and at last
``$XDG_CONFIG_HOME/glidebridge/identity.json``, which `xw login` writes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from desktopgrid.link.identity import Identity
from desktopgrid.link.transfer import login as ask_for_token
from desktopgrid.model.errors import BadRequest, NotAuthenticated, UnknownObject

VARIABLE = "GLIDEBRIDGE_IDENTITY"


def identity_path(named: Path | None = None, environment: Mapping[str, str] = os.environ) -> Path:
    """Where the identity file is, or will be."""
    if named is not None:
        return named
    if environment.get(VARIABLE):
        return Path(environment[VARIABLE])
    home = environment.get("XDG_CONFIG_HOME") or Path(environment.get("HOME") or "~") / ".config"
    return Path(home).expanduser() / "glidebridge" / "identity.json"


def load(path: Path) -> Identity:
    """The identity in ``path``; raises UnknownObject with what to do where there is none."""
    if not path.exists():
        raise UnknownObject(
            f"there is no identity file {path}; make one by `xw login`, or name another by"
            " --identity"
        )
    return Identity.read(path)


def log_in(
    servers: Sequence[str],
    ca: str,
    login: str,
    password: str,
    path: Path,
    lifetime: int | None = None,
) -> Identity:
    """Exchange login and password for a token and keep it in ``path``, for the owner alone to read.

    ``ca`` is the grid's CA in PEM: no other server is talked to. The password is kept nowhere.
    """
    if "-----BEGIN CERTIFICATE-----" not in ca:
        raise BadRequest(
            "the CA is no certificate in PEM; take the file that `xwserver init` names"
        )
    try:
        reply = ask_for_token(tuple(servers), ca, login, password, lifetime)
    except NotAuthenticated:
        raise NotAuthenticated(f"the server does not know {login!r} by this password") from None
    identity = Identity(tuple(servers), "client", str(reply["token"]), str(reply["secret"]), ca)
    # An XDG directory that is not there yet is for its owner alone.
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    identity.write(path)
    return identity
