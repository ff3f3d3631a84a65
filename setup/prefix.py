"""Foreign programs for tests and demo: Debian packages unpacked into a prefix, without root.

    prefix.py NAME...        builds what is missing, prints ``VARIABLE=path`` for each

Exit code 3: no package mirror can be reached, or it lacks the packages; callers may skip.

apt-get resolves and downloads, dpkg-deb unpacks, and patchelf points every program at the prefix's
own dynamic loader and libraries, so that packages of any suite run on this host. Programs of the
prefix see the host's files, and jobs that its daemons start run with the host's programs and
libraries. A prefix is not relocatable: it is built where it will live.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import cache
from cache import SetupError, Unavailable, say
from debian import PrivateApt

EXIT_UNAVAILABLE = 3


@dataclass(frozen=True)
class DebianSet:
    """Packages that make one foreign program run.

    ``variable`` tells our code and tests where ``target`` is, a path inside the prefix. ``proof``
    is a command of the prefix that must run and prints a version. ``libraries`` are directories
    beyond the usual ones; ``drop`` matches libraries of the closure that the program can spare.
    ``script`` is written to ``target``, with the prefix in place of PREFIX.
    """

    suite: str
    packages: tuple[str, ...]
    variable: str
    proof: tuple[str, ...]
    target: str = ""
    libraries: tuple[str, ...] = ()
    drop: str = "$^"
    script: str = ""


# Libraries for maintainer scripts, for helper scripts in other languages, or for the base system.
DROP = re.compile(
    r"lib(apt|c-bin|debconf|js-|pam-(modules|runtime)|perl|python3(?!\.)|semanage|sepol)|lib.*-perl$"
)

HTCONDOR_DROP = (
    r"lib(acl|attr|audit|blkid|boost-python|bsd|bz2|cap-ng|crypt1|db5|gdbm|lz4|lzma|md0|mount|ncurses"
    r"|pam|pcre2-(16|32|posix)|python|readline|seccomp|selinux|smartcols|systemd|tinfo|xxhash)"
)

# It compiles and links one file to a program of the host: `cc -o program program.c`.
COMPILER = """\
#!/bin/sh
lib=$(echo PREFIX/usr/lib/*-linux-gnu) include=PREFIX/usr/include
exec PREFIX/usr/bin/tcc -B$lib/tcc -nostdlib -nostdinc \\
    -I$lib/tcc/include -I$include/${lib##*/} -I$include \\
    $lib/crt1.o $lib/crti.o "$@" $lib/tcc/libtcc1.a PREFIX/lib/${lib##*/}/libc.so.6 $lib/crtn.o
"""

SETS = {
    "htcondor": DebianSet(
        suite="trixie",
        packages=("condor",),
        variable="GLIDEBRIDGE_HTCONDOR",
        proof=("usr/bin/condor_version",),
        libraries=("usr/lib/condor",),
        drop=HTCONDOR_DROP,
    ),
    # A moving suite: the version changes; a stale mirror or a broken dependency is not our fault.
    "htcondor-next": DebianSet(
        suite="sid",
        packages=("condor",),
        variable="GLIDEBRIDGE_HTCONDOR_NEXT",
        proof=("usr/bin/condor_version",),
        libraries=("usr/lib/condor",),
        drop=HTCONDOR_DROP,
    ),
    # The oldest Python that a node may have.
    "python39": DebianSet(
        suite="bullseye",
        packages=(
            "python3.9",
            "python3.9-minimal",
            "libpython3.9-stdlib",
            "libpython3.9-minimal",
        ),
        variable="GLIDEBRIDGE_PYTHON39",
        proof=("usr/bin/python3.9", "--version"),
        target="usr/bin/python3.9",
    ),
    "postgresql": DebianSet(
        suite="bookworm",
        packages=("postgresql-15", "postgresql-client-15"),
        variable="GLIDEBRIDGE_POSTGRESQL",
        proof=("usr/lib/postgresql/15/bin/postgres", "--version"),
        target="usr/lib/postgresql/15/bin",
        drop="lib(llvm|z3)",  # its compiler of expressions; no query of ours is long enough
    ),
    "mariadb": DebianSet(
        suite="bookworm",
        packages=("mariadb-server-core", "mariadb-client-core", "mariadb-common"),
        variable="GLIDEBRIDGE_MARIADB",
        proof=("usr/sbin/mariadbd", "--version"),
        target="usr",
    ),
    # It shows in which order a server syncs and acknowledges.
    "strace": DebianSet(
        suite="bookworm",
        packages=("strace",),
        variable="GLIDEBRIDGE_STRACE",
        proof=("usr/bin/strace", "-V"),
        target="usr/bin/strace",
    ),
    # It polls our Ganglia source into round-robin databases, which rrdtool reads.
    "ganglia": DebianSet(
        suite="bookworm",
        packages=("gmetad", "rrdtool"),
        variable="GLIDEBRIDGE_GANGLIA",
        proof=("usr/sbin/gmetad", "--version"),
        target="usr",
    ),
    # It reads our access log.
    "webalizer": DebianSet(
        suite="bookworm",
        packages=("webalizer",),
        variable="GLIDEBRIDGE_WEBALIZER",
        proof=("usr/bin/wcmgr", "-V"),  # -V of webalizer itself ends with 1
        target="usr/bin/webalizer",
    ),
    # What users of grids have: ARC's client and its library for Python, Globus GRAM's, VOMS'.
    "grid-clients": DebianSet(
        suite="bookworm",
        packages=(
            "nordugrid-arc-client",
            "nordugrid-arc-plugins-needed",
            "nordugrid-arc-plugins-arcrest",
            "python3-nordugrid-arc",
            "python3.11-minimal",
            "libpython3.11-minimal",
            "libpython3.11-stdlib",
            "globus-gram-client-tools",
            "globus-proxy-utils",
            "voms-clients",
        ),
        variable="GLIDEBRIDGE_GRID_CLIENTS",
        proof=("usr/bin/arcsub", "--version"),
        target="usr",
    ),
    # For the loops in C that benchmarks hold us against.
    "compiler": DebianSet(
        suite="bookworm",
        packages=("tcc", "libc6-dev", "linux-libc-dev"),
        variable="GLIDEBRIDGE_CC",
        proof=("usr/bin/tcc", "-v"),
        target="cc",
        drop="lib(com-err|crypt|gssapi|k5|key|krb|nsl|ssl|tirpc|gcc)",
        script=COMPILER,
    ),
}

JUNK = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/lib/*/gconv")


def ensure(name: str, patchelf: Path) -> Path:
    """What the variable of set ``name`` should point at, built if it is not there yet.

    Raises Unavailable if the packages cannot be had.
    """
    wanted = SETS[name]
    prefix = cache.directory() / name
    if not _is_built(prefix):
        with cache.locked(prefix):
            if not _is_built(prefix):
                _build(name, wanted, prefix, patchelf)
    return prefix / wanted.target


def _is_built(prefix: Path) -> bool:
    stamp = prefix / ".done"
    return stamp.exists() and stamp.read_text() == _fingerprint()


def _fingerprint() -> str:
    """Changes with the table and with the way in which prefixes are built."""
    return sha256(Path(__file__).read_bytes()).hexdigest()


def _build(name: str, wanted: DebianSet, prefix: Path, patchelf: Path) -> None:
    started = time.monotonic()
    say(f"{name}: fetching {' '.join(wanted.packages[:1])} of Debian {wanted.suite}")
    unfinished = prefix.with_suffix(".part")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    try:
        size = _unpack(wanted, unfinished)
        for pattern in JUNK:
            for junk in unfinished.glob(pattern):
                shutil.rmtree(junk)
        _patch(unfinished, prefix, wanted, patchelf)
        if wanted.script:
            script = unfinished / wanted.target
            script.write_text(wanted.script.replace("PREFIX", str(prefix)))
            script.chmod(0o755)
        shutil.rmtree(prefix, ignore_errors=True)
        unfinished.rename(prefix)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    version = _prove(prefix, wanted)
    (prefix / ".done").write_text(_fingerprint())
    seconds = time.monotonic() - started
    say(f"{name}: {version.splitlines()[0].strip()}, {size / 1e6:.0f} MB in {seconds:.1f} s")


def _unpack(wanted: DebianSet, into: Path) -> int:
    drop = re.compile(wanted.drop)

    def is_needed(package: str) -> bool:
        if package in wanted.packages or package == "zlib1g":
            return True
        return package.startswith("lib") and not (DROP.match(package) or drop.match(package))

    with tempfile.TemporaryDirectory(prefix="apt-", dir=into.parent) as state:
        apt = PrivateApt(Path(state), wanted.suite)
        apt.update()
        return apt.unpack(list(filter(is_needed, apt.closure(wanted.packages))), into)


def _patch(tree: Path, prefix: Path, wanted: DebianSet, patchelf: Path) -> None:
    """Make the programs in ``tree``, which will be moved to ``prefix``, use the prefix's libraries.

    It gives them a DT_RPATH. That also serves what libraries and dlopen ask for, which a RUNPATH
    does not, and it does not leak into jobs, as LD_LIBRARY_PATH would.
    """
    usual = [*sorted(tree.glob("usr/lib/*-linux-gnu")), *sorted(tree.glob("lib/*-linux-gnu"))]
    inside = [*(str(path.relative_to(tree)) for path in usual), "usr/lib", *wanted.libraries]
    rpath = ["--force-rpath", "--set-rpath", ":".join(str(prefix / path) for path in inside)]
    for path in sorted(tree.glob("**/*")):
        if path.is_symlink() or not path.is_file():
            continue
        # everyone can read this directory: nothing in it may be set-uid
        path.chmod(path.stat().st_mode & 0o777)
        if not _is_elf(path):
            continue
        if ".so" in path.name:
            # A library's own RUNPATH would switch the program's RPATH off for what it needs.
            if _ask(patchelf, "--print-rpath", path):
                subprocess.run([patchelf, "--remove-rpath", path], check=True)
        elif os.access(path, os.X_OK) and (asked := _ask(patchelf, "--print-interpreter", path)):
            # Found by name: the path that programs carry is an absolute link in older suites.
            name = Path(asked).name
            loader = next(part for part in inside if (tree / part / name).is_file())
            interpreter = ["--set-interpreter", str(prefix / loader / name)]
            subprocess.run([patchelf, *interpreter, *rpath, path], check=True)


def _is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def _ask(patchelf: Path, question: str, path: Path) -> str:
    """What patchelf knows; nothing if the file has no such part (a static program, a plugin)."""
    done = subprocess.run([patchelf, question, path], capture_output=True, text=True)
    return done.stdout.strip()


def _prove(prefix: Path, wanted: DebianSet) -> str:
    program, *arguments = wanted.proof
    done = subprocess.run(
        [prefix / program, *arguments],
        env={"PATH": os.defpath, "CONDOR_CONFIG": "/dev/null"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SetupError(f"{prefix / program} does not run on this host: {done.stderr.strip()}")
    return done.stdout


def main(names: list[str]) -> int:
    from bootstrap import ensure as environment

    patchelf = environment(Path(__file__).resolve().parent.parent) / "bin/patchelf"
    try:
        for name in names:
            print(f"{SETS[name].variable}={ensure(name, patchelf)}")
    except Unavailable as reason:
        say(f"{name}: cannot be had here: {reason}")
        return EXIT_UNAVAILABLE
    return 0


if __name__ == "__main__":
    if not sys.argv[1:] or not SETS.keys() >= set(sys.argv[1:]):
        sys.exit(f"usage: prefix.py NAME...; names are {', '.join(SETS)}")
    os.umask(0o022)
    try:
        sys.exit(main(sys.argv[1:]))
    except SetupError as error:
        sys.exit(f"set-up: {error}")
