"""Quoting in HTCondor's submit language: how a value is written so that it is taken literally.

Pure, and without the bindings: whoever writes a submit file uses this.
"""

from collections.abc import Iterable

from condor import ads
from condor.errors import DescriptionRefused


def quote_list(field_name: str, words: Iterable[str]) -> str:
    """Arguments, or ``NAME=value`` pairs, in HTCondor's new syntax; raises DescriptionRefused.

    All of it stands in double quotes, and a double quote inside is doubled. A word with white space
    or a single quote stands in single quotes, and a single quote inside is doubled. A dollar sign
    would begin a macro and is written as one.

    ============================  =================================
    words                         text
    ============================  =================================
    ``--id``, ``7``               ``"--id 7"``
    ``two words``                 ``"'two words'"``
    ``don't``                     ``"'don''t'"``
    (an empty word)               ``"''"``
    ``say "hi"``                  ``"'say ""hi""'"``
    ``X=1``, ``Y=two words``      ``"X=1 'Y=two words'"``
    ``$HOME``                     ``"$(DOLLAR)HOME"``
    ============================  =================================
    """
    return one_line(field_name, f'"{" ".join(_quote_word(word) for word in words)}"')


def one_line(field_name: str, value: str) -> str:
    """``value`` as it is written behind ``key =``, taken literally; raises DescriptionRefused."""
    if not ads.is_unicode(value):
        raise DescriptionRefused(field_name, value, "it is no Unicode text")
    for piece, reason in _INEXPRESSIBLE.items():
        if piece in value.upper():
            raise DescriptionRefused(field_name, value, reason)
    if value != value.strip() or value.endswith("\\"):
        raise DescriptionRefused(field_name, value, "it begins or ends with space or backslash")
    return value.replace("$", "$(DOLLAR)")


_INEXPRESSIBLE = {
    "\n": "a value is one line",
    "\r": "a value is one line",
    "\0": "it holds a NUL",
    "\x1f": "it holds HTCondor's separator of items",
    "$$": "$$ is expanded when the job is matched, however it is quoted",
    "$(DOLLAR)": "this macro cannot be written literally",
}


def _quote_word(word: str) -> str:
    if word == "" or "'" in word or any(character.isspace() for character in word):
        word = "'" + word.replace("'", "''") + "'"
    return word.replace('"', '""')
