"""Command lines as one text: how a shell splits them, and how HTCondor does."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable

_SHELL_PIECE = re.compile(
    r"""(?P<space>[ \t\r\n]+)|'(?P<single>[^']*)'|"(?P<double>(?:[^"\\]|\\.)*)"|\\(?P<escaped>.)"""
    r"""|(?P<plain>[^ \t\r\n'"\\]+)|(?P<broken>.)""",
    re.DOTALL,
)
_SPACE = " \t\n\r\v\f"
_EXPANDED = re.compile(r"[*?$`~|&;<>()\[]")
_ESCAPES_IN_DOUBLE = re.compile(r"\\([\"\\$`])")


class BadWords(ValueError):
    """A command line whose quotes do not close."""


def split_shell(text: str) -> tuple[list[str], str]:
    """The words of ``text`` as a POSIX shell has them, and the first piece of it that a shell would
    have replaced by something else (a pattern, a variable); raises BadWords.
    """
    words: list[str] = []
    word: str | None = None
    expanded = ""
    for match in _SHELL_PIECE.finditer(text):
        kind, piece = match.lastgroup, match[match.lastgroup or 0]
        if kind == "broken":
            raise BadWords("a quote does not close")
        if kind == "space":
            if word is not None:
                words.append(word)
            word = None
            continue
        if kind == "plain" and not expanded and _EXPANDED.search(piece):
            expanded = piece
        if kind == "double":
            expanded = expanded or (piece if re.search(r"(?<!\\)[$`]", piece) else "")
            piece = _ESCAPES_IN_DOUBLE.sub(r"\1", piece)
        word = (word or "") + piece
    if word is not None:
        words.append(word)
    return words, expanded


def join_shell(words: Iterable[str]) -> str:
    """The words as a text that a shell splits into them."""
    return " ".join(map(shlex.quote, words))


def split_condor(text: str) -> list[str]:
    """The words of ``arguments`` or ``environment`` in HTCondor's new syntax, where all of it
    stands in double quotes, or of arguments in the old one; raises BadWords.
    """
    text = text.strip(_SPACE)
    if not text.startswith('"'):
        return re.findall(rf"[^{_SPACE}]+", text.replace('\\"', '"'))
    if len(text) < 2 or not text.endswith('"') or re.search(r'(?<!")"(?:"")*(?!")', text[1:-1]):
        raise BadWords("a double quote inside is written twice, and one stands at each end")
    words: list[str] = []
    word: str | None = None
    is_quoted = False
    inside = text[1:-1].replace('""', '"')
    position = 0
    while position < len(inside):
        character = inside[position]
        if character == "'":
            if is_quoted and inside[position + 1 : position + 2] == "'":
                word = (word or "") + "'"
                position += 1
            else:
                is_quoted = not is_quoted
                word = word or ""
        elif character in _SPACE and not is_quoted:
            if word is not None:
                words.append(word)
            word = None
        else:
            word = (word or "") + character
        position += 1
    if is_quoted:
        raise BadWords("a single quote does not close")
    return words if word is None else [*words, word]
