"""Stands in for a job where its batch system would run it: hands it in at the bridge, and does for
it what the bridge says, until that tells how the job ended.

    carrier COUNTER condor COMMAND ARGUMENT...      as HTCondor's USER_JOB_WRAPPER
    carrier COUNTER spec FILE                       for a job that FILE describes (JSON)
    carrier COUNTER task PROGRAM ARGUMENT...        as the launcher of a worker of a grid

Hundreds of these run at a time, so there is nothing in them but the standard library's smallest
parts, and the copy that batch systems start is this file alone. It outlives the bridge: when that
goes away it waits until it is back, hands the job in again, and remembers what it wrote already.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import stat
import struct
import sys
import time

HEAD = struct.Struct(">II")
"""Before each frame: the length of a JSON object, and of the bytes that follow it."""
CHUNK = 256 << 10
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
CHIRP_PATIENCE = 5.0
FAILED = 1
OURS = frozenset(
    (
        *(".job.ad", ".machine.ad", ".update.ad", ".execution_overlay.ad", ".chirp.config"),
        *(".condor_creds", ".job_wrapper_failure", "_condor_stdout", "_condor_stderr"),
        *("docker_stderror", "tmp", "var"),
    )
)
"""What HTCondor keeps in a sandbox for itself; ``.condor_creds`` are the user's, and stay here."""


def frame(message: dict[str, object], content: bytes = b"") -> bytes:
    """``message`` and ``content`` as they travel."""
    text = json.dumps(message).encode()
    return HEAD.pack(len(text), len(content)) + text + content


class Frames:
    """Cuts what arrives into frames."""

    def __init__(self, most: int = 64 << 20) -> None:
        self._bytes = bytearray()
        self._most = most

    def receive(self, data: bytes) -> list[tuple[dict[str, object], bytes]]:
        """The frames that are complete with ``data``; raises ValueError for what is none."""
        self._bytes += data
        found = []
        while len(self._bytes) >= HEAD.size:
            text, content = HEAD.unpack_from(self._bytes)
            if text + content > self._most:
                raise ValueError(f"a frame of {text + content} bytes")
            end = HEAD.size + text + content
            if len(self._bytes) < end:
                break
            message = json.loads(bytes(self._bytes[HEAD.size : HEAD.size + text]))
            if not isinstance(message, dict):
                raise ValueError("a frame without an object")
            found.append((message, bytes(self._bytes[HEAD.size + text : end])))
            del self._bytes[:end]
        return found


def at(directory: str, name: str, do: object, *arguments: object) -> None:
    """Bind or connect a socket in ``directory``, however long that name is."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        do(f"/proc/self/fd/{descriptor}/{name}", *arguments)  # type: ignore[operator]
    finally:
        os.close(descriptor)


class Job:
    """What is handed in: the facts of a job, where its files are, and where what it leaves goes."""

    def __init__(self, facts: dict[str, object], directory: str) -> None:
        self.facts, self.directory = facts, directory
        self.inputs: dict[str, str] = {}
        self.outputs: dict[str, str] = {}
        self.stdin = 0
        self.streams = {"stdout": 1, "stderr": 2}
        self.failure = os.environ.get("_CONDOR_WRAPPER_ERROR_FILE", "")
        """Where it is said that it could not be run."""
        self.state = ""
        """A file that says how the job does, for who asks later."""

    def place_of(self, name: str) -> str:
        """Where the output ``name`` goes; raises ValueError for one that would lie elsewhere."""
        parts = name.split("/")
        if name in self.outputs:
            return os.path.join(self.directory, self.outputs[name])
        if name.startswith("/") or ".." in parts or "" in parts or "\0" in name:
            raise ValueError(f"{name!r} would not lie in the job's directory")
        return os.path.join(self.directory, name)


def of_condor(command: list[str]) -> Job:
    """The job of HTCondor whose starter executed us instead."""
    scratch = os.environ.get("_CONDOR_SCRATCH_DIR") or os.getcwd()
    with open(os.environ["_CONDOR_JOB_AD"], errors="surrogateescape") as file:
        ad = file.read()
    job = Job({"kind": "condor", "command": command, "ad": ad, "directory": scratch}, scratch)
    job.facts["files"] = _listed(job, scratch)
    return job


def _listed(job: Job, top: str) -> list[list[object]]:
    """Name, size and mode of each file of a sandbox, and of each directory, whose size is -1."""
    found: list[list[object]] = []
    for directory, directories, names in os.walk(top):
        prefix = os.path.relpath(directory, top)
        prefix = "" if prefix == "." else f"{prefix}/"
        if not prefix:
            directories[:] = [name for name in directories if name not in OURS]
            names = [name for name in names if name not in OURS]
        found += [[f"{prefix}{name}", -1, 0o755] for name in directories]
        for name in names:
            path = os.path.join(directory, name)
            seen = os.lstat(path)
            if stat.S_ISREG(seen.st_mode):
                found.append([f"{prefix}{name}", seen.st_size, seen.st_mode & 0o777])
                job.inputs[f"{prefix}{name}"] = path
    return found


def of_spec(command: list[str]) -> Job:
    """The job that a file describes, as a batch system's submission wrote it down."""
    with open(command[0]) as file:
        spec = json.load(file)
    directory = spec["directory"]
    job = Job({"kind": "spec", **spec["job"]}, directory)
    job.outputs, job.state = spec["outputs"], spec["state"]
    files: list[list[object]] = []
    for name, place in spec["inputs"].items():
        job.inputs[name] = os.path.join(directory, place)
        seen = os.stat(job.inputs[name])
        if stat.S_ISDIR(seen.st_mode):
            raise IsADirectoryError(f"{place} is a directory, and no file that goes with a job")
        files.append([name, seen.st_size, seen.st_mode & 0o777])
    job.facts["files"] = files
    if spec["stdin"]:
        job.stdin = os.open(os.path.join(directory, spec["stdin"]), os.O_RDONLY)
    for stream, place in spec["streams"].items():
        target = os.path.join(directory, place)
        # Appending, since both streams may go to one file.
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
        job.streams[stream] = os.open(target, flags, 0o644)
    return job


