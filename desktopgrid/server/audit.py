"""The audit log: who did what to which object, and for which real user each task was given to which
host (XW-PIL-6). One JSON object a line, made once what it speaks of is on disk.

A record names objects, levels and modes; never an argument of a work, a password or a verifier.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from desktopgrid.model.rights import Who
from desktopgrid.server.logs import numbered
from desktopgrid.server.state import Grid, clean
from desktopgrid.wire import messages as m

if TYPE_CHECKING:
    from desktopgrid.server.core import Peer

DONE, REFUSED = "done", "refused"
LONGEST_WORD = 200
MOST_REFUSED = 10
"""Objects of a refused request that are named: nobody has checked them."""


class Record(msgspec.Struct, omit_defaults=True, gc=False):
    """One line. ``user`` and ``level`` are his who acts; of a task (verb ``task``) ``user`` is the
    owner of its work and ``subject`` his name in certificates, ``worker`` the identity of the
    worker that got it.
    """

    at: datetime
    verb: str
    outcome: str
    user: str
    code: str = ""
    level: str = ""
    objects: tuple[str, ...] = ()
    what: dict[str, Any] = {}
    session: str = ""
    credential: str = ""
    address: str = ""
    application: str = ""
    host: str = ""
    host_name: str = ""
    worker: str = ""
    pilot: str = ""
    subject: str = ""
    delegation: str = ""


WHAT: Mapping[type[m.Message], tuple[str, ...]] = {
    m.Chmod: ("rights",),
    m.ChangeUser: ("level", "group", "email", "quota_mib", "add_subjects", "remove_subjects"),
    m.SendApplication: ("name", "cpu", "os", "data", "rights"),
    m.SendData: ("name", "size", "rights"),
    m.SendGroup: ("kind", "name"),
    m.SendToken: ("user", "lifetime", "label", "scope"),
    m.SendUser: ("login", "level", "group", "email"),
    m.SubmitPilots: ("site", "delegation"),
    m.Validate: ("is_valid",),
    m.TakeOffer: ("bridge",),
    m.Delegate: ("bridge", "kind", "offer", "lifetime", "label"),
}
"""The fields of a request that say what it is about, beside its objects. None of them is secret."""
OBJECTS = (
    *("uid", "uids", "works", "user", "pilots", "stamps", "delegations", "offers"),
    *("application", "bridge"),
)
"""The fields of requests that name objects."""
CHANGED = ("uid", "aborted", "removed", "revoked", "stamps", "offer")
"""The fields of replies that do: those that were there, and are not as before."""


class Actor(NamedTuple):
    """Who acts: by which credential, from where, in which session if any."""

    user: str
    level: str
    credential: str
    address: str
    session: str = ""


def actor(grid: Grid, who: Who, credential: str, address: str, session: str = "") -> Actor:
    """Who acts, by his login."""
    level = who.level.name.lower()
    return Actor(grid.users[who.user].login, level, credential, address, session)


def of_request(
    by: Actor, asked: m.Message, body: Mapping[str, Any], code: str, now: datetime
) -> Record:
    """What a client asked for, and got (``body``), or did not get (``code``)."""
    objects = _named(asked)[:MOST_REFUSED] if code else _changed(asked, body)
    return Record(
        now,
        asked.verb,
        REFUSED if code else DONE,
        code=code,
        objects=tuple(clean(uid, 64) for uid in objects),
        what=_what(asked),
        **by._asdict(),
    )


def _changed(asked: m.Message, body: Mapping[str, Any]) -> Sequence[str]:
    for field in CHANGED:
        if field in body:
            return _names(body[field])
    return _named(asked)


def _named(asked: m.Message) -> Sequence[str]:
    return next((_names(found) for f in OBJECTS if (found := getattr(asked, f, None))), ())


def _names(value: Any) -> Sequence[str]:
    # Requests to come may have other things under these names; a line about them is no error.
    return tuple(map(str, value)) if isinstance(value, list | tuple | dict) else (str(value),)


def _what(asked: m.Message) -> dict[str, Any]:
    found = {field: getattr(asked, field) for field in WHAT.get(type(asked), ())}
    if isinstance(asked, m.Submit):
        found = {
            "works": len(asked.arguments),
            "application": asked.description.get("application"),
            "label": asked.description.get("label"),
        }
    return {f: _plain(f, value) for f, value in found.items() if value not in (None, "", ())}


def _plain(field: str, value: Any) -> Any:
    if field == "rights" and isinstance(value, int):
        return f"{value:o}"
    return value if isinstance(value, int) else clean(str(value), LONGEST_WORD)


def of_upload(by: Actor, data: str, now: datetime) -> Record:
    """A client uploaded the content of ``data``."""
    return Record(now, "upload", DONE, objects=(data,), **by._asdict())


def of_login(login: str, address: str, token: str, code: str, now: datetime) -> Record:
    """Somebody tried a password, and has ``token`` if it was right."""
    outcome, objects = (REFUSED, ()) if code else (DONE, (token,))
    name = clean(login, LONGEST_WORD)
    return Record(now, "login", outcome, name, code, objects=objects, address=address)


def of_password(login: str, address: str, uid: str, now: datetime) -> Record:
    """A user, who showed by his password who he is, has another one from now on."""
    return Record(now, "passwd", DONE, login, objects=(uid,), address=address)


def at_the_machine(verb: str, account: str, objects: tuple[str, ...], now: datetime) -> Record:
    """What the administrator did at the server's machine, as the system's user ``account``."""
    return Record(now, verb, DONE, account, level="machine", objects=objects)


def of_task(grid: Grid, peer: Peer, given: m.Assign, now: datetime) -> Record:
    """A task was given to the host of ``peer``."""
    host = grid.known_hosts[peer.host or ""]
    return Record(
        now,
        "task",
        DONE,
        given.for_user,
        objects=(given.task, given.work),
        application=given.application,
        host=host.uid,
        host_name=host.facts.name,
        worker=grid.users[peer.who.user].login,
        pilot=host.pilot or "",
        subject=given.subject,
        delegation=_delegation_of(grid, host.pilot),
        address=peer.address,
    )


def _delegation_of(grid: Grid, stamp: str | None) -> str:
    """The user's credential by which a pilot was submitted; empty for the site's own."""
    pilot = grid.pilots.get(stamp) if stamp is not None else None
    return (pilot.delegation or "") if pilot is not None else ""


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Record)


def encode(records: Sequence[Record]) -> bytes:
    """``records`` as the log has them."""
    return _ENCODER.encode_lines(records)


# --- reading it -----------------------------------------------------------------------------------


def read(path: Path) -> Iterator[Record]:
    """What the log ``path`` and its older files hold, the oldest first. A line that is none of ours
    is passed over.
    """
    older = (numbered(path, number) for number in range(1, 1000))
    files = [path]
    for file in older:
        if not file.exists():
            break
        files.append(file)
    for file in reversed(files):
        if file.exists():
            yield from _read_file(file)


def _read_file(path: Path) -> Iterator[Record]:
    with path.open("rb") as lines:
        for line in lines:
            try:
                yield _DECODER.decode(line)
            except msgspec.MsgspecError:
                continue


def chosen(
    records: Iterable[Record],
    users: Sequence[str] = (),
    objects: Sequence[str] = (),
    since: datetime | None = None,
    until: datetime | None = None,
) -> Iterator[Record]:
    """The records of these users about these objects, where they are given, in this time."""
    for record in records:
        if since is not None and record.at < since:
            continue
        if until is not None and record.at >= until:
            continue
        if users and not {record.user, record.worker, record.subject}.intersection(users):
            continue
        if objects and not any(_is_about(record, uid) for uid in objects):
            continue
        yield record


def _is_about(record: Record, uid: str) -> bool:
    """Whether ``record`` speaks of the object ``uid``. The names of a submission's works, and of a
    work's tasks, begin with it.
    """
    fields = (
        *(record.host, record.host_name, record.pilot, record.credential, record.session),
        *(record.delegation, record.subject),
    )
    if uid in fields or uid == record.application:
        return True
    return any(name == uid or name.startswith((f"{uid}-", f"{uid}.")) for name in record.objects)
