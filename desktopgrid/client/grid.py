"""The grid as Python sees it.

    with Grid.open() as grid:
        result = grid.run(Description("fractal"), ["--row", "3"])
        sweep = grid.sweep(Description("fractal"), [["--row", str(n)] for n in range(500)])
        for result in grid.wait(sweep.works):
            print(result.work, result.exit_code, result.stdout)

A process needs one Grid; its threads may share it. What the server refuses is raised as the error
of :mod:`desktopgrid.model.errors` that the refusal names.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from desktopgrid.client import files, profile
from desktopgrid.client.arrivals import Arrivals
from desktopgrid.client.connection import OnBytes
from desktopgrid.client.parts import Part, parts_of
from desktopgrid.client.replies import field, result_of, rights_of
from desktopgrid.client.reports import UsageReport
from desktopgrid.client.session import PATIENCE, RESULTS_A_REQUEST, GridSession, Reply
from desktopgrid.client.watches import OnEnded
from desktopgrid.link.identity import Identity
from desktopgrid.model.errors import BadRequest, GridError, NotAuthenticated, UnknownObject
from desktopgrid.model.objects import (
    UID,
    Data,
    Description,
    Platform,
    Result,
    new_uid,
)
from desktopgrid.model.origins import Origin
from desktopgrid.model.rights import EVERYTHING, PRIVATE, PUBLIC, Scope, UserLevel
from desktopgrid.model.uris import located
from desktopgrid.wire import messages as m
from desktopgrid.wire.proof import new_secret, verifier_of

NAMES_A_REQUEST = 2_000

PARTS_AHEAD = 8
"""Messages of a sweep that may be unanswered: each is long."""


@dataclass(frozen=True)
class Submitted:
    """A submission that the grid has: its name, those of its works, and which workers may take
    them. ``was_there``: it has an origin, and is the same as an earlier one.
    """

    uid: UID
    works: tuple[UID, ...]
    runs_on: str
    was_there: bool = False


class Grid:
    """Works, datas, applications and hosts, through one session with the server."""

    def __init__(self, session: GridSession) -> None:
        self.session = session

    @classmethod
    def open(cls, identity: Identity | Path | None = None, patience: float = PATIENCE) -> Self:
        """Connect as ``identity``, or as whom `xw login` made us; raises NotAuthenticated, or
        Unavailable where no server answers for ``patience`` seconds.
        """
        if isinstance(identity, Identity):
            return cls._opened(identity, patience)
        path = profile.identity_path(identity)
        try:
            return cls._opened(profile.load(path), patience)
        except NotAuthenticated:
            # A token that was kept may have come to its end; the password has not.
            if not profile.forget(path):
                raise
            return cls._opened(profile.load(path), patience)

    @classmethod
    def _opened(cls, identity: Identity, patience: float) -> Self:
        grid = cls(GridSession(identity, patience=patience))
        try:
            grid.session.open()
        except BaseException:
            grid.close()
            raise
        return grid

    def close(self) -> None:
        """Take leave. Works that were submitted go on."""
        self.session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Grid by {self.session!r}>"

    # Submitting

    def submit(
        self,
        description: Description,
        arguments: Sequence[str] = (),
        on_ended: OnEnded | None = None,
    ) -> Submitted:
        """Submit one work. When this returns it cannot be lost any more.

        One with an ``origin`` is named by it: submitting it again is submitting it once.
        """
        part = Part(0, (tuple(arguments),))
        uid = self.uid_of(description.origin) if description.origin else None
        works, asked = self.session.start(description, part, uid, is_single=True, on_ended=on_ended)
        reply = self.session.answer(asked)
        was_there = bool(reply.get("was_there"))
        return Submitted(works[0], (works[0],), str(reply.get("runs_on", "")), was_there)

    def uid_of(self, origin: str) -> UID:
        """The name of the work that we make of what is called ``origin`` elsewhere."""
        return Origin.parse(origin).uid(self.session.welcome.user)

    def sweep(
        self,
        description: Description,
        argument_lists: Iterable[Sequence[str]],
        on_ended: OnEnded | None = None,
    ) -> Submitted:
        """Submit one work an argument list: all of them, or none that would stay."""
        parts = list(parts_of(tuple(arguments) for arguments in argument_lists))
        if not parts:
            raise BadRequest("a sweep needs at least one argument list")
        uid = new_uid()
        works, asked = self.session.start(description, parts[0], uid, on_ended=on_ended)
        # What is wrong with the description is wrong in every part: one is asked before the others.
        runs_on = str(self.session.answer(asked).get("runs_on", ""))
        try:
            promises: deque[Future[Reply]] = deque()
            for part in parts[1:]:
                if len(promises) == PARTS_AHEAD:
                    self.session.answer(promises.popleft())
                more, promise = self.session.start(description, part, uid, on_ended=on_ended)
                works += more
                promises.append(promise)
            for promise in promises:
                self.session.answer(promise)
        except GridError:
            self.session.post(m.Cancel((uid,)))
            raise
        return Submitted(uid, tuple(works), runs_on)

    def run(
        self, description: Description, arguments: Sequence[str] = (), timeout: float | None = None
    ) -> Result:
        """Submit one work and wait for what comes of it; raises TimeoutError, and then the work
        goes on.
        """
        arrivals = self.arrivals()
        part = Part(0, (tuple(arguments),))
        works, asked = self.session.start(description, part, is_single=True, on_ended=arrivals.tell)

        def heard(answer: Future[Reply]) -> None:
            error = answer.exception()
            if isinstance(error, GridError):
                arrivals.fail(error)

        asked.add_done_callback(heard)
        try:
            return next(arrivals.take(1, timeout))
        finally:
            self.session.unwatch(works, arrivals.tell)

    # Waiting and results

    def wait(self, works: Sequence[UID], timeout: float | None = None) -> Iterator[Result]:
        """The results of ``works`` as they end, in that order; raises TimeoutError."""
        arrivals = self.arrivals()
        self.session.watch(works, arrivals.tell)

        def results() -> Iterator[Result]:
            try:
                yield from arrivals.take(len(set(works)), timeout)
            finally:
                self.session.unwatch(works, arrivals.tell)

        return results()

    def arrivals(self) -> Arrivals:
        """Where results may arrive: ``grid.sweep(..., on_ended=arrivals.tell)``."""
        return Arrivals(self.session)

    def results(self, works: Sequence[UID]) -> Iterator[Result]:
        """What came of those of ``works`` that have ended."""
        for start in range(0, len(works), RESULTS_A_REQUEST):
            wanted = list(works[start : start + RESULTS_A_REQUEST])
            while wanted:
                reply = self.session.ask(m.GetResults(tuple(wanted)))
                rows = [result_of(row) for row in field(reply, "results", list)]
                yield from rows
                # The server answers with as many as go into a frame.
                got = {result.work for result in rows}
                more = rows and reply.get("more")
                wanted = [work for work in wanted if work not in got] if more else []

    def content(self, result: Result, name: str) -> bytes:
        """One output of a work; ``stdout`` and ``stderr`` are two of them."""
        return files.content_of(self.session, result, name)

    def fetch(
        self,
        result: Result,
        directory: Path,
        *,
        overrides: bool = False,
        progress: OnBytes | None = None,
    ) -> list[Path]:
        """Write all that a work left behind below ``directory``: the files that were written.
        ``progress`` hears how many bytes are here by now.
        """
        return files.fetch(self.session, result, directory, overrides=overrides, progress=progress)

    # Questions

    def objects(
        self, kind: str, uids: Sequence[UID] = (), limit: int | None = None, **where: Any
    ) -> Iterator[dict[str, Any]]:
        """The objects of a kind that one may see, newest first, as rows.

        ``uids`` narrows to these, or to those of these submissions or works; ``where`` to fields.
        """
        after, seen = None, 0
        while limit is None or seen < limit:
            page = 1_000 if limit is None else min(1_000, limit - seen)
            reply = self.session.ask(m.ListObjects(kind, tuple(uids), where, page, after))
            rows = field(reply, "rows", list)
            yield from rows
            seen += len(rows)
            after = reply.get("next")
            if after is None:
                return

    def works_of(self, names: Sequence[UID]) -> Iterator[UID]:
        """The works of these names, and of the submissions of these names; raises UnknownObject."""
        for name in names:
            found = [str(row["uid"]) for row in self.objects("works", (name,))]
            if not found:
                raise UnknownObject.named("work or submission", name)
            yield from reversed(found)

    def why(self, uid: UID) -> tuple[str, ...]:
        """Why a work, or a pilot, is where it is, in sentences."""
        return tuple(map(str, field(self.session.ask(m.Why(uid)), "sentences", list)))

    def stats(self) -> dict[str, Any]:
        """How the grid does: numbers by name."""
        return self.session.ask(m.Stats())

    def report(
        self, since: date | None = None, until: date | None = None, by: Sequence[str] = ()
    ) -> UsageReport:
        """What was used from ``since`` to ``until``, both included, and by whom or what: one's own
        use, a super user everybody's. This month, where no days are given.
        """
        first, last = ("" if day is None else day.isoformat() for day in (since, until))
        return UsageReport.of(self.session.ask(m.Report(first, last, tuple(by))), by)

    def usage_records(
        self, after: Mapping[str, int], still_open: Sequence[int] = ()
    ) -> dict[str, Any]:
        """Some records of tasks' use, as a super user; see :class:`wire.requests.UsageRecords`."""
        return self.session.ask(m.UsageRecords(dict(after), tuple(still_open)))

    # Changing

    def cancel(self, names: Sequence[UID]) -> list[UID]:
        """Take back works, or all works of submissions: those that had not ended."""
        return self._in_portions(m.Cancel, names, "aborted")

    def remove(self, uids: Sequence[UID]) -> list[UID]:
        """Remove objects of any kind; works that are open are cancelled first."""
        return self._in_portions(m.Remove, uids, "removed")

    def chmod(self, uid: UID, rights: str) -> int:
        """Change the access rights of a data, a session or a group to ``rights``, as people write
        them (model/modes.py); what they are now.
        """
        return rights_of(self.session.ask(m.Chmod(uid, rights)))

    def validate(self, application: str, is_valid: bool = True) -> Reply:
        """Stand for the executables of an application, as they are now, as an administrator: they
        may run on service grids; or do so no longer.
        """
        return self.session.ask(m.Validate(application, is_valid))

    def send_bag(self, kind: str, name: str) -> UID:
        """Insert a ``session``, a ``group`` of works or a ``usergroup``; its UID."""
        return str(self.session.ask(m.SendGroup(new_uid(), kind, name))["uid"])

    def send_user(
        self,
        login: str,
        *,
        level: str = "standard",
        user_group: str | None = None,
        email: str = "",
        password: str = "",
        subjects: Sequence[str] = (),
    ) -> UID:
        """Insert a user, as a super user; ``user_group`` by UID or name, ``subjects`` names in
        certificates or certificates in PEM. Its UID.
        """
        names = tuple(subjects)
        request = m.SendUser(new_uid(), login, level, password, email, user_group, names)
        return str(self.session.ask(request)["uid"])

    def change_user(
        self,
        user: str,
        *,
        level: str | None = None,
        user_group: str | None = None,
        email: str | None = None,
        quota_mib: int | None = None,
        add_subjects: Sequence[str] = (),
        remove_subjects: Sequence[str] = (),
    ) -> Reply:
        """Change what is given of a user, as a super user; an empty ``user_group`` is none.

        ``quota_mib``: what his datas may take on the server; 0 all there is, -1 what everybody's
        may.
        """
        names = (tuple(add_subjects), tuple(remove_subjects))
        return self.session.ask(m.ChangeUser(user, level, user_group, email, quota_mib, *names))

    def _in_portions(
        self, request: type[m.Cancel] | type[m.Remove], names: Sequence[UID], what: str
    ) -> list[UID]:
        done: list[UID] = []
        for start in range(0, len(names), NAMES_A_REQUEST):
            portion = tuple(names[start : start + NAMES_A_REQUEST])
            done += map(str, self.session.ask(request(portion)).get(what, ()))
        return done

    def send_data(
        self,
        source: Path | bytes,
        name: str = "",
        *,
        type: str = "",
        rights: int = PUBLIC,
        platform: Platform | None = None,
        replaces: bool = False,
        progress: OnBytes | None = None,
    ) -> Data:
        """Put a file, or bytes, on the grid; an upload that breaks goes on where it was.

        ``replaces``: what one has under the same name and platform is removed.
        """
        name = name or (source.name if isinstance(source, Path) else "data")
        return files.send_data(
            self.session,
            source,
            name,
            type=type,
            rights=rights,
            platform=platform,
            replaces=replaces,
            progress=progress,
        )

    def fetch_data(
        self,
        uid: UID,
        directory: Path,
        *,
        overrides: bool = False,
        progress: OnBytes | None = None,
    ) -> Path:
        """Write the content of a data under its name into ``directory``; where it is then."""
        row = next(self.objects("datas", (uid,), 1), None)
        if row is None:
            raise UnknownObject.named("data", uid)
        return files.fetch_data(
            self.session, row, directory, overrides=overrides, progress=progress
        )

    def send_uri(
        self,
        uri: str,
        name: str = "",
        content: files.Content | None = None,
        *,
        type: str = "",
        platform: Platform | None = None,
        replaces: bool = False,
        progress: OnBytes | None = None,
    ) -> Data:
        """Make a data of what ``uri`` names, which stays there for everybody to read: workers fetch
        it. Unless one says what ``content`` it has, it is read here once.
        """
        return files.send_uri(
            self.session,
            uri,
            name,
            content,
            type=type,
            platform=platform,
            replaces=replaces,
            progress=progress,
        )

    def send_application(
        self,
        name: str,
        executable: Path | bytes | str,
        platform: Platform | None = None,
        *,
        rights: int | None = None,
        content: files.Content | None = None,
        progress: OnBytes | None = None,
    ) -> Reply:
        """Register a program, a file or what a URI names, or another platform's executable of one:
        its uid, name and rights.

        Without ``rights`` an advanced user's application is public, and another's private.
        """
        if rights is None:
            is_advanced = self.session.welcome.level >= UserLevel.ADVANCED
            rights = PUBLIC if is_advanced else PRIVATE
        if isinstance(executable, str):
            data, platform = self._executable_at(executable, name, platform, content, progress)
        else:
            if platform is None:
                if isinstance(executable, bytes):
                    raise BadRequest("an executable that is no file needs a platform")
                platform = files.platform_of(executable)
            sent = self.send_data(
                executable, name, type="executable", rights=rights, progress=progress
            )
            data = sent.uid
        request = m.SendApplication(new_uid(), name, platform.cpu, platform.os, data, rights)
        return self.session.ask(request)

    def _executable_at(
        self,
        uri: str,
        name: str,
        platform: Platform | None,
        content: files.Content | None,
        progress: OnBytes | None,
    ) -> tuple[UID, Platform]:
        """The data for the executable that ``uri`` names, and what it was made for."""
        if uri.lower().startswith("xw:"):
            if platform is None:
                raise BadRequest(f"say what {uri} was made for: CPU type and operating system")
            return located(uri).uid, platform
        content = content or files.content_at(uri, progress)
        platform = platform or files.platform_in(content.head, uri)
        return self.send_uri(uri, name, content, type="executable").uid, platform

    def new_identity(
        self,
        kind: str = "worker",
        user: str | None = None,
        lifetime: int | None = None,
        label: str = "",
    ) -> Identity:
        """A new token of oneself (or, for a super user, of ``user``, by UID or login), as an
        identity for a worker, which is good for that alone, or a client. A super user makes one
        for a ``bridge``, which is a client to which users delegate.

        The secret is made here and the server never sees it.
        """
        secret = new_secret()
        uid = new_uid()
        scopes = {"worker": Scope.RUN, "bridge": EVERYTHING | Scope.BRIDGE}
        scope = str(scopes.get(kind, EVERYTHING))
        self.session.ask(m.SendToken(uid, verifier_of(secret), user, lifetime, label, scope))
        mine = self.session.identity
        return Identity(
            mine.servers, "worker" if kind == "worker" else "client", uid, secret, mine.ca
        )

    def revoke(self, uid: UID) -> None:
        """Revoke a token or a user: its sessions end now, and maybe this one with them."""
        try:
            self.session.ask(m.Revoke(uid))
        except NotAuthenticated:
            # The answer to the one who revokes himself is that he is not heard any more.
            if uid != self.session.identity.identity:
                raise