def of_task(_command: list[str]) -> Job:
    """The task of a worker that launched us instead."""
    with open(os.environ["GLIDEBRIDGE_LAUNCH"]) as file:
        launch = json.load(file)
    directory = os.getcwd()
    name = "program" if os.path.exists(launch["name"]) else launch["name"]
    job = Job({"kind": "task", **launch, "name": name}, directory)
    job.failure = launch["failure"]
    job.inputs[name] = launch["program"]
    size = os.stat(launch["program"]).st_size
    job.facts["files"] = [*_listed(job, directory), [name, size, 0o755]]
    job.inputs[name] = launch["program"]
    return job


class Carrier:
    """One job at the counter."""

    def __init__(self, job: Job, counter: str) -> None:
        self.job, self.counter = job, counter
        self._written = {"stdout": 0, "stderr": 0}
        self._kept: dict[str, object] = {"carrier": os.getpid()}
        self._is_told, self._has_said = False, False
        self._wake, self._bell = socket.socketpair()
        self._bell.setblocking(False)
        self._stdin: bytes | None = None
        signal.set_wakeup_fd(self._bell.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._on_signal)

    def _on_signal(self, number: int, _frame: object) -> None:
        self._is_told = True

    def carry(self) -> None:
        """Hand the job in until somebody says how it ended; never returns."""
        pause = FIRST_PAUSE
        while True:
            connection = self._connected()
            if connection is None:
                select.select([self._wake], [], [], pause)
                self._hear_bell()
                pause = min(2 * pause, LONGEST_PAUSE)
                continue
            pause = FIRST_PAUSE
            try:
                self._talk(connection)
            except (OSError, ValueError):
                pass  # it is there again soon, or somebody else is
            finally:
                connection.close()
            time.sleep(FIRST_PAUSE)

    def _connected(self) -> socket.socket | None:
        connection = socket.socket(socket.AF_UNIX)
        try:
            at(os.path.dirname(self.counter), os.path.basename(self.counter), connection.connect)
        except OSError:
            connection.close()
            return None
        return connection

    def _hear_bell(self) -> None:
        if select.select([self._wake], [], [], 0)[0]:
            self._wake.recv(64)

    def _talk(self, connection: socket.socket) -> None:
        frames = Frames()
        self._has_said = self._is_told
        hello = {"say": "job", "is_cancelled": self._is_told, **self.job.facts}
        connection.sendall(frame(hello))
        while True:
            if self._is_told and not self._has_said:
                self._has_said = True
                connection.sendall(frame({"say": "cancel"}))
            ready = select.select([connection, self._wake], [], [])[0]
            if self._wake in ready:
                self._hear_bell()
            if connection in ready:
                data = connection.recv(CHUNK)
                if not data:
                    return
                for message, content in frames.receive(data):
                    self._answer(connection, message, content)

    def _answer(
        self, connection: socket.socket, message: dict[str, object], content: bytes
    ) -> None:
        try:
            said = getattr(self, f"_do_{message['do']}")(message, content)
            connection.sendall(frame({"say": "done"}, said or b""))
        except (OSError, ValueError) as error:
            connection.sendall(frame({"say": "failed", "reason": str(error)}))
        if message["do"] == "end":
            self._end(message)

    # What the bridge may say

    def _do_read(self, message: dict[str, object], _content: bytes) -> bytes:
        name, offset, length = str(message["name"]), message["offset"], message["length"]
        if not name:
            return self._read_stdin(int(offset), int(length))  # type: ignore[call-overload]
        with open(self.job.inputs[name], "rb") as file:
            file.seek(int(offset))  # type: ignore[call-overload]
            return file.read(int(length))  # type: ignore[call-overload]

    def _read_stdin(self, offset: int, length: int) -> bytes:
        if self._stdin is None:
            try:
                return os.pread(self.job.stdin, length, offset)
            except OSError:  # no file, and so read once
                pieces = []
                while piece := os.read(self.job.stdin, CHUNK):
                    pieces.append(piece)
                self._stdin = b"".join(pieces)
        return self._stdin[offset : offset + length]

    def _do_write(self, message: dict[str, object], content: bytes) -> None:
        target = self.job.place_of(str(message["name"]))
        directory, name = os.path.split(target)
        os.makedirs(directory, exist_ok=True)
        partial = os.path.join(directory, f".{name}.{os.getpid()}")
        with open(partial, "ab" if message["offset"] else "wb") as file:
            if file.tell() != message["offset"]:
                raise ValueError(f"{name} is written in the wrong order")
            file.write(content)
        if message["is_last"]:
            os.replace(partial, target)

    def _do_stream(self, message: dict[str, object], content: bytes) -> None:
        name, offset = str(message["name"]), int(message["offset"])  # type: ignore[call-overload]
        left = memoryview(content)[max(0, self._written[name] - offset) :]
        while left:
            count = os.write(self.job.streams[name], left)
            self._written[name] += count
            left = left[count:]

    def _do_note(self, message: dict[str, object], _content: bytes) -> None:
        self._keep(message)
        attributes = message.get("attributes")
        if isinstance(attributes, dict) and self.job.facts["kind"] == "condor":
            _tell_schedd(self.job.directory, attributes)

    def _do_end(self, message: dict[str, object], _content: bytes) -> None:
        self._keep(message)

    def _keep(self, message: dict[str, object]) -> None:
        if self.job.state:
            self._kept.update(message)
            partial = f"{self.job.state}.{os.getpid()}"
            with open(partial, "w") as file:
                json.dump(self._kept, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, self.job.state)

    def _end(self, message: dict[str, object]) -> None:
        hold = str(message.get("hold") or "")
        if hold and self.job.failure:
            with open(self.job.failure, "w") as file:
                file.write(hold)
        number = int(message.get("signal") or 0)  # type: ignore[call-overload]
        if number:
            if number not in (signal.SIGKILL, signal.SIGSTOP):
                signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            signal.pause()
        os._exit(int(message.get("code") or (FAILED if hold else 0)))  # type: ignore[call-overload]


