"""The tree of the grid: a Debian with computing elements of several kinds, built once in the cache.

ARC CE (A-REX) and Globus GRAM before Slurm, sshd, PBS's commands as Slurm offers them, and the
clients of all these. Nothing runs in the tree itself, and nothing writes to it: box.py lays a
directory in memory over it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import cache
from cache import SetupError, Unavailable, say
from debian import PrivateApt

SUITE = "bookworm"
PACKAGES = (
    *("nordugrid-arc-arex", "nordugrid-arc-client", "nordugrid-arc-arcctl"),
    *("nordugrid-arc-plugins-arcrest", "voms-clients"),
    *("slurm-wlm", "slurm-wlm-torque", "munge"),
    *("globus-gatekeeper", "globus-gram-job-manager", "globus-gram-job-manager-scripts"),
    *("globus-gram-job-manager-fork", "globus-gram-job-manager-fork-setup-poll"),
    *("globus-gram-job-manager-slurm", "globus-gram-client-tools"),
    *("globus-gass-copy-progs", "globus-gass-cache-program"),
    *("openssh-server", "openssh-client", "openssl", "python3", "procps"),
    *("ca-certificates", "mount", "time"),
)
ACCOUNTS = {"alice": 20001, "bob": 20002, "pilots": 20003, "tokens": 20004}

# What the tree has where packages put it, and what stands there instead: (file, text, text).
PATCHES = (
    # The element's own idea of its jobs is a minute old otherwise; no key sets it (tenths of 1 s).
    (
        "usr/share/arc/arc-arex-start",
        "<arex:gmconfig>$ARC_RUNTIME_CONFIG</arex:gmconfig>",
        "<arex:gmconfig>$ARC_RUNTIME_CONFIG</arex:gmconfig>"
        "<arex:InfoproviderWakeupPeriod>50</arex:InfoproviderWakeupPeriod>",
    ),
    # It takes tokens of any issuer: only this machine may come near it.
    (
        "usr/share/arc/arc-arex-ws-start",
        "<tcp:Listen>",
        "<tcp:Listen><tcp:Interface>127.0.0.1</tcp:Interface>",
    ),
)

NAMESPACES = ("--mount", "--uts", "--pid", "--fork", "--kill-child=KILL", "--propagation=private")
# In these namespaces, in the tree as root.
ENTER = """
hostname grid
mount -t proc proc "$1/proc"
mount --rbind /dev "$1/dev"
mount --bind /sys "$1/sys"
exec chroot "$1" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \\
    DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true sh -euc "$2"
