"""What every computing element promises, asked of fakes, this machine, ARC, GRAM and HTCondor."""

import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from condor.fake import FakeSchedd, Outcome
from condor.personal import LoopbackPool
from condor.pool import Schedd, ScheddLocation
from condor.submit import JobDescription as CondorJob
from desktopgrid.model.errors import BadRequest
from desktopgrid.model.lifecycle import PilotStatus
from desktopgrid.model.sites import Login
from pilot.ce.arc import ArcCE
from pilot.ce.arc_rest import Arex
from pilot.ce.base import (
    ComputingElement,
    Credential,
    CredentialKind,
    JobDescription,
    JobState,
    NothingToRetrieve,
    Reference,
    SubmissionRefused,
)
from pilot.ce.batch import BatchCE
from pilot.ce.condor import KEPT, CondorCE
from pilot.ce.fake import FakeCE
from pilot.ce.fake_arex import FakeArex
from pilot.ce.fake_globus import FakeGlobus
from pilot.ce.finding import Verdict
from pilot.ce.globus import Globus
from pilot.ce.gram import GramCE
from pilot.ce.local import LocalCE
from pilot.ce.pbs import Pbs
from pilot.ce.shell import LocalShell
from pilot.ce.slurm import Slurm
from pilot.ce.ssh import SshShell
from tests import batch_system
from tests.grid_box import GridBox
from tests.grid_doors import a_door, a_door_to_globus
from tests.grid_site import Grid

PATIENCE_SECONDS = 120.0

BUNDLE = """#!/bin/sh
case "$1" in
    exit) exit "$2" ;;
    fail) echo "$2" >&2; exit 9 ;;
    leave)  # files, and what is none
        echo talk; echo trouble >&2
        mkdir -p results/deep folder; echo one > 'results/deep/a file'; : > empty
        ln -s empty link; ln -s "$PWD" elsewhere; mkfifo pipe; echo hidden > unasked
        head -c "$2" /dev/zero > large
        exit 3
        ;;
    run) while :; do sleep 0.1; done ;;
    look)  # at what a pilot relies on
        test "$2" = "two words" || exit 11
        test "$(stat -c %a enrolment)" = 600 || exit 12
        test "$(cat enrolment)" = "a secret" || exit 13
        test -n "$PATH" || exit 14
        test "$TMPDIR" = "$PWD" || exit 15
        case "$(tr '\\0' ' ' < /proc/$$/environ)" in *"a secret"*) exit 16 ;; esac
        ;;
esac
"""


@dataclass
class World:
    """A door, how its time passes, and pilots for it."""

    ce: ComputingElement
    let_time_pass: Callable[[], None]
    directory: Path

    def a_pilot(self, *arguments: str, **facts: object) -> JobDescription:
        return replace(
            JobDescription(
                stamp=uuid.uuid4().hex,
                program=self.directory / "pilot.pyz",
                arguments=arguments or ("run",),
                files=(self.directory / "enrolment",),
                memory_mib=64,
                disk_mib=1,
                wall_time=timedelta(minutes=30),
            ),
            **facts,  # type: ignore[arg-type]
        )

    def state(self, reference: Reference) -> JobState | None:
        return self.ce.statuses([reference]).get(reference)

    def eventually(self, reference: Reference, *statuses: PilotStatus) -> JobState:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (state := self.state(reference)) is None or state.status not in statuses:
            assert time.monotonic() < deadline, f"it is {state}, not {statuses}"
            self.let_time_pass()
        return state

    def clean_up(self, references: Sequence[Reference]) -> None:
        self.ce.remove(references)


LEFT = {"results/deep/a file": b"one\n", "empty": b""}
OUTPUTS = (*LEFT, "large", "never written", "link", "elsewhere/empty", "folder", "pipe")


def left_by(arguments: Sequence[str]) -> dict[str, bytes]:
    """What of OUTPUTS BUNDLE leaves."""
    return {**LEFT, "large": bytes(int(arguments[-1]))} if "leave" in arguments else {}


def ending(arguments: Sequence[str]) -> int | None:
    """The exit code that BUNDLE has in the end."""
    if arguments[0] == KEPT:  # as collect.sh has it
        arguments = arguments[3 + int(arguments[1]) :]
    codes = {"exit": int(arguments[-1]) if arguments[0] == "exit" else 0, "look": 0, "leave": 3}
    return codes.get(arguments[0])


