"""ARC's door and who one is: hosts' certificates, proxies, tokens, delegations."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from desktopgrid.credentials.subjects import certificates_in, text_of
from desktopgrid.server.certificates import Trust, verify
from pilot.ce.arc import ArcCE
from pilot.ce.arc_rest import Arex
from pilot.ce.base import (
    ComputingElementUnavailable,
    Credential,
    CredentialKind,
    JobDescription,
)
from pilot.ce.delegations import Delegations
from pilot.ce.fake_arex import FakeArex
from tests.builders import hours, seconds
from tests.grid_ca import (
    LIMITED,
    NOW,
    a_ca,
    a_crl,
    a_person,
    a_proxy,
    name,
    proxy_info,
    write_proxy,
)
from tests.grid_doors import a_door, a_proxy_of, client
from tests.grid_site import Grid, believe


def test_an_expired_host_certificate_is_told_as_that(grid: Grid, tmp_path: Path) -> None:
    host = grid.host(starts=NOW - timedelta(days=5), ends=NOW - timedelta(days=1))
    with FakeArex(tmp_path, host, grid.authorities, grid.people) as arex:
        with pytest.raises(ComputingElementUnavailable, match=r"its certificate.* has expired"):
            a_door(arex, grid).find(["a"])
        assert len(arex.questions) == 0


def test_a_ca_that_is_not_ours_is_told_as_that(grid: Grid, tmp_path: Path) -> None:
    stranger = a_ca(called=name("DC=org", "DC=other", "CN=Other CA"))
    host = grid.host(ca=stranger)
    with (
        FakeArex(tmp_path, host, grid.authorities, grid.people) as arex,
        pytest.raises(ComputingElementUnavailable, match=f"not in {grid.authorities}"),
    ):
        a_door(arex, grid).find(["a"])


def test_a_host_of_another_name_is_told_as_that(grid: Grid, tmp_path: Path) -> None:
    with (
        FakeArex(tmp_path, grid.host("ce.example.org"), grid.authorities, grid.people) as arex,
        pytest.raises(ComputingElementUnavailable, match="its certificate is not for localhost"),
    ):
        a_door(arex, grid).find(["a"])


def test_our_own_ca_that_the_site_does_not_know_is_told_as_that(grid: Grid, tmp_path: Path) -> None:
    other = a_grid_of_others(tmp_path / "others")
    believe(other.authorities, grid.ca)
    with FakeArex(tmp_path / "arex", grid.host(), grid.authorities, grid.people) as arex:
        door = ArcCE(Arex(arex.url, a_proxy_of(other), other.authorities), "site arc")
        with pytest.raises(ComputingElementUnavailable, match=r"does not (know|accept)|broke off"):
            door.find(["a"])


def a_grid_of_others(directory: Path) -> Grid:
    directory.mkdir()
    ca = a_ca(called=name("DC=org", "DC=other", "CN=Other CA"))
    other = Grid(directory, ca, a_person(ca))
    believe(other.authorities, ca)
    return other


def test_who_is_not_let_in_is_named(arex: FakeArex, grid: Grid) -> None:
    arex.people.clear()
    with pytest.raises(
        ComputingElementUnavailable, match=r"let in CN=Ann Example,OU=people.* \(403"
    ):
        a_door(arex, grid).find(["a"])


def test_a_token_lets_in_and_a_wrong_one_does_not(
    arex: FakeArex, grid: Grid, job: Callable[..., JobDescription], tmp_path: Path
) -> None:
    token = Credential(CredentialKind.TOKEN, tmp_path / "token")
    token.file.touch(0o600)
    token.file.write_text("good.token\n")
    door = a_door(arex, grid, token)
    (reference,) = door.submit([job()])
    assert set(door.statuses([reference])) == {reference}
    door.remove([reference])
    token.file.write_text("another.token\n")
    with pytest.raises(ComputingElementUnavailable, match=f"the token in {token.file}"):
        door.statuses([reference])
    for text, mode, words in (
        ("two words", 0o600, "holds no bearer token"),
        ("good.token", 0o640, "must be ours alone"),
    ):
        token.file.write_text(text)
        token.file.chmod(mode)
        with pytest.raises(ComputingElementUnavailable, match=words):
            door.statuses([reference])
    token.file.unlink()
    with pytest.raises(ComputingElementUnavailable, match="cannot be read"):
        door.statuses([reference])


def test_limited_proxies_and_proxies_of_proxies_are_good_here(
    arex: FakeArex, grid: Grid, tmp_path: Path
) -> None:
    first = a_proxy(grid.ann)
    limited = a_proxy(grid.ann, proxy_info(LIMITED))
    second = a_proxy(first)
    for number, chain in enumerate([(limited, grid.ann), (second, first, grid.ann)]):
        file = write_proxy(tmp_path / f"proxy{number}", *chain)
        door = a_door(arex, grid, Credential(CredentialKind.PROXY, file))
        assert door.find(["a"]) == {}


def test_a_proxy_that_ran_out_is_named_and_its_successor_taken(
    arex: FakeArex, grid: Grid, job: Callable[..., JobDescription], tmp_path: Path
) -> None:
    now = [NOW]
    proxy = write_proxy(tmp_path / "proxy", a_proxy(grid.ann, ends=NOW + hours(1)), grid.ann)
    rest = client(arex, grid, Credential(CredentialKind.PROXY, proxy), clock=lambda: now[0])
    door = ArcCE(rest, "site arc")
    (reference,) = door.submit([job()])
    now[0] = NOW + hours(2)
    with pytest.raises(ComputingElementUnavailable, match=f"the proxy in {proxy}.* expired at"):
        door.statuses([reference])
    write_proxy(tmp_path / "next", a_proxy(grid.ann, ends=NOW + hours(20)), grid.ann).rename(proxy)
    assert set(door.statuses([reference])) == {reference}
    door.remove([reference])


def test_a_proxy_that_cannot_be_used_is_named(arex: FakeArex, grid: Grid, tmp_path: Path) -> None:
    file = tmp_path / "proxy"
    door = a_door(arex, grid, Credential(CredentialKind.PROXY, file))
    with pytest.raises(ComputingElementUnavailable, match=f"{file} cannot be read"):
        door.find(["a"])
    file.touch(0o600)
    file.write_text("nonsense")
    with pytest.raises(ComputingElementUnavailable, match=f"{file} has no private key"):
        door.find(["a"])
    file.write_text(grid.proxy().read_text())
    file.chmod(0o644)
    with pytest.raises(ComputingElementUnavailable, match="must be yours alone"):
        door.find(["a"])


def test_a_directory_of_cas_has_them_by_their_hashed_names(
    arex: FakeArex, grid: Grid, tmp_path: Path
) -> None:
    (tmp_path / "ca.pem").write_text(grid.ca.pem)
    door = ArcCE(Arex(arex.url, a_proxy_of(grid), tmp_path), "site arc")
    with pytest.raises(
        ComputingElementUnavailable, match=f"{tmp_path} has none by its hashed name"
    ):
        door.find(["a"])
    door = ArcCE(Arex(arex.url, a_proxy_of(grid), tmp_path / "none"), "site arc")
    with pytest.raises(ComputingElementUnavailable, match="cannot be read"):
        door.find(["a"])


def test_a_host_that_cannot_be_reached_is_told_as_that(grid: Grid) -> None:
    for url, words in (
        ("https://localhost:1/arex", "localhost:1 cannot be reached: Connection refused"),
        ("https://no-such-host.invalid/arex", "the name no-such-host.invalid is not known"),
    ):
        door = ArcCE(Arex(url, a_proxy_of(grid), grid.authorities, seconds(5)), "site arc")
        with pytest.raises(ComputingElementUnavailable, match=words):
            door.find(["a"])


# Delegation


def delegating(
    arex: FakeArex, grid: Grid, place: Path, credential: Credential | None = None, **facts: object
) -> ArcCE:
    rest = client(arex, grid, credential, **facts)
    return ArcCE(rest, "site arc", delegations=Delegations(rest, place, rest.https.clock))


def proxies(arex: FakeArex) -> list[x509.Certificate]:
    return [certificates_in(proxy)[0] for _, proxy in arex.delegations.values()]


@pytest.mark.parametrize("versions", [["1.0"], ["1.1"]])
def test_jobs_get_one_delegated_proxy_that_is_good(
    arex: FakeArex,
    grid: Grid,
    job: Callable[..., JobDescription],
    tmp_path: Path,
    versions: list[str],
) -> None:
    arex.versions = versions
    delegating(arex, grid, tmp_path / "state").submit([job("0"), job("0")])
    delegating(arex, grid, tmp_path / "state").submit([job("0")])
    assert len(arex.delegations) == 1
    assert {each.delegation for each in arex.jobs.values()} == set(arex.delegations)
    ((_, proxy),) = arex.delegations.values()
    trust = Trust([grid.ca.certificate], [a_crl(grid.ca)])
    proved = verify(certificates_in(proxy), trust, datetime.now(UTC))
    assert proved.subject == text_of(grid.ann.certificate.subject)
    assert "PRIVATE KEY" not in proxy


def test_a_delegation_is_renewed_when_it_nears_its_end_and_our_proxy_lasts_longer(
    arex: FakeArex, grid: Grid, job: Callable[..., JobDescription], tmp_path: Path
) -> None:
    now = [NOW]
    file = write_proxy(tmp_path / "proxy", a_proxy(grid.ann, ends=NOW + hours(8)), grid.ann)
    credential = Credential(CredentialKind.PROXY, file)
    door = delegating(arex, grid, tmp_path / "state", credential=credential, clock=lambda: now[0])
    (reference,) = door.submit([job()])
    assert [each.not_valid_after_utc for each in proxies(arex)] == [NOW + hours(8)]
    now[0] = NOW + hours(3)
    door.statuses([reference])
    assert [each.not_valid_after_utc for each in proxies(arex)] == [NOW + hours(8)]
    write_proxy(tmp_path / "next", a_proxy(grid.ann, ends=NOW + hours(15)), grid.ann).rename(file)
    door.statuses([reference])
    assert [each.not_valid_after_utc for each in proxies(arex)] == [NOW + hours(15)]
    assert {each.delegation for each in arex.jobs.values()} == set(arex.delegations)
    door.remove([reference])


def test_a_delegation_that_the_site_lost_is_made_anew(
    arex: FakeArex, grid: Grid, job: Callable[..., JobDescription], tmp_path: Path
) -> None:
    now = [NOW]
    file = write_proxy(tmp_path / "proxy", a_proxy(grid.ann, ends=NOW + hours(8)), grid.ann)
    credential = Credential(CredentialKind.PROXY, file)
    door = delegating(arex, grid, tmp_path / "state", credential=credential, clock=lambda: now[0])
    door.submit([job("0")])
    arex.delegations.clear()
    now[0] = NOW + hours(7)
    write_proxy(tmp_path / "next", a_proxy(grid.ann, ends=NOW + hours(20)), grid.ann).rename(file)
    door.submit([job("0")])
    assert [each.not_valid_after_utc for each in proxies(arex)] == [NOW + hours(20)]


def test_a_token_is_delegated_where_the_interface_has_words_for_it(
    arex: FakeArex, grid: Grid, job: Callable[..., JobDescription], tmp_path: Path
) -> None:
    token = Credential(CredentialKind.TOKEN, tmp_path / "token")
    token.file.touch(0o600)
    token.file.write_text("good.token")
    with pytest.raises(
        ComputingElementUnavailable, match=r"cannot keep tokens for jobs \(REST 1.0"
    ):
        delegating(arex, grid, tmp_path / "state", credential=token).submit([job("0")])
    arex.versions = ["1.0", "1.1"]
    delegating(arex, grid, tmp_path / "state", credential=token).submit([job("0")])
    assert [kept for _, kept in arex.delegations.values()] == ["good.token"]


def test_a_proxy_from_which_none_may_be_made_is_told_as_that(
    arex: FakeArex, grid: Grid, job: Callable[..., JobDescription], tmp_path: Path
) -> None:
    proxy = write_proxy(tmp_path / "proxy", a_proxy(grid.ann, proxy_info(longest=0)), grid.ann)
    credential = Credential(CredentialKind.PROXY, proxy)
    with pytest.raises(ComputingElementUnavailable, match="no proxy may be made from"):
        delegating(arex, grid, tmp_path / "state", credential=credential).submit([job("0")])
