"""Errors of the HTCondor seam. The package imports nothing of ours, so it has a root of its own.

CondorError
├── AdError                    an attribute is absent or is not what was expected
├── AdSyntaxError              a text is no ClassAd, or too large a one
├── DescriptionRefused         a job description that a submit file cannot express
├── RequirementRefused         a requirement that is wrong, too long, or costs too much
├── MatcherUnavailable         the matcher's child process cannot be had
├── CredentialRefused          a token that HTCondor would pass over in silence
├── PoolUnavailable            a daemon cannot be found or asked: nothing is known (not: zero jobs)
├── ScheddRefused              the schedd answered, and said no
└── PoolNotStarted             a loopback pool that did not come up
"""


class CondorError(Exception):
    """Root of every error that the HTCondor seam raises on purpose."""


class AdError(CondorError):
    """An attribute of a ClassAd is absent, or its value is not of the wanted kind."""

    def __init__(self, attribute: str, value: object, expected: str) -> None:
        super().__init__(f"attribute {attribute} is {value!r}, expected {expected}")
        self.attribute, self.value, self.expected = attribute, value, expected


class AdSyntaxError(CondorError):
    """A text that is no ClassAd, or no expression, or too large for the library."""

    def __init__(self, reason: str, line: int | None) -> None:
        super().__init__(f"line {line}: {reason}" if line is not None else reason)
        self.reason, self.line = reason, line


class DescriptionRefused(CondorError):
    """A job description holds what HTCondor's submit language cannot express."""

    def __init__(self, field: str, value: object, reason: str) -> None:
        super().__init__(f"{field} {value!r} cannot be submitted: {reason}")
        self.field, self.value, self.reason = field, value, reason


class RequirementRefused(CondorError):
    """A requirement expression that will not be judged."""

    def __init__(self, expression: str, reason: str) -> None:
        shown = expression if len(expression) <= 60 else f"{expression[:57]}..."
        super().__init__(f"requirement {shown!r} is refused: {reason}")
        self.expression, self.reason = expression, reason


class MatcherUnavailable(CondorError):
    """The matcher's child process does not start or does not answer."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"requirements cannot be judged now: {reason}")
        self.reason = reason


class CredentialRefused(CondorError):
    """A token file or directory which HTCondor would ignore, found before it is tried."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"token {path} cannot be used: {reason}")
        self.path, self.reason = path, reason


class PoolUnavailable(CondorError):
    """A daemon cannot be found or does not answer. What it holds is unknown, which is not zero."""

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(f"{what} cannot be asked: {reason}")
        self.what, self.reason = what, reason


class ScheddRefused(CondorError):
    """The schedd was asked and refused."""

    def __init__(self, schedd: str, request: str, reason: str) -> None:
        super().__init__(f"{schedd} refused to {request}: {reason}")
        self.schedd, self.request, self.reason = schedd, request, reason


class PoolNotStarted(CondorError):
    """A loopback pool did not come up."""

    def __init__(self, directory: str, reason: str) -> None:
        super().__init__(f"the HTCondor pool in {directory} did not start: {reason}")
        self.directory, self.reason = directory, reason