def a_fake_door() -> tuple[ComputingElement, Callable[[], None]]:
    def behaviour(job: JobDescription) -> JobState | None:
        code = ending(job.arguments)
        if code is None:
            return None
        (reference,) = [name for name, known in fake.jobs.items() if known is job]
        fake.left[reference] = left_by(job.arguments)
        fake.out[reference] = "talk\n" if "leave" in job.arguments else ""
        fake.words[reference] = "trouble\n" if "leave" in job.arguments else ""
        if code == 0:
            return JobState(PilotStatus.DONE, exit_code=0)
        return JobState(PilotStatus.FAILED, f"ended with exit code {code}", code)

    fake = FakeCE(slots=4, behaviour=behaviour)
    return fake, fake.step


def a_door_to_a_fake_schedd() -> tuple[ComputingElement, Callable[[], None]]:
    def behaviour(job: CondorJob) -> Outcome:
        code = ending(job.arguments)
        if code is None:
            return Outcome(timedelta.max)
        left = left_by(job.arguments)
        files = {f"{KEPT}/{OUTPUTS.index(name)}": content for name, content in left.items()}
        if left:
            files |= {str(job.output): b"talk\n", str(job.error): b"trouble\n"}
        return Outcome(timedelta(0), code, files)

    return CondorCE(FakeSchedd(slots=4, behaviour=behaviour)), lambda: None


def a_door_to_commands(directory: Path, kind: str) -> BatchCE:
    batch_system.install(directory / "bin", directory / "state")
    (directory / "home").mkdir()
    system = Slurm() if kind == "slurm" else Pbs()
    shell = LocalShell(directory / "home")
    return BatchCE(system, shell, "pilots' jobs", bin_directory=str(directory / "bin"))


def a_door_to_the_box(box: GridBox, kind: str) -> BatchCE:
    """Real Slurm by its own commands, or by the PBS commands that come with it, over real SSH."""
    for service in ("ssh", "slurm"):
        box.start(service)
    login = Login(box.ssh.user, box.ssh.host, box.ssh.port)
    shell = SshShell(login, box.ssh.key, box.ssh.known_hosts)
    return BatchCE(Slurm() if kind == "slurm" else Pbs("torque"), shell, f"{kind}'s jobs")


def wait_a_little() -> None:
    time.sleep(0.1)


@contextmanager
def a_place() -> Iterator[Path]:
    """The bundle and the secret, where HTCondor's account may come too."""
    with tempfile.TemporaryDirectory(prefix="glidebridge-test-") as name:
        place = Path(name)
        (place / "pilot.pyz").write_text(BUNDLE)
        (place / "pilot.pyz").chmod(0o755)
        (place / "enrolment").touch(0o600)
        (place / "enrolment").write_text("a secret")
        yield place


@pytest.fixture
def directory() -> Iterator[Path]:
    with a_place() as place:
        yield place
        batch_system.end_all(place / "state")


@pytest.fixture
def fake_arex(grid: Grid, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeArex]:
    place = tmp_path_factory.mktemp("arex")
    with FakeArex(place, grid.host(), grid.authorities, grid.people) as arex:
        yield arex


@pytest.fixture
def fake_globus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeGlobus]:
    site = FakeGlobus(tmp_path_factory.mktemp("globus")).build()
    yield site
    site.end()


COMMANDS = ["slurm, fake commands", "pbs, fake commands"]
OVER_SSH = ["slurm over ssh", "pbs over ssh"]
GRIDS = ["arc, fake", "gram, fake", "arc", "gram"]
REAL = ["local", *COMMANDS, *OVER_SSH, *GRIDS, "condor", "condor, newest release"]
"""Doors behind which programs really run."""


@pytest.fixture(params=["fake", "condor, fake", *REAL])
def world(request: pytest.FixtureRequest, directory: Path) -> World:
    if request.param == "fake":
        return World(*a_fake_door(), directory)
    if request.param == "condor, fake":
        return World(*a_door_to_a_fake_schedd(), directory)
    return a_real_world(request, directory, request.param)


@pytest.fixture(params=REAL)
def real_world(request: pytest.FixtureRequest, directory: Path) -> World:
    return a_real_world(request, directory, request.param)


