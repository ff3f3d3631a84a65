"""The manual's own spelling of the client's commands (XWHEP manual, 5.4 to 5.6), as words of `xw`.

Decides what a command line of `xtremweb.client`, `xwsendwork` or another of the manual's scripts
means. It asks no grid, runs nothing and reads no file.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

from desktopgrid.model.errors import BadRequest
from desktopgrid.model.modes import rights_from

CLIENT = "xtremweb.client"

SCRIPTS = {
    "xwusers": "xwgetusers",
    "xwsenduser": "xwsenduser",
    "xwusergroups": "xwgetusergroups",
    "xwsendusergroup": "xwsendusergroup",
    "xwdatas": "xwgetdatas",
    "xwsenddata": "xwsenddata",
    "xwapps": "xwgetapps",
    "xwsendapp": "xwsendapp",
    "xwworks": "xwgetworks",
    "xwtasks": "xwgettasks",
    "xwsendwork": "xwsendwork",
    "xwresults": "xwresult",
    "xwrm": "xwremove",
    "xwchmod": "xwchmod",
}
"""The manual's scripts, and the action that each of them is (XW-CLI-23)."""

WITH_VALUE = (
    "xwconfig",
    "xwmacro",
    "xwformat",
    "xwclientloopdelay",
    "xwlabel",
    "xwsession",
    "xwgroup",
    "xwcert",
    "xwexpectedhost",
    "xwenv",
    "xwstdin",
)
FLAGS = (
    "xwhelp",
    "xwgui",
    "xwclean",
    "xwverbose",
    "xwnoverbose",
    "xwnoextract",
    "xwrmzip",
    "xwnoerase",
    "xwoverride",
)
FORMATS = {"xml": "xml", "html": "html", "csv": "csv", "text": "table", "raw": "table"}
FORMATS |= {"raw text": "table", "json": "json"}
DEFAULT_FORMAT = "xml"

CPUS = {"amd64": "x86_64", "ix86": "i686", "i386": "i686", "arm64": "aarch64"}
SYSTEMS = {"macosx": "darwin", "mac os x": "darwin", "win32": "windows"}
"""How the manual calls CPU types and operating systems, and how hosts do."""


class WrongWords(Exception):
    """The command line is wrong; the text says where and what was expected."""


@dataclass
class Meaning:
    """What a command line asks for; ``words`` are for `xw`."""

    words: list[str] = field(default_factory=list)
    macro: str | None = None
    configuration: str | None = None
    """A file in the manual's form, or an identity file."""
    patience: float | None = None
    """Seconds to wait for a server that does not answer."""
    is_help: bool = False
    is_window: bool = False
    """Whether the graphic interface is asked for: then nothing else is done."""
    is_clean: bool = False
    """Whether what the client keeps is to be cleared first."""
    is_verbose: bool | None = None
    notes: list[str] = field(default_factory=list)


@dataclass
class _Said:
    """A command line, taken apart."""

    action: str | None = None
    arguments: list[str] = field(default_factory=list)
    values: dict[str, str] = field(default_factory=dict)
    flags: set[str] = field(default_factory=set)


def meaning_of(program: str, words: Sequence[str]) -> Meaning:
    """What ``program``, one of the manual's, is asked by ``words``; raises WrongWords."""
    said = _take_apart(SCRIPTS.get(PurePath(program).name), words)
    meaning = Meaning(
        macro=said.values.get("xwmacro"),
        configuration=said.values.get("xwconfig"),
        is_help="xwhelp" in said.flags,
        is_window="xwgui" in said.flags,
        is_clean="xwclean" in said.flags,
    )
    if "xwverbose" in said.flags or "xwnoverbose" in said.flags:
        meaning.is_verbose = "xwverbose" in said.flags
    if "xwclientloopdelay" in said.values:
        meaning.patience = _milliseconds(said.values["xwclientloopdelay"])
    if meaning.is_help or meaning.is_window or meaning.macro is not None:
        return meaning
    if said.action is None:
        if meaning.is_clean:
            return meaning
        found = f"{said.arguments[0]} is no action" if said.arguments else "no action"
        raise WrongWords(f"{found}; the actions are {', '.join(f'--{name}' for name in ACTIONS)}")
    meaning.words = ["--format", _format(said.values.get("xwformat"))]
    if "xwcert" in said.values and said.action not in ("xwsenduser", "xwsendwork"):
        meaning.notes.append("certificates are not taken along; --xwcert has no effect")
    meaning.words += ACTIONS[said.action](said, meaning)
    return meaning


def _take_apart(action: str | None, words: Sequence[str]) -> _Said:
    said = _Said(action)
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name = word.lstrip("-").lower()
        if word in ("-h", "--help") and not (said.action == "xwsendwork" and said.arguments):
            said.flags.add("xwhelp")
        elif not re.fullmatch("--?xw[a-z]+", word.lower()):
            if word == "<" and said.action == "xwsendwork":
                said.values["xwstdin"] = _next(rest, "<", "a file")
            else:
                said.arguments.append(word)
        elif name in FLAGS:
            said.flags.add(name)
        elif name in WITH_VALUE:
            said.values[name] = _next(rest, word, "a value")
        elif SCRIPTS.get(name, name) in ACTIONS:
            if said.action is not None:
                raise WrongWords(f"{word} after --{said.action}: one action at a time")
            said.action = SCRIPTS.get(name, name)
        else:
            known = [*ACTIONS, *FLAGS, *WITH_VALUE]
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; --{near[0]} is one" if near else ""
            raise WrongWords(f"{word} is no parameter of this client{hint}")
    return said