def _tell_schedd(directory: str, attributes: dict[str, str]) -> None:
    """Set attributes of the job, by the starter's door for that (HTCondor manual, condor_chirp)."""
    try:
        with open(os.path.join(directory, ".chirp.config")) as file:
            host, port, cookie = file.read().split()[:3]
        with socket.create_connection((host, int(port)), CHIRP_PATIENCE) as chirp:
            answers = chirp.makefile("rb")
            chirp.sendall(f"cookie {cookie}\n".encode())
            answers.readline()
            for name, expression in attributes.items():
                text = expression.replace(" ", "\\ ").replace("\n", "\\n")
                chirp.sendall(f"set_job_attr_delayed {name} {text}\n".encode())
                answers.readline()
    except (OSError, ValueError):
        pass  # a starter without that door: the job runs all the same


def main() -> None:
    """Carry one job."""
    kinds = {"condor": of_condor, "task": of_task, "spec": of_spec}
    if len(sys.argv) < 4 or sys.argv[2] not in kinds:
        print(f"usage: {sys.argv[0]} COUNTER condor|task COMMAND... | spec FILE", file=sys.stderr)
        sys.exit(2)
    counter, kind, *command = sys.argv[1:]
    # Told to go before there is a job at the counter: there is nothing to take back.
    Carrier(kinds[kind](command), counter).carry()


if __name__ == "__main__":
    main()