def a_real_world(request: pytest.FixtureRequest, directory: Path, kind: str) -> World:
    if kind == "local":
        return World(LocalCE(directory / "local"), wait_a_little, directory)
    if kind == "arc, fake":
        arex = request.getfixturevalue("fake_arex")
        return World(a_door(arex, request.getfixturevalue("grid")), wait_a_little, directory)
    if kind == "gram, fake":
        site = request.getfixturevalue("fake_globus")
        door = a_door_to_globus(site, request.getfixturevalue("grid"))
        return World(door, wait_a_little, directory)
    if kind in OVER_SSH:
        box = request.getfixturevalue("grid_box")
        return World(a_door_to_the_box(box, kind.partition(" ")[0]), wait_a_little, directory)
    if kind in ("arc", "gram"):
        box = request.getfixturevalue("grid_box")
        return World(a_door_to_a_grid(box, kind, request), wait_a_little, directory)
    if kind in COMMANDS:
        return World(
            a_door_to_commands(directory, kind[: kind.index(",")]), wait_a_little, directory
        )
    fixture = "condor_pool" if kind == "condor" else "newest_condor_pool"
    return World(CondorCE(schedd_of(request.getfixturevalue(fixture))), wait_a_little, directory)


def a_door_to_a_grid(box: GridBox, kind: str, request: pytest.FixtureRequest) -> ComputingElement:
    """Alice's door to the real A-REX, or the real gatekeeper."""
    box.start(kind)
    proxy = box.users["alice"].proxy
    if kind == "arc":
        credential = Credential(CredentialKind.PROXY, proxy)
        return ArcCE(Arex(box.arc, credential, box.certificates), "site arc")
    commands = request.getfixturevalue("grid_clients").usr / "bin"
    globus = Globus(box.gram["fork"], proxy, box.certificates, commands, "localhost")
    return GramCE(globus, box.certificates, "site gram")


def schedd_of(pool: LoopbackPool) -> Schedd:
    token = pool.token_directory("alice")
    return Schedd(ScheddLocation(address=pool.schedd_address, token=token))


def test_pilots_get_references_in_their_order_and_run(world: World) -> None:
    references = world.ce.submit([world.a_pilot() for _ in range(3)])
    assert len(set(references)) == 3
    assert set(world.ce.statuses(references)) == set(references)
    for reference in references:
        assert world.eventually(reference, PilotStatus.RUNNING).reason == ""
    world.clean_up(references)


def test_how_a_pilot_ended_is_told_in_the_order_of_submission(world: World) -> None:
    good, bad = world.ce.submit([world.a_pilot("exit", "0"), world.a_pilot("exit", "3")])
    assert world.eventually(good, PilotStatus.DONE, PilotStatus.FAILED).status is PilotStatus.DONE
    state = world.eventually(bad, PilotStatus.DONE, PilotStatus.FAILED)
    assert state.status is PilotStatus.FAILED
    assert "exit code 3" in state.reason
    assert state.exit_code == 3
    world.clean_up([good, bad])
    assert world.eventually(good, PilotStatus.DONE)
    assert world.eventually(bad, PilotStatus.FAILED)


def test_a_pilot_finds_its_arguments_its_files_and_a_path(world: World) -> None:
    (reference,) = world.ce.submit([world.a_pilot("look", "two words")])
    state = world.eventually(reference, PilotStatus.DONE, PilotStatus.FAILED)
    assert state == JobState(PilotStatus.DONE, exit_code=0)


def test_a_pilot_can_be_taken_back_twice(world: World) -> None:
    first, second = world.ce.submit([world.a_pilot(), world.a_pilot()])
    world.eventually(first, PilotStatus.RUNNING)
    world.ce.remove([first, second])
    world.ce.remove([first, second])
    for reference in (first, second):
        assert world.eventually(reference, PilotStatus.DELETED).reason
    world.ce.remove([first])
    assert world.eventually(first, PilotStatus.DELETED)


def test_a_reference_that_the_door_does_not_know_is_absent(world: World) -> None:
    (known,) = world.ce.submit([world.a_pilot()])
    strangers = [
        Reference(""),
        Reference("no reference of any kind"),
        Reference("another.schedd#1.0"),
        Reference("local:../enrolment"),
        Reference("local:nobody"),
        Reference("fake:0"),
    ]
    assert set(world.ce.statuses([*strangers, known])) == {known}
    world.ce.remove(strangers)
    assert set(world.ce.statuses([known])) == {known}
    world.clean_up([known])