def _next(rest: list[str], word: str, what: str) -> str:
    if not rest:
        raise WrongWords(f"{word} wants {what} after it")
    return rest.pop(0)


def _milliseconds(text: str) -> float:
    if not text.isascii() or not text.isdigit() or not int(text):
        raise WrongWords(f"--xwclientloopdelay {text!r}: expected milliseconds, such as 60000")
    return int(text) / 1000


def _format(text: str | None) -> str:
    if text is None:
        return DEFAULT_FORMAT
    if text.lower() not in FORMATS:
        raise WrongWords(f"--xwformat {text!r}: expected one of XML, HTML, CSV, text, json")
    return FORMATS[text.lower()]


def _arguments(said: _Said, least: int, most: int | None, form: str) -> list[str]:
    count = len(said.arguments)
    if count < least or (most is not None and count > most):
        raise WrongWords(f"--{said.action} takes {form}; {count} arguments were given")
    return said.arguments


# --- the actions ----------------------------------------------------------------------------------


def _list(command: str) -> Callable[[_Said, Meaning], list[str]]:
    def words(said: _Said, meaning: Meaning) -> list[str]:
        _arguments(said, 0, 0, "no argument")
        return [command]

    return words


def _list_some(command: str) -> Callable[[_Said, Meaning], list[str]]:
    return lambda said, meaning: [command, *said.arguments]


def _send_user(said: _Said, meaning: Meaning) -> list[str]:
    form = "<login> <password> <email> <rights> [<usergroup>]"
    login, password, email, level, *group = _arguments(said, 4, 5, form)
    # Not a process's command line any more: that it stood in one, `xw` warns of.
    words = ["senduser", login, "--level", level.lower(), "--email", email]
    words += ["--password", password]
    if "xwcert" in said.values:
        words += ["--cert", said.values["xwcert"]]
    return [*words, "--usergroup", *group] if group else words


def _send_user_group(said: _Said, meaning: Meaning) -> list[str]:
    return ["sendusergroup", *_arguments(said, 1, 1, "<name>")]


def _send_data(said: _Said, meaning: Meaning) -> list[str]:
    name, *platform, uri = _arguments(said, 2, 4, "<name> [<CPU> <OS>] <URI>")
    if len(platform) == 1:
        raise WrongWords("--xwsenddata takes <CPU> and <OS> together, or neither")
    return ["senddata", uri, "--name", name, *_platform(*platform), "--replace"]


def _send_application(said: _Said, meaning: Meaning) -> list[str]:
    name, cpu, system, uri = _arguments(said, 4, 4, "<name> <CPU> <OS> <URI>")
    return ["sendapp", name, uri, *_platform(cpu, system)]


def _platform(cpu: str = "", system: str = "") -> list[str]:
    if not cpu:
        return []
    cpu, system = cpu.lower(), system.lower()
    return ["--cpu", CPUS.get(cpu, cpu), "--os", SYSTEMS.get(system, system)]


def _send_work(said: _Said, meaning: Meaning) -> list[str]:
    form = "<application> [--xwenv <zip>] [--xwlabel <label>] [parameters] ['<' <file>]"
    application, *parameters = _arguments(said, 1, None, form)
    words = ["submit", application]
    for name in ("label", "session", "group", "env", "stdin"):
        if f"xw{name}" in said.values:
            words += [f"--{name}", said.values[f"xw{name}"]]
    if "xwcert" in said.values:
        words += ["--xwcert", said.values["xwcert"]]
    if "xwexpectedhost" in said.values:
        words += ["--expected-host", said.values["xwexpectedhost"]]
    return [*words, "--", *parameters]


def _result(said: _Said, meaning: Meaning) -> list[str]:
    """The eight cases of XW-RS-1: what is left of the archive, and whether the work goes."""
    if "xwnoextract" in said.flags:
        archive = "only"
    else:
        archive = "none" if "xwrmzip" in said.flags else "also"
    words = ["result", "--archive", archive]
    words += [] if "xwnoerase" in said.flags else ["--erase"]
    words += ["--override"] if "xwoverride" in said.flags else []
    return [*words, *(said.arguments or ["--all"])]


def _remove(said: _Said, meaning: Meaning) -> list[str]:
    return ["rm", *_arguments(said, 1, None, "<UID>...")]


def _chmod(said: _Said, meaning: Meaning) -> list[str]:
    first, *rest = _arguments(said, 2, None, "<UID>... <rights>")
    # The manual forgot where the rights stand; both ends are understood.
    if _are_rights(first):
        return ["chmod", first, *rest]
    return ["chmod", rest[-1], first, *rest[:-1]]


def _are_rights(text: str) -> bool:
    try:
        rights_from(text, 0)
    except BadRequest:
        return False
    return True


ACTIONS: dict[str, Callable[[_Said, Meaning], list[str]]] = {
    "xwgetusers": _list("users"),
    "xwsenduser": _send_user,
    "xwgetusergroups": _list("usergroups"),
    "xwsendusergroup": _send_user_group,
    "xwgetdatas": _list("datas"),
    "xwsenddata": _send_data,
    "xwgetapps": _list("apps"),
    "xwsendapp": _send_application,
    "xwgetworks": _list_some("works"),
    "xwgettasks": _list_some("tasks"),
    "xwsendwork": _send_work,
    "xwresult": _result,
    "xwremove": _remove,
    "xwchmod": _chmod,
}
