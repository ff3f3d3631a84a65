"""Who may do what to what: user levels, access rights and the kinds of workers, as pure functions.

Every request is checked by one of these; the server's dispatcher has a policy for each verb and
answers none without. Sections in brackets are the XWHEP manual's.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, Flag, IntEnum
from typing import Optional

PRIVATE = 0o700
GROUP = 0o750
PUBLIC = 0o755

READ = 0o4
WRITE = 0o2
EXECUTE = 0o1


class UserLevel(IntEnum):
    """What a user may do, each level with all of the one below it but WORKER, which is a case of
    its own (3.2).
    """

    WORKER = 10
    """May only run works, and give back their results."""
    STANDARD = 20
    """May insert, change and delete what is his own, and private applications."""
    ADVANCED = 30
    """Also public and group applications, and workers."""
    SUPER = 40
    """Also users and user groups."""

    @classmethod
    def named(cls, name: str) -> UserLevel:
        """The level called ``name``, in any case; raises ValueError naming them all."""
        try:
            return cls[name.upper()]
        except KeyError:
            levels = ", ".join(level.name.lower() for level in cls)
            raise ValueError(f"{name!r} is no user level; levels are {levels}") from None


class Scope(Flag):
    """What a token may be used for. It never gives more than its user may do."""

    READ = 1
    """To look at what there is, and to fetch results."""
    CREATE = 2
    """To submit works and the datas that they need."""
    CANCEL = 4
    """To take works back."""
    RUN = 8
    """To run works: a worker's."""
    MANAGE = 16
    """For everything else."""
    BRIDGE = 32
    """To be a bridge: to be given users' credentials, and to submit pilots with them. Only a super
    user makes a token that is good for it, and none is unless it says so.
    """

    @classmethod
    def of(cls, words: str) -> Scope:
        """The scope that ``words`` say, those that :func:`str` gives; raises ValueError with what
        there is.
        """
        if not words:
            return EVERYTHING
        scope = cls(0)
        for word in words.split():
            try:
                scope |= cls[word.upper()]
            except KeyError:
                known = ", ".join(SCOPES)
                raise ValueError(f"{word[:40]!r} is no scope; scopes are {known}") from None
        return scope

    def __str__(self) -> str:
        """Its words, as a token's row has them; none for everything."""
        if self == EVERYTHING:
            return ""
        return " ".join(name for name, part in SCOPES.items() if part in self)


SCOPES = {scope.name.lower(): scope for scope in Scope if scope.name}
EVERYTHING = Scope.READ | Scope.CREATE | Scope.CANCEL | Scope.RUN | Scope.MANAGE


@dataclass(frozen=True)
class Who:
    """The one who asks, as far as rights go; ``scope`` is what his token, called ``credential``, is
    good for.
    """

    user: str
    level: UserLevel
    group: Optional[str] = None
    scope: Scope = EVERYTHING
    credential: str = ""


class Reach(Enum):
    """How far an object, or a worker, is open: to its owner, to the owner's user group, to
    everybody (3.1).
    """

    PRIVATE = "private"
    GROUP = "group"
    PUBLIC = "public"


def reach_of(rights: int) -> Reach:
    """How far ``rights`` open an object: what others may read or execute is public, what the group
    may, group.
    """
    if rights & (READ | EXECUTE):
        return Reach.PUBLIC
    if (rights >> 3) & (READ | EXECUTE):
        return Reach.GROUP
    return Reach.PRIVATE


def grants(who: Who, bit: int, owner: str, owner_group: Optional[str], rights: int) -> bool:
    """Whether ``rights`` of an object of ``owner`` give ``who`` the right ``bit``: a file system's
    rule (3.3).
    """
    if who.level >= UserLevel.SUPER:
        return True
    if who.user == owner:
        return bool((rights >> 6) & bit)
    if who.group is not None and who.group == owner_group and (rights >> 3) & bit:
        return True
    return bool(rights & bit)


def may_insert(who: Who) -> bool:
    """Whether ``who`` may insert datas, works, sessions and groups (3.2)."""
    return who.level >= UserLevel.STANDARD


def application_rights(who: Who) -> Optional[int]:
    """The rights of an application that ``who`` inserts: public from advanced up, else private;
    None: he may not (3.3).
    """
    if who.level >= UserLevel.ADVANCED:
        return PUBLIC
    return PRIVATE if who.level >= UserLevel.STANDARD else None


def may_choose_rights(who: Who, rights: int) -> bool:
    """Whether ``who`` may insert an application with ``rights``: advanced for group and public ones
    (3.2).
    """
    return who.level >= UserLevel.ADVANCED or reach_of(rights) is Reach.PRIVATE


def may_change(who: Who, owner: str) -> bool:
    """Whether ``who`` may delete an object of ``owner``, or change its rights: its owner and
    privileged users (3.3).
    """
    return may_insert(who) and (who.user == owner or who.level >= UserLevel.SUPER)


def may_administer(who: Who) -> bool:
    """Whether ``who`` may insert, change and delete users, user groups and sites (3.2, C-16)."""
    return who.level >= UserLevel.SUPER


def may_provision(who: Who) -> bool:
    """Whether ``who`` may submit and remove pilots: they are workers, so advanced users (3.2)."""
    return who.level >= UserLevel.ADVANCED


def worker_reach(who: Who) -> Reach:
    """The kind of worker that runs under this identity (3.1, 8.4.2)."""
    if who.level is not UserLevel.WORKER:
        return Reach.PRIVATE
    return Reach.GROUP if who.group is not None else Reach.PUBLIC


def may_run(worker: Who, owner: str, owner_group: Optional[str], rights: int) -> bool:
    """Whether a worker may be given a work of ``owner`` with its application's ``rights`` (8.4.2,
    C-6, C-7).

    A private worker runs all works of its owner and no others; a group worker those of its group; a
    public one the public ones.
    """
    kind = worker_reach(worker)
    if kind is Reach.PRIVATE:
        return worker.user == owner
    if kind is Reach.GROUP:
        return worker.group == owner_group and reach_of(rights) is Reach.GROUP
    return reach_of(rights) is Reach.PUBLIC


def may_see_worker(who: Who, worker: Who) -> bool:
    """Whether ``who`` may know of a worker: a public one everybody, a group's its members, a
    private one its owner (3.1, XW-GRP-11, XW-GRP-12).
    """
    if who.level >= UserLevel.SUPER or who.user == worker.user:
        return True
    reach = worker_reach(worker)
    if reach is Reach.GROUP:
        return who.group == worker.group
    return reach is Reach.PUBLIC


def may_see_pilot(who: Who, owner: str) -> bool:
    """Whether ``who`` may know of a pilot of ``owner``: himself, and super users."""
    return who.user == owner or who.level >= UserLevel.SUPER


def may_refer(work_rights: int, data_owner_is_owner: bool, data_rights: int) -> bool:
    """Whether a work may refer to a data: never to one with lower rights than its own (3.3)."""
    order = [Reach.PRIVATE, Reach.GROUP, Reach.PUBLIC]
    reach = order.index(reach_of(work_rights))
    if reach == 0:
        return data_owner_is_owner or reach_of(data_rights) is not Reach.PRIVATE
    return order.index(reach_of(data_rights)) >= reach
