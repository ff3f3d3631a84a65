"""Files with secrets: whole at any moment, and for their owner's eyes."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from desktopgrid.model.errors import BadRequest

LARGEST_FILE = 1 << 20


def write_private(path: Path, content: str) -> None:
    """Make the file ``path`` read ``content``, mode 0600, and have that on disk."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        sync_directory(path.parent)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def sync_directory(directory: Path) -> None:
    """Have on disk which files ``directory`` holds."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def private_directory(directory: Path) -> Path:
    """``directory``, made if it is not there; raises BadRequest where others may look into it."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = directory.stat()
    except OSError as error:
        raise BadRequest(f"{directory} cannot be used: {error.strerror}") from None
    if facts.st_mode & 0o077 or facts.st_uid != os.geteuid():
        raise BadRequest(
            f"{directory} holds secrets and must be yours alone (its mode is"
            f" {facts.st_mode & 0o777:o}, its owner {facts.st_uid}); chmod 700 it"
        )
    return directory
