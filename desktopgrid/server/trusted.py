"""What a site keeps for all its grid services, read again when something in it changed: whom it
lets speak for a VO (/etc/grid-security/vomsdir: VO/HOST.lsc), and its directory of CAs
(/etc/grid-security/certificates): HASH.0 a CA, HASH.r0 what it has
revoked, which others keep up to date (fetch-crl).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from desktopgrid.credentials.subjects import canonical
from desktopgrid.model.errors import BadRequest, Unavailable
from desktopgrid.server.certificates import Trust
from desktopgrid.server.voms import Speakers

logger = logging.getLogger(__name__)

AUTHORITY = re.compile(r"[0-9a-f]{8}\.[0-9]+")
LIST = re.compile(r"[0-9a-f]{8}\.r[0-9]+")

T = TypeVar("T")
Signature = tuple[tuple[str, int, int], ...]


class TrustedDirectory:
    """What a directory of CAs says, as it is now."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._signature: Signature | None = None
        self._trust = Trust()

    def read(self) -> Trust:
        """What is trusted; raises Unavailable where the directory cannot be read.

        A file that cannot be understood is as if it were not there: without its list a CA proves
        nothing.
        """
        try:
            files = sorted(self.directory.iterdir())
            signature = tuple(_signatures(files))
        except OSError as error:
            reason = error.strerror or str(error)
            raise Unavailable(
                f"the directory of CAs {self.directory} cannot be read: {reason}"
            ) from error
        if signature == self._signature:
            return self._trust
        authorities = _each(files, AUTHORITY, x509.load_pem_x509_certificates)
        # Hashes of old and of new are links to one file.
        unique = {authority.public_bytes(Encoding.DER): authority for authority in authorities}
        lists = list(_each(files, LIST, _lists))
        self._trust, self._signature = Trust(list(unique.values()), lists), signature
        logger.info(
            "Trusting %d CAs in %s, of which %d lists say what is revoked",
            len(unique),
            self.directory,
            len(lists),
        )
        return self._trust


class VomsDirectory:
    """Who may speak for a VO, as it is now; without a directory nobody."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory

    def read(self) -> Speakers:
        """All of them. A file that cannot be understood is as if it were not there."""
        found: dict[tuple[str, str], list[tuple[str, ...]]] = {}
        for path in sorted(self._directory.glob("*/*.lsc")) if self._directory else ():
            try:
                found[path.parent.name, path.stem] = list(_chains(path.read_text()))
            except (OSError, ValueError, BadRequest) as error:
                logger.warning("%s counts for nothing: %s", path, error)
        return found


def _chains(text: str) -> Iterator[tuple[str, ...]]:
    """The chains of names in a file, a line of dashes between: the signer's, its issuer's."""
    for part in re.split(r"^-+ *NEXT CHAIN *-+$", text, flags=re.M):
        lines = [line.strip() for line in part.splitlines()]
        names = tuple(canonical(line) for line in lines if line and not line.startswith("#"))
        if len(names) < 2:
            raise BadRequest("a chain has the name of the signer and that of its issuer")
        yield names


def _signatures(files: list[Path]) -> Iterator[tuple[str, int, int]]:
    for path in files:
        if AUTHORITY.fullmatch(path.name) or LIST.fullmatch(path.name):
            facts = path.stat()
            yield path.name, facts.st_mtime_ns, facts.st_size


def _each(
    files: list[Path], form: re.Pattern[str], load: Callable[[bytes], list[T]]
) -> Iterator[T]:
    for path in files:
        if not form.fullmatch(path.name):
            continue
        try:
            yield from load(path.read_bytes())
        except (OSError, ValueError) as error:
            logger.warning("%s counts for nothing: %s", path, error)


def _lists(content: bytes) -> list[x509.CertificateRevocationList]:
    is_pem = content.lstrip().startswith(b"-----BEGIN")
    load = x509.load_pem_x509_crl if is_pem else x509.load_der_x509_crl
    return [load(content)]
