"""Delegating: bridges, what one has given them, and giving it."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from desktopgrid.client import bearer
from desktopgrid.client.commands.identity import FILE, asked, token_in
from desktopgrid.client.commands.shell import Command, Shell, pass_shell
from desktopgrid.client.commands.types import Pair, Span, path_of
from desktopgrid.client.delegations import Delegated, Delegations, KnownBridges, SeenBridge
from desktopgrid.credentials.proof import Proof, proxy_path
from desktopgrid.credentials.signing import LIFETIME
from desktopgrid.model.errors import BadRequest
from desktopgrid.model.uris import is_uri, located

EXAMPLES = """\b
Examples:
  xw bridges
  xw bridges --trust egi=SHA256:2jmj7l5rSw0yVb...
  xw delegate                      # the proxy where grids keep it
  xw delegate --renew UID --proxy /tmp/x509up_u1000
  xw submit --xwcert UID fractal -- --row 3
"""

BRIDGE = click.option(
    "--bridge", default="", metavar="LOGIN", help="The bridge; left out where there is one."
)


def delegations_of(shell: Shell) -> Delegations:
    """What the user of this shell delegates."""
    return Delegations(shell.grid, KnownBridges.beside(shell.identity_path))


def bridge_for(shell: Shell, name: str) -> SeenBridge:
    """The bridge of this name, whom the user knows; one that is new is shown to somebody at a
    terminal, who may say that he knows it.
    """
    mine = delegations_of(shell)
    known = KnownBridges.beside(shell.identity_path)
    seen = [bridge for bridge in mine.bridges() if not name or name in (bridge.login, bridge.uid)]
    if len(seen) == 1 and seen[0].login not in known.read() and sys.stdin.isatty():
        [new] = seen
        question = (
            f"Bridge {new.login} shows {new.card.fingerprint}, and is new here. Is that what its"
            " administrator told you?"
        )
        if click.confirm(question, err=True):
            known.trust(new.login, new.card.fingerprint)
    return mine.bridge(name)


def credential(shell: Shell, source: str, bridge: str = "") -> str:
    """The delegation that works are to carry: one that is there, by its UID, or what is made of the
    proxy in a file.
    """
    if is_uri(source) and not source.lower().startswith("file:"):
        uid = located(source).uid
        if not uid:
            raise BadRequest(f"{source} is neither a file here nor a delegation of this grid")
        return uid
    path = path_of(source)
    if not path.exists():
        return source
    proof = Proof.read(path, None, lambda: asked("Passphrase of the key"))
    given = delegations_of(shell).give_proxy_once(proof, bridge_for(shell, bridge))
    tell(shell, given)
    return given.uid


def tell(shell: Shell, given: Delegated) -> None:
    """Say what was delegated."""
    whom = f" of {given.subject}" if given.subject else ""
    vo = f", VO {given.vo}" if given.vo else ""
    shell.output.say(
        f"Delegated a credential{whom}{vo}, until {given.expires_at:%Y-%m-%d %H:%M} UTC:"
        f" {given.uid}"
    )
    for note in given.notes:
        shell.output.say(f"Note: {note}")


@click.command(cls=Command, epilog=EXAMPLES)
@click.option(
    "--proxy",
    is_flag=False,
    flag_value="",
    metavar="[FILE]",
    help="Delegate by this proxy; without FILE, and unless another is named, by $X509_USER_PROXY or"
    " /tmp/x509up_uUID.",
)
@click.option("--cert", type=FILE, metavar="FILE", help="Delegate by this X.509 certificate.")
@click.option("--key", type=FILE, metavar="FILE", help="Its private key, which stays here.")
@click.option(
    "--token-file",
    metavar="FILE|-",
    help="Delegate the bearer token in this file, or on standard input, sealed to the bridge.",
)
@click.option(
    "--bearer",
    "is_bearer",
    is_flag=True,
    help="The same by the token that is found as WLCG has it.",
)
@BRIDGE
@click.option("--lifetime", type=Span(), help="How long it lasts, such as 12h.")
@click.option("--renew", "renews", metavar="UID", help="In place of what was delegated before.")
@click.option("--label", default="", help="What it is called in `xw delegations`.")
@pass_shell
def delegate(
    shell: Shell,
    proxy: str | None,
    cert: Path | None,
    key: Path | None,
    token_file: str | None,
    is_bearer: bool,
    bridge: str,
    lifetime: int | None,
    renews: str | None,
    label: str,
) -> None:
    """Let a bridge act for you at sites: works carry it there by `xw submit --xwcert UID`.

    You sign a proxy for a key that the bridge has made; your own key stays where it is, and the
    server has nothing by which it could be you. A token is sealed: only the bridge can read it.
    Prints the delegation's UID.
    """
    ways = [way for way in (proxy, cert, token_file, is_bearer or None) if way is not None]
    if len(ways) > 1 or (key is not None and cert is None):
        raise click.UsageError("by one of --proxy, --cert (with --key), --token-file and --bearer")
    mine, known = delegations_of(shell), bridge_for(shell, _bridge_of(shell, renews, bridge))
    more: dict[str, Any] = {"renews": renews, "label": label}
    if token_file is not None or is_bearer:
        token = token_in(token_file) if token_file is not None else bearer.discovered()
        given = mine.give_token(token, known, _lifetime_of(token, lifetime), **more)
    else:
        path = cert or Path(proxy or proxy_path())
        proof = Proof.read(path, key, lambda: asked("Passphrase of the key"))
        span = timedelta(seconds=lifetime) if lifetime else LIFETIME
        given = mine.give_proxy(proof, known, lifetime=span, **more)
    shell.output.result(given.uid, {"uid": given.uid, "expires_at": given.expires_at.isoformat()})
    tell(shell, given)
    shell.output.say(f"Next: xw submit --xwcert {given.uid} ...; xw delegations")


def _bridge_of(shell: Shell, renews: str | None, named: str) -> str:
    """The bridge that is meant: that of the delegation which is renewed, unless one is named."""
    if renews is None or named:
        return named
    return str(delegations_of(shell).find(renews)["bridge"])


def _lifetime_of(token: str, said: int | None) -> timedelta:
    """How long a token lasts, which it says itself or the command line does."""
    left = bearer.remaining(token)
    if said is None and left is None:
        raise click.UsageError("the token does not say when it ends; say it by --lifetime")
    spans = [span for span in (left, timedelta(seconds=said) if said else None) if span is not None]
    return min(spans)


@click.command(cls=Command)
@pass_shell
def delegations(shell: Shell) -> None:
    """List what you have delegated, and a bridge what it was given: to whom, until when, and which
    works carry it.

    Take one back by `xw revoke UID`: its pilots and their tasks are stopped at once.
    """
    columns = (
        *("uid", "owner", "bridge", "kind", "status", "expires_at", "subject", "vo"),
        *("works", "pilots", "label", "reason"),
    )
    shell.output.rows("delegation", list(shell.grid.objects("delegations")), columns)


@click.command(cls=Command, epilog=EXAMPLES)
@click.option(
    "--trust",
    "trusted",
    multiple=True,
    type=Pair(),
    metavar="LOGIN=FINGERPRINT",
    help="Know this bridge by this fingerprint, which its administrator told you.",
)
@pass_shell
def bridges(shell: Shell, trusted: tuple[tuple[str, str], ...]) -> None:
    """List the bridges that one may delegate to, by what they are known, and whether you know them
    so.
    """
    known = KnownBridges.beside(shell.identity_path)
    for login, fingerprint in trusted:
        if not fingerprint.startswith("SHA256:") or len(fingerprint) != len("SHA256:") + 43:
            raise click.BadParameter(
                f"{fingerprint!r} is no fingerprint, such as SHA256:2jmj7l5rSw0..."
            )
        known.trust(login, fingerprint)
        shell.output.say(f"Bridge {login} is known by {fingerprint} from now on.")
    believed = known.read()
    rows = [
        {
            "login": bridge.login,
            "fingerprint": bridge.card.fingerprint,
            "known": _said(believed.get(bridge.login), bridge.card.fingerprint),
            "offers": bridge.offers,
        }
        for bridge in delegations_of(shell).bridges()
    ]
    shell.output.rows("bridge", rows, ("login", "fingerprint", "known", "offers"))


def _said(known: str | None, shown: str) -> str:
    if known is None:
        return "new here"
    return "yes" if known == shown else f"no: by {known}"
