"""Chains that prove who somebody is, and all the others, each with the reason why it does not."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from desktopgrid.credentials.subjects import certificates_in
from desktopgrid.model.errors import BadRequest, NotAuthenticated
from desktopgrid.model.rights import EVERYTHING, Scope
from desktopgrid.server import certificates
from desktopgrid.server.certificates import (
    ChainRefused,
    Proved,
    Trust,
    is_signed,
    serial_of,
    verify,
)
from tests.grid_ca import (
    INDEPENDENT,
    LIMITED,
    NOW,
    UNKNOWN,
    Holder,
    a_ca,
    a_crl,
    a_person,
    a_proxy,
    issue,
    name,
    new_key,
    proxy_info,
    usage,
)

pytestmark = pytest.mark.feature("XW-SEC-6", "XW-LIM-1")

CA = a_ca()
CRL = a_crl(CA)
ANN = a_person(CA)
PROXY = a_proxy(ANN)
SUBJECT = "CN=Ann Example,OU=people,DC=grid,DC=org"
HOUR = timedelta(hours=1)
SHORT = rsa.generate_private_key(65537, 1024)  # noqa: S505 - it is to be refused


def trust(*authorities: Holder, lists: Sequence[x509.CertificateRevocationList] = (CRL,)) -> Trust:
    """What a site believes."""
    return Trust([each.certificate for each in authorities or (CA,)], lists)


def proved(*chain: Holder, by: Trust | None = None) -> Proved:
    """What a chain proves at noon."""
    return verify([each.certificate for each in chain], by or trust(), NOW)


def serial(holder: Holder) -> str:
    """What a list of revoked certificates calls it."""
    return serial_of(holder.certificate.issuer, holder.certificate.serial_number)


# --- good ones -----------------------------------------------------------------------------------


def below() -> tuple[Holder, Holder, list[x509.CertificateRevocationList]]:
    """A CA below the root, somebody whom it has certified, and the lists of both CAs."""
    middle = a_ca(CA, name("DC=org", "DC=grid", "CN=Middle"), longest=0)
    return middle, a_person(middle), [CRL, a_crl(middle)]


@pytest.mark.parametrize(
    "chain, scope",
    [
        pytest.param([ANN], EVERYTHING, id="a person"),
        pytest.param([PROXY, ANN], EVERYTHING, id="a proxy"),
        pytest.param([a_proxy(PROXY), PROXY, ANN], EVERYTHING, id="a proxy of a proxy"),
        pytest.param([a_proxy(PROXY), ANN, PROXY], EVERYTHING, id="in any order behind the first"),
        pytest.param([a_proxy(ANN, proxy_info(longest=0)), ANN], EVERYTHING, id="path length"),
        pytest.param([a_proxy(ANN, proxy_info(LIMITED)), ANN], Scope.READ, id="a limited proxy"),
        pytest.param(
            [a_proxy(limited := a_proxy(ANN, proxy_info(LIMITED))), limited, ANN],
            Scope.READ,
            id="a proxy of a limited proxy stays limited",
        ),
        pytest.param([ANN, CA], EVERYTHING, id="the CA comes along"),
        pytest.param(
            [a_person(CA, key=ed25519.Ed25519PrivateKey.generate())], EVERYTHING, id="Ed25519"
        ),
        pytest.param(
            [a_person(CA, key=rsa.generate_private_key(65537, 2048))], EVERYTHING, id="RSA"
        ),
    ],
)
def test_a_good_chain_says_who_until_when_and_for_what(chain: list[Holder], scope: Scope) -> None:
    found = proved(*chain)
    assert (found.subject, found.scope) == (SUBJECT, scope)
    assert found.ends_at == min(each.certificate.not_valid_after_utc for each in chain)
    person = next(each for each in chain if each.certificate.subject == ANN.certificate.subject)
    assert found.serials == (serial(person),)


def test_a_ca_below_another_comes_with_the_chain_or_lies_in_the_directory() -> None:
    middle, bob, lists = below()
    known = trust(CA, middle, lists=lists)
    for chain, by in (([bob, middle], trust(lists=lists)), ([bob], known)):
        found = proved(*chain, by=by)
        assert found.serials == (serial(bob), serial(middle))


def test_it_is_the_time_that_is_said_which_counts() -> None:
    for later in (timedelta(days=2), timedelta(days=-2)):
        with pytest.raises(ChainRefused, match=r"expired|not yet valid"):
            verify([ANN.certificate], trust(), NOW + later)


def test_a_chain_ends_with_the_first_of_its_certificates() -> None:
    short = a_proxy(ANN, ends=NOW + HOUR)
    assert proved(a_proxy(short), short, ANN).ends_at == NOW + HOUR


# --- bad ones ------------------------------------------------------------------------------------

Chain = list[Holder]
BAD: dict[str, tuple[Callable[[], Any], str]] = {}


def bad(reason: str) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """Makes a chain, perhaps with what is believed, one of those that must be refused."""

    def add(make: Callable[[], Any]) -> Callable[[], Any]:
        BAD[make.__name__] = (make, reason)
        return make

    return add


@bad("expired")
def a_person_whose_time_is_over() -> Chain:
    return [a_person(CA, ends=NOW - HOUR)]


@bad("not yet valid")
def a_person_whose_time_has_not_come() -> Chain:
    return [a_person(CA, starts=NOW + HOUR)]


@bad("expired")
def a_proxy_whose_time_is_over() -> Chain:
    return [a_proxy(ANN, ends=NOW - HOUR), ANN]


@bad("expired")
def a_proxy_of_a_person_whose_time_is_over() -> Chain:
    ann = a_person(CA, ends=NOW - HOUR)
    return [a_proxy(ann), ann]


@bad("expired")
def a_proxy_of_a_proxy_whose_time_is_over() -> Chain:
    old = a_proxy(ANN, ends=NOW - HOUR)
    return [a_proxy(old), old, ANN]


@bad("expired")
def a_ca_whose_time_is_over() -> Any:
    ca = a_ca(ends=NOW - HOUR)
    return [a_person(ca)], trust(ca, lists=[a_crl(ca)])


@bad("unable to get local issuer|signature failure|self.signed")
def a_ca_that_is_only_called_like_ours() -> Chain:
    return [a_person(a_ca())]


@bad("unable to get local issuer|self.signed")
def a_ca_of_ones_own_that_comes_along() -> Chain:
    mine = a_ca(called=name("CN=Mine"))
    return [a_person(mine), mine]


@bad("self.signed")
def who_certifies_himself() -> Chain:
    return [issue(ANN.certificate.subject, None, [(usage("digital_signature"), True)])]


@bad("a CA's, and no person's|certifies itself")
def a_ca_that_logs_in_itself() -> Chain:
    return [CA]


@bad("a CA's, and no person's")
def a_ca_below_that_logs_in_itself() -> Any:
    middle, _, lists = below()
    return [middle], trust(lists=lists)


@bad("invalid CA|no CA")
def a_person_who_certifies_another() -> Chain:
    return [a_person(ANN, name("DC=org", "DC=grid", "CN=Bob")), ANN]


@bad("invalid CA|no CA|usage")
def a_person_who_certifies_another_and_says_he_may_sign() -> Chain:
    eve = a_person(CA, bits=("digital_signature", "key_cert_sign"))
    return [a_person(eve, name("CN=Bob")), eve]


@bad("no CA|invalid CA")
def a_ca_that_does_not_say_it_is_one() -> Any:
    middle = a_ca(CA, name("CN=Middle"), constraints=False)
    return [a_person(middle), middle], trust(lists=[CRL, a_crl(middle)])


@bad("usage|no CA|invalid CA")
def a_ca_whose_key_is_not_for_certificates() -> Any:
    middle = a_ca(CA, name("CN=Middle"), bits=("crl_sign", "digital_signature"))
    return [a_person(middle), middle], trust(lists=[CRL, a_crl(middle)])


@bad("path length")
def a_ca_below_one_that_may_have_none_below() -> Any:
    middle, _, lists = below()
    third = a_ca(middle, name("CN=Third"))
    return [a_person(third), third, middle], trust(lists=[*lists, a_crl(third)])


@bad("permitted subtree|excluded subtree|name constraint")
def a_ca_that_certifies_names_that_are_not_its() -> Any:
    only = x509.NameConstraints([x509.DirectoryName(name("DC=org", "DC=other"))], None)
    middle = a_ca(CA, name("CN=Middle"), extra=[(only, True)])
    return [a_person(middle), middle], trust(lists=[CRL, a_crl(middle)])


@bad("signature")
def a_person_whose_certificate_was_changed() -> Chain:
    return [issue(ANN.certificate.subject, Holder(CA.certificate, new_key()), [])]


@bad("critical extension")
def a_person_with_a_demand_that_we_do_not_understand() -> Chain:
    strange = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    return [a_person(CA, extra=[(strange, True)])]


@bad("not made for clients")
def a_server() -> Chain:
    server = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    return [a_person(CA, extra=[(server, False)])]


@bad("not made for clients")
def a_proxy_that_is_for_servers() -> Chain:
    server = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    return [a_proxy(ANN, extra=[(server, False)]), ANN]


@bad("not made for signatures")
def a_person_whose_key_is_not_for_signatures() -> Chain:
    return [a_person(CA, bits=("key_encipherment",))]


@bad("not made for signatures|usage")
def a_proxy_of_a_person_whose_key_is_not_for_signatures() -> Chain:
    ann = a_person(CA, bits=("key_encipherment",))
    return [a_proxy(ann), ann]


@bad("too weak a key")
def a_short_key() -> Chain:
    return [a_person(CA, key=SHORT)]


@bad("too weak a key")
def a_proxy_with_a_short_key() -> Chain:
    return [a_proxy(ANN, key=SHORT), ANN]


@bad("too weak a key")
def a_small_curve() -> Chain:
    return [a_person(CA, key=ec.generate_private_key(ec.SECP192R1()))]


@bad("without a subject")
def nobody() -> Chain:
    return [a_person(CA, x509.Name([]))]


# CRLs


@bad("CRL")
def a_ca_without_a_list() -> Any:
    return [ANN], trust(lists=[])


@bad("CRL has expired")
def a_list_that_is_too_old() -> Any:
    return [ANN], trust(lists=[a_crl(CA, ends=NOW - timedelta(minutes=1))])


@bad("CRL is not yet valid")
def a_list_of_the_future() -> Any:
    return [ANN], trust(lists=[a_crl(CA, starts=NOW + HOUR)])


@bad("CRL signature")
def a_list_that_another_made() -> Any:
    return [ANN], trust(lists=[a_crl(CA, key=new_key())])


@bad("revoked")
def a_person_who_was_revoked() -> Any:
    return [ANN], trust(lists=[a_crl(CA, ANN)])


@bad("revoked")
def a_proxy_of_a_person_who_was_revoked() -> Any:
    return [PROXY, ANN], trust(lists=[a_crl(CA, ANN)])


@bad("revoked")
def a_proxy_of_a_proxy_of_a_person_who_was_revoked() -> Any:
    return [a_proxy(PROXY), PROXY, ANN], trust(lists=[a_crl(CA, ANN)])


@bad("revoked")
def a_person_whose_ca_was_revoked() -> Any:
    middle, bob, _ = below()
    return [bob, middle], trust(lists=[a_crl(CA, middle), a_crl(middle)])


@bad("CRL")
def a_ca_below_without_a_list() -> Any:
    middle, bob, _ = below()
    return [bob, middle], trust()


@bad("CRL")
def a_ca_below_whose_own_list_alone_is_there() -> Any:
    middle, bob, _ = below()
    return [a_proxy(bob), bob, middle], trust(lists=[a_crl(middle)])


# Proxies


@bad("before RFC 3820")
def a_legacy_proxy() -> Chain:
    return [a_proxy(ANN, b"", added=[(NameOID.COMMON_NAME, "proxy")]), ANN]


@bad("before RFC 3820")
def a_limited_legacy_proxy() -> Chain:
    return [a_proxy(ANN, b"", added=[(NameOID.COMMON_NAME, "limited proxy")]), ANN]


@bad("before RFC 3820")
def a_proxy_of_the_draft() -> Chain:
    draft = x509.ObjectIdentifier("1.3.6.1.4.1.3536.1.222")
    return [a_proxy(ANN, oid=draft), ANN]


@bad("invalid CA|no CA")
def a_proxy_that_does_not_say_it_is_one() -> Chain:
    return [a_proxy(ANN, b""), ANN]


@bad("must be critical")
def a_proxy_that_may_be_taken_for_none() -> Chain:
    return [a_proxy(ANN, is_critical=False), ANN]


@bad("independent")
def an_independent_proxy() -> Chain:
    return [a_proxy(ANN, proxy_info(INDEPENDENT)), ANN]


@bad("independent")
def a_proxy_of_an_independent_proxy() -> Chain:
    free = a_proxy(ANN, proxy_info(INDEPENDENT))
    return [a_proxy(free), free, ANN]


@bad("language that we do not know")
def a_proxy_with_a_policy_of_its_own() -> Chain:
    return [a_proxy(ANN, proxy_info(UNKNOWN)), ANN]


@bad("more than we understand")
def a_proxy_whose_policy_has_a_text() -> Chain:
    return [a_proxy(ANN, proxy_info(rest=b"\x04\x02hi")), ANN]


@bad("ProxyCertInfo cannot be read")
def a_proxy_that_says_nonsense() -> Chain:
    return [a_proxy(ANN, b"\x30\x03\x02\x01"), ANN]


@bad("something follows ProxyCertInfo")
def a_proxy_that_says_too_much() -> Chain:
    return [a_proxy(ANN, proxy_info() + b"\x05\x00"), ANN]


@bad("subject name|called as its issuer")
def a_proxy_that_calls_itself_another() -> Chain:
    return [a_proxy(ANN, called=name("DC=org", "DC=grid", "CN=Bob", "CN=1")), ANN]


@bad("self.signed|called as its issuer")
def a_proxy_that_is_called_as_its_person() -> Chain:
    return [a_proxy(ANN, called=ANN.certificate.subject), ANN]


@bad("subject name|called as its issuer")
def a_proxy_with_two_more_names() -> Chain:
    two = [(NameOID.COMMON_NAME, "1"), (NameOID.COMMON_NAME, "2")]
    return [a_proxy(ANN, added=two), ANN]


@bad("subject name|called as its issuer")
def a_proxy_whose_last_name_is_no_cn() -> Chain:
    return [a_proxy(ANN, added=[(NameOID.ORGANIZATIONAL_UNIT_NAME, "1")]), ANN]


@bad("subject name|called as its issuer")
def a_proxy_whose_last_name_is_two_at_once() -> Chain:
    both = x509.RelativeDistinguishedName(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, "1"),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "2"),
        ]
    )
    return [a_proxy(ANN, called=x509.Name([*ANN.certificate.subject.rdns, both])), ANN]


@bad("path length|proxies below it")
def a_proxy_of_one_that_may_have_none() -> Chain:
    last = a_proxy(ANN, proxy_info(longest=0))
    return [a_proxy(last), last, ANN]


@bad("path length|proxies below it")
def one_proxy_too_many() -> Chain:
    first = a_proxy(ANN, proxy_info(longest=1))
    second = a_proxy(first, proxy_info(longest=9))
    return [a_proxy(second), second, first, ANN]


@bad("a proxy has no other name")
def a_proxy_with_another_name_beside() -> Chain:
    other = x509.SubjectAlternativeName([x509.RFC822Name("bob@example.org")])
    return [a_proxy(ANN, extra=[(other, False)]), ANN]


@bad("a proxy is no CA")
def a_proxy_that_is_a_ca() -> Chain:
    ca = x509.BasicConstraints(ca=True, path_length=None)
    return [a_proxy(ANN, extra=[(ca, True)]), ANN]


@bad("a proxy is no CA")
def a_proxy_that_may_sign_certificates() -> Chain:
    return [a_proxy(ANN, bits=("digital_signature", "key_cert_sign")), ANN]


@bad("not made for signatures")
def a_proxy_that_may_not_sign() -> Chain:
    return [a_proxy(ANN, bits=("key_encipherment",)), ANN]


@bad("signature")
def a_proxy_that_another_made() -> Chain:
    return [a_proxy(Holder(ANN.certificate, new_key())), ANN]


@bad("unable to get|issuer")
def a_proxy_without_its_person() -> Chain:
    return [PROXY]


@bad("unable to get|issuer")
def a_proxy_without_the_one_between() -> Chain:
    return [a_proxy(PROXY), ANN]


@bad("invalid CA|no CA|a proxy stands|proxy")
def a_person_whom_a_proxy_certified() -> Chain:
    bob = a_person(PROXY, name("DC=org", "DC=grid", "CN=Bob"))
    return [bob, PROXY, ANN]


@bad("invalid CA|no CA|a proxy stands|proxy")
def a_proxy_of_a_person_whom_a_proxy_certified() -> Chain:
    bob = a_person(PROXY, name("DC=org", "DC=grid", "CN=Bob"))
    return [a_proxy(bob), bob, PROXY, ANN]


@bad("proxy|no CA|invalid")
def a_proxy_of_a_ca() -> Chain:
    return [a_proxy(CA)]


@pytest.mark.parametrize("case", BAD)
def test_a_bad_chain_is_refused_with_the_reason(case: str) -> None:
    make, reason = BAD[case]
    made = make()
    chain, by = made if isinstance(made, tuple) else (made, None)
    with pytest.raises(ChainRefused, match=reason):
        proved(*chain, by=by)


def test_a_certificate_over_an_old_hash_is_refused() -> None:
    """No library signs so any more: the algorithm's name is changed in what one has signed."""
    own = a_person(CA, key=rsa.generate_private_key(65537, 2048))
    signed = a_person(own).certificate.public_bytes(serialization.Encoding.DER)
    sha256, sha1 = (bytes.fromhex(f"2a864886f70d0101{last}") for last in ("0b", "05"))
    old = x509.load_der_x509_certificate(signed.replace(sha256, sha1))
    with pytest.raises(ChainRefused, match="signed over sha1"):
        certificates.check_strength(old)