"""

DPKG = "dpkg --force-depends --force-confold --force-unsafe-io"
# Base packages were unpacked by hand, and are configured first: all others count on them.
INSTALL = f"""
{DPKG} --install /debs/base/*.deb
{DPKG} --unpack /debs/others/*.deb
{DPKG} --configure --pending
"""

CONFIGURE = """
for service in fork slurm; do
    ln -sf available/jobmanager-$service-poll /etc/grid-services/jobmanager-$service
done
ln -sf jobmanager-fork /etc/grid-services/jobmanager
arcctl rte enable ENV/PROXY
# Without it each start would compute one, for minutes.
openssl genpkey -genparam -algorithm DH -pkeyopt group:ffdhe2048 -out /etc/dhparam.pem
rm -rf /etc/ssh/ssh_host_* /etc/arc.conf /etc/grid-security/testCA*
"""


def ensure() -> Path:
    """The tree, built if it is not there yet; raises Unavailable where it cannot be."""
    if os.geteuid() != 0:
        raise Unavailable("it runs in namespaces of its own, and only root can make them")
    tree: Path = cache.directory() / "grid"
    if not _is_built(tree):
        with cache.locked(tree):
            if not _is_built(tree):
                _build(tree)
    return tree


def _is_built(tree: Path) -> bool:
    # Beside the tree: what is in it belongs to Debian.
    mark = tree.with_suffix(".done")
    return tree.is_dir() and mark.exists() and mark.read_text() == _fingerprint()


def _fingerprint() -> str:
    """Changes with all that builds the tree."""
    return sha256(Path(__file__).read_bytes()).hexdigest()


def _build(tree: Path) -> None:
    started = time.monotonic()
    say(f"grid: fetching Debian {SUITE} with ARC, Globus and Slurm, which takes a minute")
    unfinished = tree.with_suffix(".part")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    try:
        size = _fetch(unfinished)
        _run(unfinished, INSTALL)
        shutil.rmtree(unfinished / "debs")
        for account, number in ACCOUNTS.items():
            # no password, but not locked, or sshd would let nobody in
            words = f"useradd --create-home --uid {number} --shell /bin/bash --password '*'"
            _run(unfinished, f"{words} {account}")
        for name, old, new in PATCHES:
            _patch(unfinished / name, old, new)
        _run(unfinished, CONFIGURE)
        shutil.rmtree(tree, ignore_errors=True)
        unfinished.rename(tree)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    tree.with_suffix(".done").write_text(_fingerprint())
    say(f"grid: {size / 1e6:.0f} MB in {time.monotonic() - started:.0f} s")


def _fetch(tree: Path) -> int:
    """Put the packages below ``tree`` and unpack what makes others' scripts run; their size."""
    for name in ("bin", "sbin", "lib", "lib64"):
        (tree / "usr" / name).mkdir(parents=True)
        (tree / name).symlink_to(f"usr/{name}")
    for name in ("proc", "dev", "sys", "etc", "debs/base", "debs/others"):
        (tree / name).mkdir(parents=True)
    (tree / "etc/hosts").write_text("127.0.0.1 localhost grid\n")
    (tree / "etc/hostname").write_text("grid\n")
    with tempfile.TemporaryDirectory(prefix="apt-", dir=tree.parent) as state:
        apt = PrivateApt(Path(state), SUITE)
        apt.update()
        base = set(apt.closure(["?essential"]))
        for archive in apt.fetch(apt.closure(["?essential", *PACKAGES])):
            is_base = archive.name.split("_")[0] in base
            shutil.move(archive, tree / "debs" / ("base" if is_base else "others"))
    for archive in sorted(tree.glob("debs/base/*.deb")):
        _unpack(archive, tree)
    for name in ("passwd", "group"):
        shutil.copy(tree / f"usr/share/base-passwd/{name}.master", tree / "etc" / name)
    # No package's script may start a daemon.
    policy = tree / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    excluded = ("doc/*", "man/*", "locale/*", "info/*")
    (tree / "etc/dpkg/dpkg.cfg.d").mkdir(parents=True, exist_ok=True)
    (tree / "etc/dpkg/dpkg.cfg.d/small").write_text(
        "".join(f"path-exclude=/usr/share/{pattern}\n" for pattern in excluded)
    )
    return sum(archive.stat().st_size for archive in tree.glob("debs/*/*.deb"))


def _unpack(archive: Path, tree: Path) -> None:
    # dpkg-deb's own way would put directories in the place of links such as /bin.
    packed = subprocess.run(
        ["dpkg-deb", "--fsys-tarfile", archive], stdout=subprocess.PIPE, check=True
    ).stdout
    tar = ["tar", "--keep-directory-symlink", "-C", str(tree), "-xf", "-"]
    subprocess.run(tar, input=packed, check=True)


def _run(tree: Path, script: str) -> None:
    """Run ``script`` as root in ``tree``; raises SetupError with the end of what it said."""
    command: Sequence[str | Path] = [
        "unshare",
        *NAMESPACES,
        "sh",
        "-euc",
        ENTER,
        "enter",
        tree,
        script,
    ]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode == 0:
        return
    said = "\n".join((done.stdout + done.stderr).splitlines()[-10:])
    if "unshare:" in done.stderr:
        raise Unavailable(f"this machine gives no namespaces: {done.stderr.strip()}")
    raise SetupError(f"the grid's tree cannot be built:\n{said}")


def _patch(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    if old not in text:
        raise SetupError(f"{path} is not what it was: it does not hold {old}")
    path.write_text(text.replace(old, new))