def test_pilots_are_found_by_their_stamps(world: World) -> None:
    pilots = [world.a_pilot(), world.a_pilot()]
    references = world.ce.submit(pilots)
    stamps = [pilot.stamp for pilot in pilots]
    assert world.ce.find([*stamps, "nobody"]) == dict(zip(stamps, references, strict=True))
    world.clean_up(references)


def test_a_pilot_s_files_may_go_when_it_was_submitted(world: World) -> None:
    pilot = world.a_pilot("look", "two words")
    (reference,) = world.ce.submit([pilot])
    for file in (pilot.program, *pilot.files):
        file.unlink()
    state = world.eventually(reference, PilotStatus.DONE, PilotStatus.FAILED)
    assert state == JobState(PilotStatus.DONE, exit_code=0)


def test_nobody_has_last_words_where_nobody_was(world: World) -> None:
    assert world.ce.last_words(Reference("another.schedd#1.0")) == ""


def test_a_door_that_works_is_found_to(world: World) -> None:
    found = list(world.ce.examine(world.a_pilot(files=(Path("nothing"),))))
    assert found
    assert not [finding for finding in found if finding.verdict is Verdict.WRONG], found


def test_nothing_asked_is_nothing_done(world: World) -> None:
    assert world.ce.submit([]) == []
    assert world.ce.find([]) == {}
    assert world.ce.statuses([]) == {}
    world.ce.remove([])


def test_one_pilot_that_cannot_go_and_none_goes(world: World) -> None:
    good = world.a_pilot()
    bad = world.a_pilot(files=(world.directory / "nothing",))
    with pytest.raises(SubmissionRefused, match="nothing"):
        world.ce.submit([good, bad])
    # The same pilot may go later: its stamp is free.
    (reference,) = world.ce.submit([good])
    assert world.eventually(reference, PilotStatus.RUNNING)
    world.clean_up([reference])


def test_another_process_can_ask_and_take_back(
    world: World, request: pytest.FixtureRequest
) -> None:
    (reference,) = world.ce.submit([world.a_pilot()])
    world.eventually(reference, PilotStatus.RUNNING)
    if isinstance(world.ce, LocalCE):
        world.ce = LocalCE(world.ce.directory)
    elif isinstance(world.ce, CondorCE):
        world.ce = CondorCE(world.ce._queue)
    elif isinstance(world.ce, ArcCE):
        arex = world.ce._arex
        world.ce = ArcCE(Arex(arex.url, arex.https.credential, arex.https.authorities))
    elif isinstance(world.ce, GramCE):
        world.ce = GramCE(world.ce._globus, world.ce._authorities)
    elif isinstance(world.ce, BatchCE):
        known = world.ce
        world.ce = BatchCE(known.system, known.shell, known._directory, bin_directory=known._bin)
    assert world.eventually(reference, PilotStatus.RUNNING)
    world.ce.remove([reference])
    assert world.eventually(reference, PilotStatus.DELETED)


def test_the_python_of_the_site_runs_the_bundle(real_world: World) -> None:
    (real_world.directory / "pilot.pyz").write_text(
        "import sys; sys.exit(7 if sys.argv[1:] == ['a', 'b'] and sys.executable else 1)"
    )
    pilot = real_world.a_pilot("a", "b", python="/usr/bin/python3")
    (reference,) = real_world.ce.submit([pilot])
    state = real_world.eventually(reference, PilotStatus.DONE, PilotStatus.FAILED)
    assert "exit code 7" in state.reason


def test_a_pilot_that_failed_has_last_words(real_world: World) -> None:
    (reference,) = real_world.ce.submit([real_world.a_pilot("fail", "no route")])
    assert real_world.eventually(reference, PilotStatus.FAILED).reason.startswith("ended with exit")
    assert real_world.ce.last_words(reference) == "no route\n"
    assert real_world.ce.last_words(reference) == "no route\n"


