"""The certificates of one box: a CA, its host, its users with proxies of every kind.

    certificates.py DIRECTORY

Each box has its own, and they end with it. VOMS attributes come later, from a tool in the box.
The virtual environment's Python runs this, with the checkout on PYTHONPATH.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import timedelta
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import crypto

from tests.grid_ca import LIMITED, NOW, Holder, a_ca, a_crl, a_person, a_proxy, name, proxy_info

GRID = ("DC=org", "DC=testgrid")
CA, HOST = (*GRID, "CN=Test Grid CA"), (*GRID, "O=hosts", "CN=localhost")
LONG, SHORT = NOW + timedelta(days=30), NOW + timedelta(hours=12)
VO = "testvo"

# The computing elements know the first two. The third is a member of the grid, nobody's user.
USERS = {"alice": "Alice Tester", "bob": "Bob Tester", "carol": "Carol Stranger"}

SIGNING_POLICY = """\
access_id_CA X509 '{ca}'
pos_rights globus CA:sign
cond_subjects globus '"{subjects}/*"'
"""


def make(directory: Path) -> None:
    """Write everything below ``directory``."""
    ca = authority(name(*CA))
    put(directory, {"ca.pem": ca.pem, "ca.key": traditional(ca)})
    trusted = directory / "certificates"
    trusted.mkdir()
    digest = f"{crypto.X509.from_cryptography(ca.certificate).subject_name_hash():08x}"
    crl = a_crl(ca).public_bytes(serialization.Encoding.PEM).decode()
    policy = SIGNING_POLICY.format(ca=slashes(CA), subjects=slashes(GRID))
    put(trusted, {f"{digest}.0": ca.pem, f"{digest}.r0": crl, f"{digest}.signing_policy": policy})

    names = x509.SubjectAlternativeName(
        [x509.DNSName("localhost"), x509.IPAddress(IPv4Address("127.0.0.1"))]
    )
    both = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH])
    host = member(ca, name(*HOST), (names, False), (both, False))
    put(directory, {"host.pem": host.pem, "host.key": traditional(host)})

    lsc = directory / "vomsdir" / VO / "localhost.lsc"
    lsc.parent.mkdir(parents=True)
    lsc.write_text(f"{slashes(HOST)}\n{slashes(CA)}\n")
    for public in (trusted, directory / "vomsdir"):
        public.chmod(0o755)
        for path in public.glob("**/*"):
            path.chmod(0o755 if path.is_dir() else 0o644)

    for user, called in USERS.items():
        make_user(directory / user, member(ca, name(*GRID, "O=people", f"CN={called}")))
    # Of a CA that the computing elements have never heard of.
    foreign = authority(name("DC=org", "DC=elsewhere", "CN=Another CA"))
    make_user(directory / "mallory", member(foreign, name("DC=org", "DC=elsewhere", "CN=Mallory")))


def authority(called: x509.Name) -> Holder:
    """A CA. VOMS' tools ask for the names of keys, in CAs and in all others."""
    own = key()
    named = x509.SubjectKeyIdentifier.from_public_key(own.public_key())
    return a_ca(called=called, key=own, ends=LONG, extra=[(named, False)])


def member(ca: Holder, called: x509.Name, *extra: tuple[x509.ExtensionType, bool]) -> Holder:
    """A host or a person that ``ca`` certifies."""
    own = key()
    named = x509.SubjectKeyIdentifier.from_public_key(own.public_key())
    signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key())
    names: list[tuple[x509.ExtensionType, bool]] = [(named, False), (signer, False)]
    return a_person(ca, called, key=own, ends=LONG, extra=[*names, *extra])


def make_user(home: Path, person: Holder) -> None:
    """What one user has: a certificate and its key, and proxies good and bad."""
    home.mkdir()
    proxy = a_proxy(person, key=key(), ends=SHORT)
    second = a_proxy(proxy, key=key(), ends=SHORT)
    limited = a_proxy(person, proxy_info(LIMITED), key=key(), ends=SHORT)
    expired = a_proxy(person, key=key(), ends=NOW - timedelta(hours=1))
    put(
        home,
        {
            "cert.pem": person.pem,
            "key.pem": traditional(person),
            "proxy.pem": chain(proxy, person),
            "second.pem": chain(second, proxy, person),
            "limited.pem": chain(limited, person),
            "expired.pem": chain(expired, person),
        },
    )


def key() -> rsa.RSAPrivateKey:
    """A key that every tool of the field can read."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def traditional(holder: Holder) -> str:
    """The key of ``holder`` in the form which old tools want in a proxy's file."""
    pem: bytes = holder.key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    return pem.decode()


def chain(leaf: Holder, *others: Holder) -> str:
    """A proxy's file: its certificate, its key, and what it was made from."""
    return leaf.pem + traditional(leaf) + "".join(other.pem for other in others)


def slashes(parts: tuple[str, ...]) -> str:
    """A name as grids write it."""
    return "".join(f"/{part}" for part in parts)


def put(directory: Path, texts: Mapping[str, str]) -> None:
    """Write files that are their owner's alone."""
    for called, text in texts.items():
        path = directory / called
        path.touch(mode=0o600)
        path.write_text(text)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
