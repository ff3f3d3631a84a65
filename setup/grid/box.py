"""The box of the grid: the tree, started in namespaces of its own, while somebody wants it.

What runs in the box writes to a directory in memory that lies over the tree, so any number of boxes
can run at once and nothing is left of them: no file, mount or process. A box ends with whoever had
it made, however that ends: it reads from a pipe that nobody else holds.
"""

from __future__ import annotations

import os
import select
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import cache
from cache import SetupError, Unavailable, say

from grid.tree import NAMESPACES

VARIABLE = "GLIDEBRIDGE_GRID"
HERE = Path(__file__).parent
START_SECONDS = 60

# $1 the tree, $2 the directory of this box, $3 our own files, $4 the sources that jobs may run.
# $5 and $6 whose the directory becomes. What is mounted here is seen in this namespace only, and
# vanishes with it. No device of the host is among it.
ENTER = """
room="$2/room"
mkdir "$room"
mount -t tmpfs -o mode=755 grid "$room"
mkdir "$room/upper" "$room/work" "$room/root"
mount -t overlay -o "lowerdir=$1,upperdir=$room/upper,workdir=$room/work" grid "$room/root"
cd "$room/root"
hostname grid
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o mode=755 dev dev
for name in null zero full random urandom tty; do
    touch dev/$name
    mount --bind /dev/$name dev/$name
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,mode=620,ptmxmode=666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
chmod 1777 dev/shm
mkdir grid setup outside shared var/log/grid opt/glidebridge
mount --bind "$2" grid
mount --bind "$2/logs" var/log/grid
mount --bind "$2/shared" shared
mount --bind "$2/certificates" etc/grid-security/certificates
mount --bind "$2/vomsdir" etc/grid-security/vomsdir
mount --bind -o ro "$3" setup
mount --bind -o ro "$4" opt/glidebridge
pivot_root . outside
cd /
umount -l /outside
exec /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \\
    GLOBUS_HOSTNAME=localhost X509_CERT_DIR=/etc/grid-security/certificates \\
    /usr/bin/python3 -B /setup/init.py "$2" "$5" "$6"
"""


@dataclass(frozen=True)
class Box:
    """A box that is up."""

    directory: Path
    process: subprocess.Popen[bytes]
    lifeline: int
    """The end of a pipe; the box ends when nobody holds it."""

    @property
    def variables(self) -> dict[str, str]:
        """What tells a command where the grid is."""
        return {VARIABLE: str(self.directory)}

    def outlive_this_program(self) -> None:
        """Tie the box to whatever program this process becomes by exec."""
        os.set_inheritable(self.lifeline, True)

    def end(self) -> None:
        """End the box, and see it gone."""
        os.close(self.lifeline)
        self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


def start(tree: Path, python: Path, checkout: Path, owner: tuple[int, int]) -> Box:
    """A box over ``tree`` that belongs to ``owner``, ready for orders.

    Raises Unavailable where there are no namespaces to be had.
    """
    with _directory() as (directory, lock):
        directory.mkdir(mode=0o700)
        (directory / "logs").mkdir(mode=0o755)
        (directory / "shared").mkdir(mode=0o755)
        umask = os.umask(0o077)
        try:
            subprocess.run(
                [python, "-B", HERE / "certificates.py", directory],
                env={**os.environ, "PYTHONPATH": str(checkout)},
                check=True,
            )
        finally:
            os.umask(umask)
        told = [str(word) for word in (tree, directory, HERE, checkout, *owner)]
        held, lifeline = os.pipe()
        saying, output = os.pipe()
        process = subprocess.Popen(
            ["unshare", *NAMESPACES, "sh", "-euc", ENTER, "enter", *told],
            stdin=held,
            stdout=output,
            stderr=output,
            pass_fds=[lock],  # held by the box itself: its directory is taken while it lives
        )
        os.close(held)
        os.close(output)
    box = Box(directory, process, lifeline)
    said = _first_line(saying)
    if said != "READY":
        process.kill()
        box.end()
        if said.startswith("unshare:"):
            raise Unavailable(f"this machine gives no namespaces: {said}")
        raise SetupError(f"the grid's box does not come up: {said or 'it says nothing'}")
    return box


@contextmanager
def _directory() -> Iterator[tuple[Path, int]]:
    """The name of a directory that no living box has, and the file descriptor of its lock.

    What a box left there that was ended by force is removed.
    """
    for number in count():
        directory = cache.directory() / f"box-{number}"
        with cache.unless_locked(directory) as lock:
            if lock is not None:
                shutil.rmtree(directory, ignore_errors=True)
                yield directory, lock.fileno()
                return


def _first_line(saying: int) -> str:
    """What the other end of a pipe says first; nothing if it dies or takes too long."""
    with open(saying, errors="replace") as output:
        if not select.select([output], [], [], START_SECONDS)[0]:
            return ""
        return output.readline().strip()


@contextmanager
def offered(
    tree: Path | None, python: Path, checkout: Path, owner: tuple[int, int]
) -> Iterator[Box | None]:
    """A box while the block runs; None without a tree, or where it cannot be had."""
    box = None
    if tree is not None:
        try:
            box = start(tree, python, checkout, owner)
        except Unavailable as reason:
            say(f"grid cannot be had here, what needs it is left out: {reason}")
    try:
        yield box
    finally:
        if box is not None:
            box.end()
