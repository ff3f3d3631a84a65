"""Where the benchmarks keep files: below our own cache, on a disk that fdatasync reaches."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def cache() -> Path:
    """A directory of ours for what is slow to fetch, on a disk.

    Set-up's own cache where it is ours; root's benchmarks run as an account with its home there.
    """
    named = os.environ.get("GLIDEBRIDGE_CACHE")
    for place in filter(None, (named, f"/var/tmp/glidebridge-{os.getuid()}")):  # noqa: S108 - ours
        directory = Path(place)
        if directory.is_dir() and directory.lstat().st_uid == os.getuid():
            return directory
    directory = Path.home() / ".cache" / "glidebridge"
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    return directory


@contextmanager
def scratch(name: str) -> Iterator[Path]:
    """A directory for one run, gone afterwards."""
    prefix = f"bench-{name}-"
    with tempfile.TemporaryDirectory(
        prefix=prefix, dir=cache(), ignore_cleanup_errors=True
    ) as path:
        yield Path(path)
