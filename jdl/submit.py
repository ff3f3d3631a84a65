"""HTCondor's submit files: commands, macros, and ``queue`` with all its lists.

The file is a program: each ``queue`` makes jobs of what the commands above it say. Macros are
replaced as HTCondor does it, late and by the last value; ``$(Cluster)`` has no number before a job
is submitted, and 0 stands for it. Functions such as ``$ENV()``, ``if``, ``include``, and lists that
a program writes are refused, since they mean what they mean only where the file was written.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from condor import ads
from condor.errors import AdSyntaxError, DescriptionRefused
from condor.quoting import one_line, quote_list
from jdl import glue
from jdl.errors import BadDescription, Unsayable
from jdl.given import Given, Said, whole
from jdl.job import EVERYTHING, MOST_JOBS, Draft, File, Job, Notice, Read, file, refuse
from jdl.macros import LONGEST_VALUE, Macros, names_in
from jdl.queue import Beside, Nothing, lines_of, queue_of, variables_of
from jdl.words import BadWords, split_condor

NAME = "HTCondor submit"
LONGEST_TEXT = 1 << 20

UNSAYABLE = {
    "cpu_time": "it limits the time of the clock only",
    "cpu": "say it in requirements",
    "os": "say it in requirements",
    "software": "say it in requirements",
    "queue": "a pool has no queues",
    "vo": "it is in the user's proxy",
}
UNIVERSES = ("vanilla", "parallel", "5", "11")
NOT_MAPPED = {
    "log": "HTCondor's own log",
    "getenv": "variables are named one by one, in environment",
    "request_gpus": "coprocessors are not known here",
    "periodic_remove": "HTCondor's own policy",
    "periodic_hold": "HTCondor's own policy",
    "periodic_release": "HTCondor's own policy",
    "on_exit_remove": "HTCondor's own policy",
    "on_exit_hold": "HTCondor's own policy",
    "leave_in_queue": "HTCondor's own policy",
    "hold": "a job is not submitted on hold",
    "job_lease_duration": "leases are the grid's business",
    "job_max_vacate_time": "leases are the grid's business",
    "priority": "HTCondor's scale of priorities is another one",
    "stream_output": "outputs come when the job has ended",
    "stream_error": "outputs come when the job has ended",
    "use_x509userproxy": "credentials are not delegated",
    "x509userproxy": "credentials are not delegated",
    "concurrency_limits": "HTCondor's own policy",
    "container_image": "a job is a program, and no container",
    "docker_image": "a job is a program, and no container",
}
# What says here what it means anyhow: command -> the values that need no notice.
USUAL = {
    "should_transfer_files": ("yes", "if_needed"),
    "when_to_transfer_output": ("on_exit",),
    "transfer_output": ("true",),
    "transfer_error": ("true",),
    "preserve_relative_paths": ("false",),
    "copy_to_spool": ("false",),
    "leave_in_queue": ("false",),
    "hold": ("false",),
    "getenv": ("false",),
    "nice_user": ("false",),
    "skip_filechecks": ("true", "false"),
    "submit_as_owner": ("true",),
}
_TRUE = ("true", "yes", "t", "y", "1")
_UNITS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}
_SIZE = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)
_COMMAND = re.compile(r"(\+?[A-Za-z_][\w.]*)\s*=(.*)", re.DOTALL)
_KEYWORD = re.compile(r"(if|elif|else|endif|include|use|warning|error)\b", re.IGNORECASE)
_NOTIFICATIONS = {"always": ("start", "end", "error"), "complete": ("end",), "error": ("error",)}


def read(text: str, beside: Beside | None = None) -> Read:
    """The jobs that a file queues; raises BadDescription."""
    if len(text) > LONGEST_TEXT:
        raise BadDescription(f"{len(text)} characters; at most {LONGEST_TEXT}")
    if "\0" in text:
        raise BadDescription("it holds a NUL character")
    lines, used = list(lines_of(text)), names_in(text)
    commands: dict[str, Said[str]] = {}
    jobs, notices = list[Job](), list[Notice]()
    position = 0
    while position < len(lines):
        line = lines[position]
        position += 1
        if match := re.match(r"queue\b(?!\s*=)(.*)", line.text, re.DOTALL | re.IGNORECASE):
            queue, position = queue_of(match[1], line, lines, position)
            for variables in variables_of(queue, commands, beside or Nothing(), len(jobs)):
                if len(jobs) == MOST_JOBS:
                    raise BadDescription(
                        f"it makes more than {MOST_JOBS} jobs", "queue", line.number
                    )
                draft = _one(commands, variables, used)
                try:
                    jobs.append(draft.job())
                except BadDescription as error:
                    raise BadDescription(
                        error.reason, error.attribute, error.line or line.number
                    ) from None
                notices += draft.notices
        elif match := _COMMAND.fullmatch(line.text):
            if len(match[2]) > LONGEST_VALUE:
                raise BadDescription(f"more than {LONGEST_VALUE} characters", match[1], line.number)
            commands[match[1].lower()] = Said(match[1], match[2].strip(), line.number)
        elif match := _KEYWORD.match(line.text):
            raise BadDescription("this statement is not read", match[1], line.number)
        else:
            raise BadDescription(
                f"expected NAME = value or queue, found {line.text[:40]!r}", line=line.number
            )
    if not jobs:
        raise BadDescription("nothing is queued; end with queue")
    return Read(tuple(jobs), tuple(dict.fromkeys(notices)))


# One job


def _one(commands: Mapping[str, Said[str]], variables: Mapping[str, str], used: set[str]) -> Draft:
    draft = Draft()
    macros = Macros(commands, variables)
    reached = [each for each in commands.values() if _is_known(each.name)]
    values = [Said(each.name, macros.replace(each, each.value), each.line) for each in reached]
    given = Given(draft, values)
    _read(draft, given)
    given.finish(NOT_MAPPED, "this command is not read")
    for name, each in commands.items():
        if not _is_known(each.name) and name not in used:
            is_attribute = name.startswith(("+", "my."))
            text = "an attribute for HTCondor" if is_attribute else "neither a command nor used"
            draft.note(each.name, text, each.line)
    for name, text in macros.notes.items():
        draft.note(name, text)
    return draft


_MAPPED = {
    "accounting_group",
    "allowed_execute_duration",
    "args",
    "arguments",
    "batch_name",
    "env",
    "environment",
    "error",
    "executable",
    "initial_dir",
    "initialdir",
    "input",
    "jobbatchname",
    "machine_count",
    "max_retries",
    "notification",
    "notify_user",
    "output",
    "rank",
    "request_cpus",
    "request_disk",
    "request_memory",
    "requirements",
    "transfer_executable",
    "transfer_input",
    "transfer_input_files",
    "transfer_output_files",
    "transfer_output_remaps",
    "universe",
}


def _is_known(name: str) -> bool:
    name = name.lower()
    return name in _MAPPED or name in NOT_MAPPED or name in USUAL


def _read(draft: Draft, given: Given[str]) -> None:
    fields = draft.fields
    for name, usual in USUAL.items():
        if (said := given.take(name)) and said.value.lower() not in usual:
            draft.note(name, NOT_MAPPED.get(name, f"{said.value} is not kept"), said.line)
    universe = given.take("universe")
    if universe and universe.value.lower() not in UNIVERSES:
        raise universe.wrong("vanilla or parallel")
    if said := given.take("accounting_group"):
        fields["project"] = said.value
    if said := given.take("batch_name", "jobbatchname"):
        quoted = re.fullmatch(r'"(.*)"', said.value, re.DOTALL)
        fields["name"] = quoted[1] if quoted else said.value
    if said := given.take("arguments", "args"):
        fields["arguments"] = tuple(_words(said))
    if said := given.take("environment", "env"):
        fields["environment"] = tuple(_variables(said))
    if said := given.take("request_cpus"):
        fields["cores"] = whole(said, 1)
    if said := given.take("machine_count"):
        fields["nodes"] = whole(said, 1)
        fields["cores"] = fields.get("cores", 1) * fields["nodes"]
    for name, key, shift in (
        ("request_memory", "memory_mib", 20),
        ("request_disk", "disk_mib", 10),
    ):
        if said := given.take(name):
            fields[key] = _mib(said, shift)
    if said := given.take("allowed_execute_duration"):
        fields["wall_time"] = whole(said)
    if said := given.take("max_retries"):
        fields["retries"] = whole(said)
    _read_notification(draft, given)
    for name, key in (("requirements", "requirements"), ("rank", "rank")):
        if (said := given.take(name)) and said.value:
            try:
                fields[key] = glue.expression(said.value)
            except AdSyntaxError as error:
                raise said.wrong(f"a ClassAd expression, and {error.reason}") from None
    if fields.get("requirements", "").lower() == "true":
        fields["requirements"] = ""
    _read_files(draft, given)


def _read_notification(draft: Draft, given: Given[str]) -> None:
    word, address = given.take("notification"), given.take("notify_user")
    if address:
        draft.fields["notify"] = address.value
    if word and word.value.lower() not in ("", "never"):
        if word.value.lower() not in _NOTIFICATIONS:
            raise word.wrong("Always, Complete, Error or Never")
        draft.fields["notify_on"] = _NOTIFICATIONS[word.value.lower()]


def _read_files(draft: Draft, given: Given[str]) -> None:
    fields = draft.fields
    inputs, outputs = list[File](), list[File]()
    initial = given.take("initialdir", "initial_dir")
    directory = initial.value if initial else ""

    def local(path: str) -> str:
        return path if "://" in path else posixpath.join(directory, path)

    sends = given.take("transfer_executable")
    if said := given.take("executable"):
        fields["executable"] = said.value
        if sends is None or sends.value.lower() in _TRUE:
            # The executable is looked for beside the file, whatever initialdir says.
            fields["executable"] = posixpath.basename(said.value)
            inputs.append(file(fields["executable"], said.value))
    sends = given.take("transfer_input")
    if (said := given.take("input")) and said.value not in ("", "/dev/null"):
        fields["stdin"] = said.value
        if sends is None or sends.value.lower() in _TRUE:
            fields["stdin"] = posixpath.basename(said.value)
            inputs.append(file(fields["stdin"], local(said.value)))
    for name, key in (("output", "stdout"), ("error", "stderr")):
        if (said := given.take(name)) and said.value not in ("", "/dev/null"):
            fields[key] = local(said.value)
    if said := given.take("transfer_input_files"):
        for path in _list(said):
            if path.endswith("/"):
                draft.note(
                    said.name, f"{path} is a directory; files are named one by one", said.line
                )
            name = posixpath.basename(path.rstrip("/"))
            inputs.append(file(name, local(path.rstrip("/"))))
    remaps = dict(_remaps(said) if (said := given.take("transfer_output_remaps")) else [])
    if said := given.take("transfer_output_files"):
        names = _list(said)
        if not names:
            draft.note(said.name, "that nothing comes back is not kept", said.line)
        outputs += [file(name, local(remaps.pop(name, name))) for name in names]
    outputs += [file(name, local(place)) for name, place in remaps.items()]
    fields.update(inputs=tuple(inputs), outputs=tuple(outputs))


def _words(said: Said[str]) -> list[str]:
    try:
        return split_condor(said.value)
    except BadWords as error:
        raise said.wrong(f"arguments, and {error}") from None


def _variables(said: Said[str]) -> Iterator[tuple[str, str]]:
    """Pairs in the new syntax, or in the old one, which separates by semicolons."""
    if said.value.startswith('"'):
        words = _words(said)
    else:
        words = [word.strip() for word in said.value.split(";") if word.strip()]
    for word in words:
        name, separator, value = word.partition("=")
        if not separator:
            raise said.wrong("NAME=VALUE")
        yield name, value


def _remaps(said: Said[str]) -> Iterator[tuple[str, str]]:
    text = said.value.strip('"')
    for pair in filter(None, (each.strip() for each in re.split(r"(?<!\\);", text))):
        name, separator, place = pair.partition("=")
        if not separator:
            raise said.wrong("NAME = PLACE; NAME = PLACE")
        yield name.strip(), place.strip()


def _list(said: Said[str]) -> list[str]:
    return [each for each in (part.strip() for part in said.value.strip('"').split(",")) if each]


def _mib(said: Said[str], shift: int) -> int:
    match = _SIZE.fullmatch(said.value.strip())
    if match is None:
        raise said.wrong("a size such as 512, 512M or 2G")
    exponent = _UNITS[match[2].lower()] if match[2] else shift
    octets = float(match[1]) * 2.0**exponent
    return -int(-octets // (1 << 20))


# Writing


def write(jobs: Sequence[Job]) -> str:
    """The file that queues ``jobs``; raises Unsayable."""
    said_before: set[str] = set()
    text = ""
    for job in jobs:
        lines = dict(_commands(job))
        # A later job inherits what an earlier one said.
        for name in sorted(said_before - set(lines)):
            lines[name] = ""
        said_before |= set(lines)
        text += "".join(f"{name} = {value}".rstrip() + "\n" for name, value in lines.items())
        text += "queue\n"
    if len(jobs) > 1:
        _refuse_unequal(jobs)
    return text


def _refuse_unequal(jobs: Sequence[Job]) -> None:
    """An empty command is not always the same as none."""
    for name in ("cores", "nodes", "memory_mib", "disk_mib", "wall_time", "retries"):
        if len({getattr(job, name) for job in jobs}) > 1:
            raise Unsayable(NAME, name, "it is the same for all jobs of a file")


def _commands(job: Job) -> Iterator[tuple[str, str]]:
    refuse(NAME, job, UNSAYABLE)
    yield "universe", "parallel" if job.nodes > 1 else "vanilla"
    if job.name:
        if re.fullmatch(r'".*"', job.name, re.DOTALL):
            raise Unsayable(NAME, "name", "quotes around it would be taken away")
        yield "batch_name", _line("name", job.name)
    inputs = list(job.inputs)
    for key, command, flag in (
        ("executable", "executable", "transfer_executable"),
        ("stdin", "input", "transfer_input"),
    ):
        name = getattr(job, key)
        sent = next((each for each in job.inputs if each.name == name), None)
        if sent:
            if posixpath.basename(sent.place) != name:
                raise Unsayable(NAME, "inputs", f"{sent.place!r} cannot be called {name!r}")
            inputs = [each for each in inputs if each is not sent]
            yield command, _line(key, sent.place)
            yield flag, "True"
        elif name:
            yield command, _line(key, name)
            yield flag, "False"
    if job.arguments:
        yield "arguments", _words_of("arguments", job.arguments)
    if job.environment:
        pairs = [f"{name}={value}" for name, value in job.environment]
        yield "environment", _words_of("environment", pairs)
    for command, key in (("output", "stdout"), ("error", "stderr")):
        if getattr(job, key):
            yield command, _line(key, getattr(job, key))
    yield "should_transfer_files", "YES"
    yield "when_to_transfer_output", "ON_EXIT"
    if inputs:
        yield "transfer_input_files", ", ".join(map(_input, inputs))
    if outputs := [each for each in job.outputs if each.name != EVERYTHING]:
        if len(outputs) < len(job.outputs):
            raise Unsayable(NAME, "outputs", "either all files, or those that are named")
        yield "transfer_output_files", ", ".join(_item("outputs", each.name) for each in outputs)
        remapped = [each for each in outputs if each.uri]
        if remapped:
            yield "transfer_output_remaps", f'"{"; ".join(map(_remap, remapped))}"'
    if job.cores % job.nodes:
        raise Unsayable(NAME, "nodes", f"{job.cores} cores are not the same on each of {job.nodes}")
    yield "request_cpus", str(job.cores // job.nodes)
    if job.nodes > 1:
        yield "machine_count", str(job.nodes)
    if job.memory_mib:
        yield "request_memory", f"{job.memory_mib}MB"
    if job.disk_mib:
        yield "request_disk", f"{job.disk_mib}MB"
    if job.wall_time:
        yield "allowed_execute_duration", str(job.wall_time)
    if job.retries is not None:
        yield "max_retries", str(job.retries)
    if job.project:
        yield "accounting_group", _line("project", job.project)
    if job.notify:
        yield "notify_user", _line("notify", job.notify)
    if job.notify_on:
        words = {frozenset(events): word for word, events in _NOTIFICATIONS.items()}
        word = words.get(frozenset(job.notify_on))
        if word is None:
            raise Unsayable(NAME, "notify_on", f"{', '.join(job.notify_on)} is no choice of its")
        yield "notification", word.capitalize()
    if job.requirements:
        yield "requirements", _line("requirements", ads.expression(job.requirements))
    if job.rank:
        yield "rank", _line("rank", ads.expression(job.rank))


def _input(each: File) -> str:
    if posixpath.basename(each.place) != each.name:
        raise Unsayable(NAME, "inputs", f"{each.place!r} cannot be called {each.name!r}")
    return _item("inputs", each.place)


def _item(field: str, text: str) -> str:
    """One of a list that commas separate."""
    if "," in text or '"' in text or not text.strip():
        raise Unsayable(NAME, field, f"{text!r} holds a comma or a quote, or nothing")
    return _line(field, text)


def _remap(each: File) -> str:
    for text in (each.name, each.uri):
        if any(mark in text for mark in '=;"\\') or text != text.strip():
            raise Unsayable(NAME, "outputs", f'{text!r} holds one of = ; " or a backslash')
    return f"{_line('outputs', each.name)} = {_line('outputs', each.uri)}"


def _line(field: str, text: str) -> str:
    """A value as it stands behind ``=``, taken literally."""
    try:
        line = one_line(field, text)
    except DescriptionRefused as refused:
        raise Unsayable(NAME, field, f"{text!r}: {refused.reason}") from None
    if not line:
        raise Unsayable(NAME, field, "an empty value is none")
    return line


def _words_of(field: str, words: Iterable[str]) -> str:
    try:
        return quote_list(field, words)
    except DescriptionRefused as refused:
        raise Unsayable(NAME, field, refused.reason) from None
