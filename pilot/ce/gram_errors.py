"""What GRAM's numbers mean (GRAM Protocol, error codes), and whose business they are."""

from __future__ import annotations

import re

MEANINGS = {
    1: "the site does not know an attribute of the description",
    2: "the description is too long for the site",
    3: "reading or writing failed at the site",
    4: "the site has no such working directory",
    5: "the program is not there",
    7: "the two sides did not agree on who they are",
    8: "it was cancelled by its owner",
    9: "it was cancelled by the site",
    10: "sending to the gatekeeper failed",
    11: "the standard input is not there",
    12: "the gatekeeper cannot be reached: is it up, and are host and port right?",
    15: "the description is no valid RSL",
    17: "the batch system refused the job, or could not start it",
    19: "the site does not know this kind of job",
    22: "the job manager could not write a file of its own: is the account's disk full?",
    24: "the job manager's script answered nonsense",
    25: "the job manager's script ended badly",
    28: "the job manager could not write the script for the batch system",
    31: "the batch system would not cancel it",
    35: "that number of hosts is not possible",
    37: "there is no such queue",
    38: "there is no such project",
    43: "the program could not be fetched from here: can the site reach this machine?",
    44: "the standard input could not be fetched from here",
    45: "the job manager is not of a known type",
    47: "the gatekeeper could not start the job manager for our account",
    48: "the description could not be read",
    49: "site and client are of versions that do not fit",
    62: "there is no such queue",
    61: "there is no such project",
    72: "the program may not be executed",
    73: "standard output could not be opened",
    74: "standard error could not be opened",
    76: "the account's cache of files is not usable: permissions, quota, or a full disk",
    79: "the job manager does not answer: the job is over, or the manager is down",
    93: "the gatekeeper has no such job manager",
    94: "the job manager takes no more jobs",
    96: "that is no contact of a gatekeeper",
    101: "that wall time is not possible",
    107: "the job manager could not signal the job",
    109: "the batch system gave the job no number",
    111: "the submission was not confirmed in time",
    119: "a position in the output is not possible",
    121: "the job manager's record of the job is not there",
    122: "the job manager's record of the job cannot be read",
    123: "the job manager's record of the job could not be written: is the disk full?",
    126: "the job manager does not know whether the batch system has the job",
    131: "the proxy at the site ran out, while the job runs on",
    135: "a file could not be fetched from here: can the site reach this machine?",
    148: "the description lacks an attribute that the site demands",
    155: "a file could not be brought out",
    156: "the job manager does not know the job any more",
    157: "no proxy could be delegated: is ours limited, or about to run out?",
    158: "another process holds the job manager's record of the job",
    162: "the site's policy forbids it",
    163: "the site's policy could not be asked",
}
"""Those that tell an administrator something; of all others GRAM's own words are shown."""

AUTHENTICATION = (
    ("expired", "a certificate, or a proxy, has expired"),
    ("limited proxy", "a limited proxy may not start jobs"),
    ("self-signed certificate in certificate chain", "a CA is not known on the other side"),
    ("can't get the local trusted ca certificate", "a CA is not known here"),
    ("cannot find trusted ca certificate", "a CA is not known here"),
    ("unknown ca", "our CA is not known there"),
    ("unable to get local issuer", "a CA is not known on the other side"),
    ("gridmap", "our subject is mapped to no account there"),
    ("not authorized", "our subject is mapped to no account there"),
    ("unauthenticated gssapi identity", "the host is another one than was named"),
    ("authorization denied: the name of the remote", "the host is another one than was named"),
    ("mutual authentication failed", "the host is another one than was named"),
    ("revoked", "a certificate was revoked"),
)
"""What GSI says about number 7, in parts of its own texts."""

UNREACHABLE = frozenset({3, 7, 10, 12, 47, 79, 88, 89, 90, 91, 93, 94, 157})
"""Nothing was decided about a job: the site could not be asked."""

_CODE = re.compile(r"\(error ?code (\d+)\)")
NO_LONGER = 300


def code_in(text: str) -> int | None:
    """The number in what a command of Globus wrote."""
    found = _CODE.findall(text)
    return int(found[-1]) if found else None


def meaning_of(text: str) -> str:
    """What a command of Globus wrote, as a reason."""
    code = code_in(text)
    said = " ".join(text.split())[:NO_LONGER]
    if code is None:
        return said or "globusrun did not say why"
    if code == 7:
        for part, words in AUTHENTICATION:
            if part in text.lower():
                return f"{words} (GRAM error 7: {said})"
    if code in MEANINGS:
        return f"{MEANINGS[code]} (GRAM error {code})" + (f": {said}" if code in (7, 17) else "")
    return f"GRAM error {code}: {said}"
