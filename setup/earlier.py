"""The tree of an earlier commit, unpacked in the cache: for benchmarks beside it."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

import cache
from cache import Unavailable


def ensure(checkout: Path, commit: str) -> Path:
    """The directory with the sources of ``commit``; raises Unavailable where the history ends
    before it.
    """
    tree: Path = cache.directory() / f"tree-{commit}"
    with cache.locked(tree):
        if not tree.exists():
            git = ["git", "-c", f"safe.directory={checkout}", "-C", str(checkout)]
            try:
                packed = subprocess.run([*git, "archive", commit], capture_output=True, check=True)
            except (OSError, subprocess.CalledProcessError) as error:
                raise Unavailable(f"commit {commit} is not in this checkout's history") from error
            unfinished = tree.with_suffix(".part")
            shutil.rmtree(unfinished, ignore_errors=True)
            with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
                archive.extraction_filter = getattr(tarfile, "fully_trusted_filter", None)
                archive.extractall(unfinished)  # noqa: S202 - our own history
            unfinished.rename(tree)
    return tree
