"""Which contents the server keeps for whom, and how much that is: what quotas are about.

A content that a user has under several names counts once, since it is stored once. To its digest
belongs its size: who says another one has another content. What is elsewhere, was removed or has
not come counts nothing; what has begun to come counts whole, until it is here or thrown away.
"""

from __future__ import annotations

from collections import Counter

from desktopgrid.model.objects import Data


class Holdings:
    """The contents that datas hold, by owner; see :meth:`Grid.put_data`."""

    def __init__(self) -> None:
        self._holders: Counter[tuple[str, str, int]] = Counter()
        self._used: Counter[str] = Counter()
        self._begun: dict[str, Data] = {}
        """The datas of which there are parts, by UID."""

    def change(self, before: Data | None, after: Data) -> None:
        """A data is ``after`` from now on; None: it is new."""
        if before is not None and _counts(before):
            key = (before.owner, before.sha256, before.size)
            self._holders[key] -= 1
            if not self._holders[key]:
                del self._holders[key]
                self._used[before.owner] -= before.size
        if after.is_available:
            self.end(after.uid)
        if _counts(after):
            key = (after.owner, after.sha256, after.size)
            self._holders[key] += 1
            if self._holders[key] == 1:
                self._used[after.owner] += after.size

    def begin(self, data: Data) -> None:
        """A part of ``data`` comes, or has come."""
        if data.uid not in self._begun and not data.is_available:
            self._begun[data.uid] = data
            self._used[data.owner] += data.size

    def end(self, uid: str) -> None:
        """There are no parts of a data any more: it is here whole, or they were thrown away."""
        data = self._begun.pop(uid, None)
        if data is not None:
            self._used[data.owner] -= data.size

    @property
    def begun(self) -> frozenset[str]:
        """The datas of which there are parts, and which count already."""
        return frozenset(self._begun)

    def has_begun(self, uid: str) -> bool:
        """Whether a data is one of them."""
        return uid in self._begun

    def has(self, data: Data) -> bool:
        """Whether a data of the same owner has the content of ``data`` here."""
        return (data.owner, data.sha256, data.size) in self._holders

    def used(self, owner: str) -> int:
        """Bytes that the datas of ``owner`` take, or will."""
        return self._used[owner]


def _counts(data: Data) -> bool:
    return data.is_available and not (data.is_deleted or data.is_elsewhere)
