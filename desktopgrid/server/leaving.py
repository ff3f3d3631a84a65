"""The end of users and of user groups: revoked, or removed for good.

Who is removed is marked deleted; his login is never given again. His open works are cancelled, his
tokens and sessions end, and what runs on his workers is tried again elsewhere. What he owns stays,
as the files of a Unix user do: others may be using it, and super users can remove it.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from desktopgrid.model.errors import AccessDenied, UnknownObject
from desktopgrid.model.lifecycle import DelegationEvent, DelegationStatus
from desktopgrid.model.objects import User, UserGroup
from desktopgrid.model.rights import Scope, Who, may_administer
from desktopgrid.server import changes as c
from desktopgrid.server import delegations
from desktopgrid.server.hosts import lose_hosts
from desktopgrid.server.state import Grid, Outcome
from desktopgrid.server.tasks import abort
from desktopgrid.server.users import revoke_token, save_credential, save_user, save_user_group
from desktopgrid.wire import messages as m

MOST_NAMED = 5
"""Members of a user group that a refusal names."""


def revoke_user(grid: Grid, user: User, how: str, now: datetime, out: Outcome) -> None:
    """``user`` may do nothing from now on, and neither may his workers; his works are aborted."""
    reason = f"its user was {how}"
    save_user(grid, replace(user, is_revoked=True), out)
    for work in [w for w in grid.works.values() if w.submission.owner == user.uid]:
        abort(grid, work, reason, now, out)
    delegations.revoke_those_of(grid, user, reason, now, out)
    # His pilots may be the workers of others, by whose credentials he submitted them.
    pilots = {pilot.stamp for pilot in grid.pilots.values() if pilot.owner == user.uid}
    lose_hosts(
        grid,
        lambda state: state.who.user == user.uid or state.host.pilot in pilots,
        reason,
        now,
        out,
    )
    out.closing.append((f"by:{user.uid}", "not-authenticated", how))


def removable(grid: Grid, who: Who, name: str, others: tuple[str, ...]) -> User | UserGroup | None:
    """The user of this UID or login, or the user group of this UID or name, which ``who`` may
    remove together with ``others``; None if there is none, as for everybody but super users.

    Raises AccessDenied for a super user himself, and for a user group that has members.
    """
    user, group = grid.user_called(name), grid.user_group_called(name)
    if not may_administer(who) or (user is None and group is None):
        return None
    if user is not None:
        if user.uid == who.user:
            raise AccessDenied("a super user may not remove himself: another one has to be there")
        return user
    assert group is not None  # noqa: S101 - one of them is there
    members = sorted(
        each.login
        for each in grid.users.values()
        if each.group == group.uid
        and not each.is_deleted
        and not {each.uid, each.login}.intersection(others)
    )
    if members:
        named = ", ".join(members[:MOST_NAMED]) + (", ..." if len(members) > MOST_NAMED else "")
        raise AccessDenied(
            f"user group {group.name} has members: {named}; remove them, or move them by"
            " `xw moduser --usergroup`"
        )
    return group


def remove(grid: Grid, found: User | UserGroup, now: datetime, out: Outcome) -> None:
    """``found`` is marked deleted."""
    if isinstance(found, UserGroup):
        save_user_group(grid, replace(found, is_deleted=True), out)
        return
    out.changes.extend(c.SubjectSaved(subject, None) for subject in found.subjects)
    gone = replace(found, is_deleted=True, subjects=())
    revoke_user(grid, gone, "removed", now, out)
    for credential in [k for k in grid.credentials.values() if k.user == found.uid]:
        save_credential(grid, replace(credential, is_revoked=True), out)


def revoke(
    grid: Grid, who: Who, session: str, asked: m.Revoke, now: datetime, out: Outcome
) -> dict[str, Any]:
    """XW-USR-13: at any time, and at once."""
    delegation = delegations.revocable(grid, who, asked.uid)
    if delegation is not None:
        if delegation.status is not DelegationStatus.REVOKED:
            by = grid.users[who.user].login
            reason = f"it was revoked by {by}"
            delegations.end(grid, delegation, DelegationEvent.REVOKED, reason, now, out)
        return {"revoked": asked.uid}
    credential, user = grid.credentials.get(asked.uid), grid.user_called(asked.uid)
    if credential is not None and credential.kind != "token":
        credential = None  # a password has its user's UID, and it is the user who is meant
    owner = credential.user if credential is not None else user.uid if user is not None else None
    if owner is None:
        raise UnknownObject.named("user, token or delegation", asked.uid)
    if not may_administer(who) and not (credential is not None and owner == who.user):
        raise AccessDenied("only a super user may revoke users and others' tokens")
    if Scope.MANAGE not in who.scope and (credential is None or credential.scope & ~who.scope):
        # So that one can log out, and no more.
        raise AccessDenied(f"your token is good for {who.scope}: it takes back no greater one")
    if credential is not None:
        revoke_token(grid, credential, "its token was revoked", now, out)
    elif user is not None:
        if user.uid == who.user:
            raise AccessDenied("a super user may not revoke himself: another one has to be there")
        revoke_user(grid, user, "revoked", now, out)
    return {"revoked": asked.uid}