# --- revocation afterwards, and the proof of having the key --------------------------------------


def test_what_a_list_revokes_is_known_if_its_ca_signed_it() -> None:
    assert trust(lists=[a_crl(CA, ANN)]).revoked == {serial(ANN)}
    assert trust(lists=[a_crl(CA, ANN, key=new_key())]).revoked == frozenset()


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP384R1()),
        ed25519.Ed25519PrivateKey.generate(),
        rsa.generate_private_key(65537, 2048),
    ],
    ids=["curve", "Ed25519", "RSA"],
)
def test_a_signature_is_good_for_its_message_and_key_alone(key: Any) -> None:
    if isinstance(key, rsa.RSAPrivateKey):
        pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
        signature = key.sign(b"message", pss, hashes.SHA256())
        old = key.sign(b"message", padding.PKCS1v15(), hashes.SHA256())
        assert not is_signed(key.public_key(), old, b"message")
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        signature = key.sign(b"message", ec.ECDSA(hashes.SHA256()))
    else:
        signature = key.sign(b"message")
    assert is_signed(key.public_key(), signature, b"message")
    assert not is_signed(key.public_key(), signature, b"another")
    assert not is_signed(key.public_key(), bytes([signature[0] ^ 1]) + signature[1:], b"message")
    assert not is_signed(new_key().public_key(), signature, b"message")


@pytest.mark.filterwarnings("ignore")
def test_what_cannot_be_read_is_refused_whatever_is_wrong_with_it() -> None:
    """Anybody may send anything: no library's error leaves the door."""
    der = bytearray(ANN.certificate.public_bytes(serialization.Encoding.DER))
    choice = random.Random(7)  # noqa: S311 - no secret
    for _ in range(3_000):
        changed = der.copy()
        changed[choice.randrange(len(der))] = choice.randrange(256)
        lines = base64.encodebytes(changed).decode()
        with suppress(BadRequest, NotAuthenticated):
            chain = f"-----BEGIN CERTIFICATE-----\n{lines}-----END CERTIFICATE-----\n"
            sent = certificates_in(chain)
            is_signed(certificates.public_key(sent[0]), b"signature", b"message")
            verify(sent, trust(), NOW)
