"""Values in command lines: spans of time, sizes, pairs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import click

from desktopgrid.model.errors import BadRequest
from desktopgrid.model.modes import rights_from
from desktopgrid.model.uris import is_uri
from desktopgrid.wire.messages import USUAL_QUOTA

_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_MIB = {"": 1.0, "k": 1 / 1024, "m": 1.0, "g": 1024.0, "t": 1024.0 * 1024}


class Span(click.ParamType[int]):
    """A span of time, in seconds."""

    name = "TIME"

    def convert(
        self, value: Any, parameter: click.Parameter | None, context: click.Context | None
    ) -> int:
        """Seconds of ``90``, ``15m``, ``2h`` or ``1d``."""
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", str(value).lower())
        if match is None:
            self.fail(f"{value!r} is no time; expected such as 90, 15m, 2h or 1d")
        return max(1, round(float(match[1]) * _SECONDS[match[2]]))


class Mebibytes(click.ParamType[int]):
    """A size, in MiB."""

    name = "SIZE"

    def convert(
        self, value: Any, parameter: click.Parameter | None, context: click.Context | None
    ) -> int:
        """MiB of ``512``, ``512M`` or ``2G``."""
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([kmgt]?)(?:i?b)?", str(value).lower())
        if match is None:
            self.fail(f"{value!r} is no size; expected such as 512, 512M or 2G")
        return max(1, round(float(match[1]) * _MIB[match[2]]))


class Quota(Mebibytes):
    """A size in MiB, or a word for one."""

    name = "SIZE|none|usual"

    def convert(
        self, value: Any, parameter: click.Parameter | None, context: click.Context | None
    ) -> int:
        """MiB; 0 for ``none``, USUAL_QUOTA for ``usual``."""
        words = {"none": 0, "usual": USUAL_QUOTA}
        if value in words:
            return words[value]
        return super().convert(value, parameter, context)


class Pair(click.ParamType[tuple[str, str]]):
    """``NAME=VALUE``, as a pair."""

    name = "NAME=VALUE"

    def convert(
        self, value: Any, parameter: click.Parameter | None, context: click.Context | None
    ) -> tuple[str, str]:
        """The two halves; the value may hold ``=``."""
        if isinstance(value, tuple):
            return value
        name, separator, rest = str(value).partition("=")
        if not separator or not name:
            self.fail(f"{value!r} is not of the form NAME=VALUE")
        return name, rest


class Rights(click.ParamType[int]):
    """Access rights in octal, or by their name."""

    name = "RIGHTS"

    def convert(
        self, value: Any, parameter: click.Parameter | None, context: click.Context | None
    ) -> int:
        """The bits of ``0o755``, ``755``, ``0x755`` (as the manual writes it) or ``public``."""
        if isinstance(value, int):
            return value
        try:
            return rights_from(str(value))
        except BadRequest as error:
            self.fail(str(error))


class Source(click.ParamType[Any]):
    """A file of this machine, as a path, or what a URI names, as text."""

    name = "FILE|URI"

    def convert(
        self, value: Any, parameter: click.Parameter | None, context: click.Context | None
    ) -> Path | str:
        """The path of a file that is there, ``file://`` or not; or the URI."""
        if isinstance(value, Path):
            return value
        text = str(value)
        if is_uri(text) and not text.lower().startswith("file:"):
            return text
        path = path_of(text)
        if not path.is_file():
            self.fail(f"there is no file {str(path)!r}")
        return path


def path_of(text: str) -> Path:
    """The path that ``text`` is, or that it names as ``file:///path``."""
    return Path(unquote(urlsplit(text).path)) if is_uri(text) else Path(text)
