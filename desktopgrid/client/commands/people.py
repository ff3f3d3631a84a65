"""Who may use the grid: users, user groups, and the end of their right to."""

from __future__ import annotations

from pathlib import Path

import click

from desktopgrid.client.commands.identity import FILE, asked, password_said
from desktopgrid.client.commands.lists import LIMIT
from desktopgrid.client.commands.shell import Command, Shell, pass_shell
from desktopgrid.client.commands.types import Quota
from desktopgrid.credentials.proof import public_part
from desktopgrid.model.errors import UnknownObject
from desktopgrid.model.rights import UserLevel

LEVELS = [level.name.lower() for level in UserLevel]


@click.command(cls=Command)
@LIMIT
@pass_shell
def users(shell: Shell, limit: int) -> None:
    """List users: yourself, or all of them for a super user."""
    columns = (
        *("uid", "login", "level", "usergroup", "email", "revoked"),
        *("used_mib", "quota_mib"),
    )
    shell.output.rows("user", list(shell.grid.objects("users", (), limit)), columns)


@click.command(cls=Command)
@LIMIT
@pass_shell
def usergroups(shell: Shell, limit: int) -> None:
    """List user groups: your own, or all of them for a super user."""
    rows = list(shell.grid.objects("usergroups", (), limit))
    shell.output.rows("usergroup", rows, ("uid", "name"))


@click.command(cls=Command)
@click.argument("login")
@click.option("--level", type=click.Choice(LEVELS), default="standard", show_default=True)
@click.option(
    "--usergroup", metavar="NAME", help="The user group it belongs to; none unless given."
)
@click.option("--email", default="", help="Where to reach the user.")
@click.option(
    "--password",
    metavar="-|@FILE",
    help="Read the password from standard input or a file instead of asking.",
)
@click.option(
    "--cert",
    "certs",
    multiple=True,
    type=FILE,
    metavar="FILE",
    help="A certificate or a proxy of the user's, who may log in by it; then no password is asked.",
)
@click.option(
    "--subject",
    "subjects",
    multiple=True,
    metavar="DN",
    help="The same by the name in it, such as /DC=org/CN=Ann, or https://ISSUER#SUB.",
)
@pass_shell
def senduser(
    shell: Shell,
    login: str,
    level: str,
    usergroup: str | None,
    email: str,
    password: str | None,
    certs: tuple[Path, ...],
    subjects: tuple[str, ...],
) -> None:
    """Insert a user who logs in as LOGIN. For super users.

    A user of level worker without a user group is what public workers run under. Of a certificate
    only its public part is sent.
    """
    names = (*subjects, *map(public_part, certs))
    secret = "" if password is None else password_said(password)
    if password is None and not names:
        secret = asked("Password")
    uid = shell.grid.send_user(
        login, level=level, user_group=usergroup, email=email, password=secret, subjects=names
    )
    shell.output.result(uid, {"uid": uid, "login": login, "level": level})
    shell.output.say(f"Next, as the user: xw login --server ... --ca ... {login}")


@click.command(cls=Command)
@click.argument("user", metavar="LOGIN")
@click.option("--level", type=click.Choice(LEVELS), help="What the user may do from now on.")
@click.option("--usergroup", metavar="NAME", help="The user group to move to; '' for none.")
@click.option("--email", help="Where to reach the user.")
@click.option(
    "--add-cert",
    "added",
    multiple=True,
    type=FILE,
    metavar="FILE",
    help="A certificate or a proxy of the user's, who may log in by it from now on.",
)
@click.option(
    "--remove-cert",
    "removed",
    multiple=True,
    type=FILE,
    metavar="FILE",
    help="One that is good no more; what was logged in by it ends.",
)
@click.option(
    "--add-subject",
    "more",
    multiple=True,
    metavar="DN",
    help="The same by the name, such as /DC=org/CN=Ann, or https://ISSUER#SUB.",
)
@click.option("--remove-subject", "less", multiple=True, metavar="DN", help="The same by the name.")
@click.option(
    "--quota",
    "quota_mib",
    type=Quota(),
    help="What the user's datas may take on the server, such as 10G; `none` for all there is,"
    " `usual` for what everybody's may.",
)
@pass_shell
def moduser(
    shell: Shell,
    user: str,
    level: str | None,
    usergroup: str | None,
    email: str | None,
    quota_mib: int | None,
    added: tuple[Path, ...],
    removed: tuple[Path, ...],
    more: tuple[str, ...],
    less: tuple[str, ...],
) -> None:
    """Change a user's level, user group, e-mail address, quota or certificates. For super users.

    It holds at once, also for sessions that are open and for workers that run.
    """
    more += tuple(map(public_part, added))
    less += tuple(map(public_part, removed))
    if (level, usergroup, email, quota_mib, more, less) == (None, None, None, None, (), ()):
        raise click.UsageError(
            "nothing to change; give --level, --usergroup, --email, --quota, --add-cert or another"
        )
    reply = shell.grid.change_user(
        user,
        level=level,
        user_group=usergroup,
        email=email,
        quota_mib=quota_mib,
        add_subjects=more,
        remove_subjects=less,
    )
    columns = ("uid", "login", "level", "usergroup", "email", "quota_mib")
    shell.output.rows("user", [reply], columns)


@click.command(cls=Command)
@click.argument("name")
@pass_shell
def sendusergroup(shell: Shell, name: str) -> None:
    """Insert the user group NAME. For super users."""
    uid = shell.grid.send_bag("usergroup", name)
    shell.output.result(uid, {"uid": uid, "name": name})
    shell.output.say(f"Next: xw senduser LOGIN --usergroup {name}")


@click.command(cls=Command)
@click.option("--user", metavar="LOGIN", help="Only this user's.")
@LIMIT
@pass_shell
def tokens(shell: Shell, user: str | None, limit: int) -> None:
    """List tokens, newest first: yours, or all of them for a super user.

    When a token was last used is known to the hour. A scope that is empty is everything.
    """
    columns = (
        *("uid", "user", "label", "scope", "source"),
        *("created_at", "expires_at", "last_used_at", "revoked"),
    )
    where = {"user": user} if user is not None else {}
    rows = list(shell.grid.objects("tokens", (), limit, **where))
    if where and not rows and not list(shell.grid.objects("users", (), 1, login=user)):
        raise UnknownObject.named("user", str(user))
    shell.output.rows("token", rows, columns)


@click.command(cls=Command)
@click.argument("uid", metavar="LOGIN|TOKEN|DELEGATION")
@pass_shell
def revoke(shell: Shell, uid: str) -> None:
    """Revoke a user, or a token or a delegation of yours: at once, wherever it is in use.

    What runs on a revoked worker is tried again on another one, and so is what runs in pilots that
    were submitted by a delegation; the works of a revoked user are aborted.
    """
    shell.grid.revoke(uid)
    shell.output.say(f"{uid} is revoked.")
