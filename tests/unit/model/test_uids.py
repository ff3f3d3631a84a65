"""Names of objects."""

from __future__ import annotations

import uuid

from desktopgrid.model.objects import new_uid
from desktopgrid.server.state import check_uid


def test_uids_follow_the_time_at_which_they_were_made() -> None:
    made = [new_uid() for _ in range(1000)]
    assert made == sorted(made)
    assert len(set(made)) == 1000


def test_a_uid_is_a_uuid_of_version_6_and_the_server_takes_it() -> None:
    uid = new_uid()
    assert uuid.UUID(uid).version == 6
    assert uuid.UUID(uid).variant == uuid.RFC_4122
    assert check_uid(uid) == uid


def test_two_uids_have_no_random_part_in_common() -> None:
    assert new_uid()[16:] != new_uid()[16:]
