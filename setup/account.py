"""Who runs the tests: an unprivileged account when root calls make.

HTCondor's daemons and database servers behave differently as root, or refuse, and so do file modes.
So root's commands run as ``nobody``, in a copy of the checkout that this account may write; only
what nobody else can show is run by root, in a copy too.
"""

from __future__ import annotations

import io
import itertools
import os
import pwd
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import cache
from cache import SetupError, say

NAME = "nobody"

# Never copied, and never removed from the copy: histories, caches and what builds leave.
NOT_SOURCE = {".git", ".venv", "venv", "build", "dist", "__pycache__"} | {
    f".{tool}" for tool in ("hypothesis", "mypy_cache", "pytest_cache", "ruff_cache")
}


@dataclass(frozen=True)
class Account:
    """An unprivileged account and the directory in the cache that is its own."""

    name: str
    uid: int
    gid: int

    def popen_arguments(self) -> dict[str, Any]:
        """What subprocess needs to run a command as this account."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def make_directory(self, path: Path) -> Path:
        """``path``, owned by this account."""
        path.mkdir(mode=0o755, exist_ok=True)
        os.chown(path, self.uid, self.gid, follow_symlinks=False)
        return path

    def do(self, act: Callable[[], None]) -> None:
        """Call ``act`` in a child process that has become this account; raises SetupError."""
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.setgroups([])
                os.setgid(self.gid)
                os.setuid(self.uid)
                act()
                status = 0
            except OSError as error:
                say(str(error))
            finally:
                os._exit(status)
        if os.waitpid(child, 0)[1]:
            raise SetupError(
                f"root cannot work as {self.name} here; call make as an ordinary user instead"
            )


def unprivileged() -> Account | None:
    """The account that commands run in; None if the caller is no superuser."""
    if os.geteuid() != 0:
        return None
    entry = pwd.getpwnam(NAME)
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def of_root() -> Account:
    """Root's own, for what only root can do."""
    entry = pwd.getpwuid(0)
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


@contextmanager
def snapshot(checkout: Path, account: Account, home: Path) -> Iterator[Path]:
    """A copy of ``checkout`` under ``home`` that belongs to ``account``, brought up to date.

    Root reads and the account writes, so that no link which the account made can lead root astray.
    Each of several runs at once has a copy of its own: none sees its files change.
    """
    packed = pack(checkout)
    name = f"checkout-{sha256(bytes(checkout)).hexdigest()[:8]}"
    for number in itertools.count():
        with cache.unless_locked(home.parent / f"{name}-{number}") as lock:
            if lock is not None:
                copy = home / f"{name}-{number}"
                account.do(partial(unpack, packed, copy))
                yield copy
                return


def pack(checkout: Path) -> bytes:
    """The sources in ``checkout`` as one archive, without histories and caches."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(checkout.iterdir()):
            archive.add(path, path.name, filter=_source_only)
    return packed.getvalue()


def unpack(packed: bytes, copy: Path) -> None:
    """Make ``copy`` hold what ``packed`` does, and the caches that it held before."""
    copy.mkdir(exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        # we packed it ourselves; a Python before 3.11.4 knows no filters
        archive.extraction_filter = getattr(tarfile, "fully_trusted_filter", None)
        members = {member.name: member for member in archive}
        for path in sorted(copy.glob("**/*"), reverse=True):
            name = path.relative_to(copy)
            if str(name) not in members and not NOT_SOURCE.intersection(name.parts):
                _remove(path)
        for member in members.values():
            path = copy / member.name
            if _is_same(path, member):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            path.unlink(missing_ok=True)
            archive.extract(member, copy)


def _source_only(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    name = Path(member.name).name
    if name in NOT_SOURCE or not (member.isfile() or member.isdir() or member.issym()):
        return None
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode |= 0o600 if member.isfile() else 0o700
    return member


def _is_same(path: Path, member: tarfile.TarInfo) -> bool:
    """Whether ``path`` is up to date: then it is left alone, as another run may be reading it."""
    if path.is_symlink() or member.issym():
        return path.is_symlink() and member.issym() and os.readlink(path) == member.linkname
    if not path.exists() or member.isdir():
        return path.is_dir()
    found = path.stat()
    return (found.st_size, int(found.st_mtime)) == (member.size, int(member.mtime))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        if not NOT_SOURCE.intersection(entry.name for entry in path.iterdir()):
            shutil.rmtree(path)
    else:
        path.unlink()


def bring_home(result: str, copy: Path, checkout: Path, account: Account) -> None:
    """Copy ``result``, if there is one, from the account's copy to the checkout and its owner."""
    # Read by the account: a link planted there shows no more than the account may see.
    reader = account.popen_arguments()
    done = subprocess.run(["cat", "--", copy / result], capture_output=True, **reader)
    target = checkout / result
    if done.returncode or (target.is_file() and target.read_bytes() == done.stdout):
        return
    owner = checkout.stat()
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.part")
    unfinished.write_bytes(done.stdout)
    os.chown(unfinished, owner.st_uid, owner.st_gid)
    unfinished.chmod(0o644)
    unfinished.replace(target)
    say(f"wrote {target}")