def ended(world: World, size: int, **facts: object) -> Reference:
    """A job that has left OUTPUTS."""
    (reference,) = world.ce.submit([world.a_pilot("leave", str(size), outputs=OUTPUTS, **facts)])
    state = world.eventually(reference, PilotStatus.DONE, PilotStatus.FAILED)
    assert state.exit_code == 3, state
    return reference


def test_a_job_s_outputs_come_home_those_that_are_files_and_were_asked_for(
    world: World, tmp_path: Path
) -> None:
    reference = ended(world, 300_000)
    for _ in range(2):
        names = world.ce.retrieve(reference, tmp_path)
        assert sorted(names) == sorted([*LEFT, "large", "stdout", "stderr"])
        files = [path for path in tmp_path.rglob("*") if not path.is_dir()]
        assert sorted(str(path.relative_to(tmp_path)) for path in files) == sorted(names)
        for path in files:
            assert path.is_file() and not path.is_symlink()
            assert path.stat().st_mode & 0o077 == 0
    for name, content in LEFT.items():
        assert (tmp_path / name).read_bytes() == content
    assert (tmp_path / "large").stat().st_size == 300_000
    assert (tmp_path / "stdout").read_text() == "talk\n"
    assert (tmp_path / "stderr").read_text() == "trouble\n"


def test_more_than_was_allowed_does_not_come_home(world: World, tmp_path: Path) -> None:
    reference = ended(world, 300_000)
    with pytest.raises(NothingToRetrieve, match="more than 200000 bytes"):
        world.ce.retrieve(reference, tmp_path, limit=200_000)
    assert not [path for path in tmp_path.rglob("*") if not path.is_dir()]


def test_a_job_that_has_not_ended_and_one_that_nobody_knows_give_nothing(
    world: World, tmp_path: Path
) -> None:
    (running,) = world.ce.submit([world.a_pilot(outputs=("a",))])
    world.eventually(running, PilotStatus.RUNNING)
    for reference in (running, Reference("another.schedd#1.0"), Reference("local:nobody")):
        with pytest.raises(NothingToRetrieve):
            world.ce.retrieve(reference, tmp_path)
        world.ce.discard([reference])
    assert world.eventually(running, PilotStatus.RUNNING)
    world.clean_up([running])


def test_what_was_discarded_is_gone(world: World, tmp_path: Path) -> None:
    reference = ended(world, 1)
    world.ce.discard([reference])
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            world.ce.retrieve(reference, tmp_path)
        except NothingToRetrieve:
            break
        assert time.monotonic() < deadline
        world.let_time_pass()
    world.ce.discard([reference])


def test_outputs_come_home_from_under_the_site_s_python_too(
    real_world: World, tmp_path: Path
) -> None:
    (real_world.directory / "pilot.pyz").write_text("open('out put', 'w').write('x')")
    job = real_world.a_pilot("a b", python="/usr/bin/python3", outputs=("out put",))
    (reference,) = real_world.ce.submit([job])
    assert real_world.eventually(reference, PilotStatus.DONE, PilotStatus.FAILED).exit_code == 0
    assert "out put" in real_world.ce.retrieve(reference, tmp_path)
    assert (tmp_path / "out put").read_text() == "x"


@pytest.mark.parametrize(
    "outputs, said",
    [
        (("../x",), "no file below"),
        (("/etc/x",), "no file below"),
        (("a//b",), "no file below"),
        (("a/./b",), "no file below"),
        (("",), "no file below"),
        (("a\nb",), "cannot be the name"),
        (("x" * 256,), "cannot be the name"),
        (("stdout",), "comes home so"),
        ((".exit",), "are its door's"),
        (("out",), "are its door's"),
        (("a", "a"), "same name"),
        (("a", "a/b"), "cannot both be files"),
    ],
)
def test_an_output_s_name_stays_within_the_job_s_directory(
    directory: Path, outputs: tuple[str, ...], said: str
) -> None:
    with pytest.raises(BadRequest, match=said):
        World(FakeCE(), wait_a_little, directory).a_pilot(outputs=outputs)


def test_two_files_of_a_job_cannot_have_one_name(directory: Path) -> None:
    with pytest.raises(BadRequest, match=r"two files of a job are called 'pilot\.pyz'"):
        World(FakeCE(), wait_a_little, directory).a_pilot(files=(Path("/elsewhere/pilot.pyz"),))
