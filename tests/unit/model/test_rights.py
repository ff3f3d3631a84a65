"""Who may do what: levels, bits and kinds of workers, with the manual's sentences as oracle."""

from __future__ import annotations

import itertools

import pytest

from desktopgrid.model import rights
from desktopgrid.model.rights import (
    EXECUTE,
    GROUP,
    PRIVATE,
    PUBLIC,
    READ,
    WRITE,
    UserLevel,
    Who,
    application_rights,
    grants,
    may_administer,
    may_change,
    may_choose_rights,
    may_insert,
    may_provision,
    may_refer,
    may_run,
)

STANDARD, ADVANCED, SUPER, WORKER = (
    UserLevel.STANDARD,
    UserLevel.ADVANCED,
    UserLevel.SUPER,
    UserLevel.WORKER,
)


def who(user: str = "alice", level: UserLevel = STANDARD, group: str | None = None) -> Who:
    return Who(user, level, group)


@pytest.mark.feature("XW-AR-1", "XW-AR-2", "XW-AR-3", "XW-AR-4", "XW-AR-5", "XW-AR-6")
@pytest.mark.feature("XW-AR-7", "XW-AR-8", "XW-AR-9")
@pytest.mark.parametrize("shift, asker", [(6, "owner"), (3, "member"), (0, "other")])
@pytest.mark.parametrize("bit", [READ, WRITE, EXECUTE])
def test_one_bit_grants_one_right_to_one_kind_of_user(shift: int, asker: str, bit: int) -> None:
    askers = {
        "owner": who("owner", group="lab"),
        "member": who("member", group="lab"),
        "other": who("other"),
    }
    mode = bit << shift
    for name, wanted in itertools.product(askers, (READ, WRITE, EXECUTE)):
        granted = grants(askers[name], wanted, "owner", "lab", mode)
        # A file system's rule: others' bits hold for members as well, never for the owner.
        expected = wanted == bit and (name == asker or (asker == "other" and name == "member"))
        assert granted is expected, (name, wanted)


@pytest.mark.feature("XW-AR-11")
def test_a_mode_grants_what_its_bits_grant() -> None:
    for mode in (PRIVATE, GROUP, PUBLIC, 0o640, 0o611):
        for bit in (READ, WRITE, EXECUTE):
            single = any(grants(who("other"), bit, "owner", None, one) for one in _bits(mode))
            assert grants(who("other"), bit, "owner", None, mode) is single


def _bits(mode: int) -> list[int]:
    return [1 << n for n in range(9) if mode & (1 << n)]


def test_a_user_without_group_is_not_a_member_of_objects_without_group() -> None:
    assert not grants(who("bob"), READ, "alice", None, GROUP)


def test_a_super_user_may_do_anything_to_any_object() -> None:
    assert grants(who("root", SUPER), WRITE, "alice", None, 0)


@pytest.mark.feature("XW-USR-5", "XW-USR-6", "XW-USR-7")
@pytest.mark.parametrize(
    "question, least",
    [(may_insert, STANDARD), (may_provision, ADVANCED), (may_administer, SUPER)],
)
def test_levels_are_stacked(question, least) -> None:
    for level in UserLevel:
        assert question(who(level=level)) is (level is not WORKER and level >= least)


@pytest.mark.feature("XW-AR-13")
def test_an_application_is_public_from_advanced_up_and_private_below() -> None:
    assert application_rights(who(level=STANDARD)) == PRIVATE
    assert application_rights(who(level=ADVANCED)) == PUBLIC
    assert application_rights(who(level=WORKER)) is None
    assert not may_choose_rights(who(level=STANDARD), GROUP)
    assert may_choose_rights(who(level=STANDARD), PRIVATE)
    assert may_choose_rights(who(level=ADVANCED), GROUP)


@pytest.mark.feature("XW-AR-12")
def test_only_owners_and_super_users_change_an_object() -> None:
    assert may_change(who("alice"), "alice")
    assert not may_change(who("bob", ADVANCED), "alice")
    assert may_change(who("root", SUPER), "alice")
    assert not may_change(who("alice", WORKER), "alice")


OWNER = "alice"
WORKERS = {
    "public": Who("worker", WORKER),
    "group": Who("labworker", WORKER, "lab"),
    "private": Who(OWNER, STANDARD, "lab"),
}
WORKS = {"public": PUBLIC, "group": GROUP, "private": PRIVATE}
MATRIX = {
    # kind of worker: the works of alice, member of lab, that it runs (manual 8.4.2; C-6, C-7)
    "public": {"public"},
    "group": {"group"},
    "private": {"public", "group", "private"},
}


@pytest.mark.feature("XW-GRP-5", "XW-GRP-6", "XW-GRP-7", "XW-GRP-10", "XW-GRP-13")
@pytest.mark.parametrize("worker, work", list(itertools.product(WORKERS, WORKS)))
def test_which_worker_runs_which_work(worker: str, work: str) -> None:
    assert may_run(WORKERS[worker], OWNER, "lab", WORKS[work]) is (work in MATRIX[worker])


def test_nobody_elses_private_worker_and_no_other_groups_worker_runs_a_work() -> None:
    for mode in WORKS.values():
        assert not may_run(Who("bob", STANDARD, "lab"), OWNER, "lab", mode)
        assert not may_run(Who("w", WORKER, "other"), OWNER, "lab", mode)


@pytest.mark.feature("XW-AR-17", "XW-AR-20")
@pytest.mark.parametrize(
    "work, data, allowed",
    [
        (PUBLIC, PUBLIC, True),
        (PUBLIC, GROUP, False),
        (PUBLIC, PRIVATE, False),
        (GROUP, PUBLIC, True),
        (GROUP, GROUP, True),
        (GROUP, PRIVATE, False),
        (PRIVATE, PRIVATE, True),
        (PRIVATE, PUBLIC, True),
    ],
)
def test_a_work_never_refers_to_data_with_lower_rights(work: int, data: int, allowed: bool) -> None:
    assert may_refer(work, True, data) is allowed


def test_a_private_work_of_one_user_cannot_refer_to_anothers_private_data() -> None:
    assert not may_refer(PRIVATE, False, PRIVATE)


def test_an_unknown_level_is_told_the_known_ones() -> None:
    assert UserLevel.named("Super") is SUPER
    with pytest.raises(ValueError, match="worker, standard, advanced, super"):
        UserLevel.named("emperor")


def test_reach() -> None:
    assert rights.reach_of(0o711) is rights.Reach.PUBLIC
    assert rights.reach_of(0o710) is rights.Reach.GROUP
    assert rights.reach_of(0o700) is rights.Reach.PRIVATE
