"""Errors of the job descriptions. The package imports nothing of the grid, so it has a root of its
own.

JdlError
├── BadDescription     a text that is no description, or asks for what cannot be meant; says where
├── Unsayable          a job that a language has no words for; says which attribute
└── UnknownLanguage    neither the file's name nor its text says which language it is in
"""

from __future__ import annotations


class JdlError(Exception):
    """Root of every error that reading and writing descriptions raises on purpose."""


class BadDescription(JdlError):
    """A description that cannot be read: in which file, on which line, at which attribute."""

    def __init__(
        self, reason: str, attribute: str = "", line: int | None = None, file: str = ""
    ) -> None:
        place = file or "description"
        if line is not None:
            place += f":{line}"
        super().__init__(": ".join(filter(None, (place, attribute, reason))))
        self.reason, self.attribute, self.line, self.file = reason, attribute, line, file

    def within(self, file: str) -> BadDescription:
        """The same error, of a file."""
        return BadDescription(self.reason, self.attribute, self.line, file)


class Unsayable(JdlError):
    """A language has no words for an attribute of a job, or none for its value."""

    def __init__(self, language: str, attribute: str, reason: str) -> None:
        super().__init__(f"{language} cannot say {attribute}: {reason}")
        self.language, self.attribute, self.reason = language, attribute, reason


class UnknownLanguage(JdlError):
    """Nobody knows which language a description is in."""
