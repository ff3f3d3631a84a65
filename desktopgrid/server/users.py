"""What requests about users lead to: users, and their tokens."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from desktopgrid.credentials.subjects import canonical
from desktopgrid.model.errors import (
    AccessDenied,
    AlreadyThere,
    BadRequest,
    LimitExceeded,
    UnknownObject,
)
from desktopgrid.model.objects import Credential, User, UserGroup
from desktopgrid.model.rights import EVERYTHING, Scope, UserLevel, Who, may_administer
from desktopgrid.server import changes as c
from desktopgrid.server import delegations
from desktopgrid.server.hosts import lose_hosts
from desktopgrid.server.state import Grid, Outcome, check_name, clean, timestamp
from desktopgrid.server.tasks import offer
from desktopgrid.wire import messages as m

Body = dict[str, Any]

LONGEST_LABEL = 100
MOST_SUBJECTS = 20
MOST_QUOTA = 1 << 40
LONGEST_LIFETIME = 10**9
"""Seconds that a token may live, unless it has no end."""


def send_user(
    grid: Grid, who: Who, session: str, asked: m.SendUser, now: datetime, out: Outcome
) -> Body:
    """A user is inserted; a login is given once (XW-USR-3)."""
    login = check_name(asked.login)
    if login in grid.logins:
        raise AlreadyThere(f"there is a user {login!r} already")
    level = _level(asked.level)
    group = _user_group(grid, asked.group) if asked.group is not None else None
    user = User(grid.check_new(asked.uid), login, level, group, clean(asked.email, 255))
    user = _known_by(grid, user, asked.subjects, out)
    save_user(grid, user, out)
    if asked.password:
        # The shell has replaced the password by its argon2 hash before it came here.
        save_credential(grid, Credential(user.uid, user.uid, "password", asked.password, now), out)
    return {"uid": user.uid, "login": user.login}


def change_user(
    grid: Grid, who: Who, session: str, asked: m.ChangeUser, now: datetime, out: Outcome
) -> Body:
    """C-9: a user is in one user group at most, and a super user moves him to another."""
    user = _user(grid, asked.user)
    if asked.level is not None:
        user = replace(user, level=_level(asked.level))
        if user.uid == who.user and not may_administer(grid.who(user)):
            raise AccessDenied(
                "a super user may not step down himself: another one has to be there"
            )
    if asked.group is not None:
        user = replace(user, group=_user_group(grid, asked.group) if asked.group else None)
    if asked.email is not None:
        user = replace(user, email=clean(asked.email, 255))
    if asked.quota_mib is not None:
        if not m.USUAL_QUOTA <= asked.quota_mib <= MOST_QUOTA:
            raise BadRequest(f"a quota is 0 to {MOST_QUOTA} MiB, not {asked.quota_mib}")
        quota = None if asked.quota_mib == m.USUAL_QUOTA else asked.quota_mib
        user = replace(user, quota_mib=quota)
    user = _known_by(grid, user, asked.add_subjects, out)
    user = _unknown_by(grid, user, asked.remove_subjects, now, out)
    save_user(grid, user, out)
    offer(grid, now, out)
    group = grid.user_groups.get(user.group) if user.group is not None else None
    return {
        "uid": user.uid,
        "login": user.login,
        "level": user.level.name.lower(),
        "usergroup": group.name if group is not None else "",
        "email": user.email,
        "quota_mib": grid.quota(user.uid) or None,
    }


def _user(grid: Grid, name: str) -> User:
    """The user with this UID or login."""
    user = grid.user_called(name)
    if user is None:
        raise UnknownObject.named("user", name)
    return user


def _level(name: str) -> UserLevel:
    try:
        return UserLevel.named(name)
    except ValueError as error:
        raise BadRequest(str(error)) from None


def _user_group(grid: Grid, name: str) -> str:
    """The UID of the user group with this UID or name."""
    group = grid.user_group_called(name)
    if group is None:
        raise UnknownObject.named("user group", name)
    return group.uid


def _known_by(grid: Grid, user: User, names: Iterable[str], out: Outcome) -> User:
    """``user`` with these names in certificates as well; raises AlreadyThere where one is another
    user's.
    """
    more = tuple(dict.fromkeys(map(canonical, names)))
    for subject in more:
        if grid.subjects.get(subject, user.uid) != user.uid:
            raise AlreadyThere(f"another user is known by {subject!r} already")
    subjects = tuple(sorted({*user.subjects, *more}))
    if len(subjects) > MOST_SUBJECTS:
        raise LimitExceeded(f"a user is known by at most {MOST_SUBJECTS} names in certificates")
    out.changes.extend(c.SubjectSaved(subject, user.uid) for subject in more)
    return replace(user, subjects=subjects)


def _unknown_by(grid: Grid, user: User, names: Iterable[str], now: datetime, out: Outcome) -> User:
    """``user`` without these names in certificates; what was proved by them ends."""
    gone = set(map(canonical, names))
    for subject in gone:
        if subject not in user.subjects:
            raise UnknownObject(f"user {user.login!r} is not known by {subject!r}")
    reason = "its user is not known by that name any more"
    for token in list(grid.credentials.values()):
        if token.user == user.uid and token.subject in gone and not token.is_revoked:
            revoke_token(grid, token, reason, now, out)
    delegations.revoke_all(
        grid, lambda each: each.owner == user.uid and each.subject in gone, reason, now, out
    )
    out.changes.extend(c.SubjectSaved(subject, None) for subject in sorted(gone))
    return replace(user, subjects=tuple(s for s in user.subjects if s not in gone))


def save_user(grid: Grid, user: User, out: Outcome) -> None:
    """``user`` is as given from now on."""
    grid.put_user(user)
    out.changes.append(
        c.UserSaved(
            user.uid,
            user.login,
            int(user.level),
            user.group,
            user.email,
            user.is_revoked,
            user.quota_mib,
            user.is_deleted,
        )
    )


def save_user_group(grid: Grid, group: UserGroup, out: Outcome) -> None:
    """``group`` is as given from now on."""
    grid.user_groups[group.uid] = group
    out.changes.append(c.UserGroupSaved(group.uid, group.name, group.is_deleted))


def save_credential(grid: Grid, credential: Credential, out: Outcome) -> None:
    """``credential`` is as given from now on."""
    grid.credentials[credential.uid] = credential
    out.changes.append(
        c.CredentialSaved(
            credential.uid,
            credential.user,
            credential.kind,
            credential.verifier,
            credential.created_at.timestamp(),
            timestamp(credential.expires_at),
            credential.is_revoked,
            credential.label,
            str(credential.scope),
            credential.source,
            credential.subject,
            json.dumps(credential.serials) if credential.serials else None,
        )
    )


def send_token(
    grid: Grid, who: Who, session: str, asked: m.SendToken, now: datetime, out: Outcome
) -> Body:
    """A token is made for a user, by himself or by a super user."""
    user = _user(grid, asked.user or who.user)
    if user.uid != who.user and not may_administer(who):
        raise AccessDenied("only a super user may make tokens for others")
    if len(asked.verifier) != 64 or set(asked.verifier) - set("0123456789abcdef"):
        raise BadRequest("a verifier must be 64 hexadecimal digits")
    grid.check_new(asked.uid)
    if asked.lifetime is not None and not 0 < asked.lifetime <= LONGEST_LIFETIME:
        raise BadRequest(f"lifetime is 1 to {LONGEST_LIFETIME} seconds")
    try:
        scope = Scope.of(asked.scope)
    except ValueError as error:
        raise BadRequest(str(error)) from None
    allowed = who.scope & EVERYTHING
    if Scope.BRIDGE in scope:
        if not may_administer(who) or Scope.MANAGE not in who.scope:
            raise AccessDenied("only a super user makes a token that is good for being a bridge")
        allowed |= Scope.BRIDGE
    expires_at = now + timedelta(seconds=asked.lifetime) if asked.lifetime else None
    token = Credential(
        asked.uid,
        user.uid,
        "token",
        asked.verifier,
        now,
        expires_at,
        label=clean(asked.label, LONGEST_LABEL),
        scope=scope & allowed,
    )
    save_credential(grid, _as_proved(token, grid.credentials.get(who.credential)), out)
    return {"uid": asked.uid}


def _as_proved(token: Credential, proof: Credential | None) -> Credential:
    """``token`` as one may have it who has shown himself by ``proof``: where that was given for a
    certificate or an issuer's token, what takes it back takes ``token`` back as well, and so does
    its end, unless ``token`` is a worker's: who had a proxy for a day must not stay for ever.
    """
    if proof is None or not proof.source or proof.user != token.user:
        return token
    ends_at = [at for at in (token.expires_at, proof.expires_at) if at is not None]
    is_workers = not token.scope & ~Scope.RUN
    return replace(
        token,
        expires_at=token.expires_at if is_workers else min(ends_at, default=None),
        source=proof.source,
        subject=proof.subject,
        serials=proof.serials,
    )


def revoke_token(grid: Grid, token: Credential, reason: str, now: datetime, out: Outcome) -> None:
    """``token`` is good for nothing any more: its sessions end, and what its workers had is given
    to others.
    """
    save_credential(grid, replace(token, is_revoked=True), out)
    lose_hosts(grid, lambda state: state.credential == token.uid, reason, now, out)
    out.closing.append((f"by:{token.uid}", "not-authenticated", reason))
