"""What VOMS says of a user: believed from who may speak for the VO, about this very user, now."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from desktopgrid.credentials.subjects import certificates_in
from desktopgrid.model.objects import Site
from desktopgrid.server import changes as c
from desktopgrid.server.certificates import Trust, shown
from desktopgrid.server.proved import Shown
from desktopgrid.server.trusted import VomsDirectory
from desktopgrid.server.voms import with_attributes
from desktopgrid.wire import messages as m
from tests.delegating import ANN, BOB, CA, TRUST, Delegating
from tests.grid_ca import NOW, Holder, a_ca, a_crl, a_person, a_proxy, name
from tests.voms import a_voms_proxy, an_ac, der, number, sequence, write_lsc

pytestmark = pytest.mark.feature("XW-PIL-3")

SERVER = a_person(CA, name("DC=org", "DC=grid", "O=hosts", "CN=voms.example.org"))
OTHER = a_person(CA, name("DC=org", "DC=grid", "O=hosts", "CN=other.example.org"))
NAMES = ("/DC=org/DC=grid/O=hosts/CN=voms.example.org", "/DC=org/DC=grid/CN=CA")
CRITICAL = sequence(bytes.fromhex("06032a0304"), der(1, b"\xff"), der(4, b"\x05\x00"))


@pytest.fixture
def vomsdir(tmp_path: Path) -> Path:
    write_lsc(tmp_path / "vomsdir", "testvo", "voms.example.org", *NAMES)
    return tmp_path / "vomsdir"


def said(vomsdir: Path | None, proxy: Holder, trust: Trust = TRUST, *others: Holder) -> Shown:
    """What the server makes of a proxy of Ann's."""
    chain = certificates_in("".join(each.pem for each in (proxy, *others, ANN)))
    found = shown(chain, TRUST, NOW)
    return with_attributes(found, VomsDirectory(vomsdir).read(), trust, NOW)


def test_what_the_vo_says_is_read_without_what_it_does_not_say(vomsdir: Path) -> None:
    found = said(vomsdir, a_voms_proxy(ANN, an_ac(ANN, SERVER)))
    assert (found.vo, found.attributes) == ("testvo", ("/testvo", "/testvo/Role=pilot"))
    assert found.attributes_end_at == NOW + timedelta(hours=12)
    assert not found.notes


def test_a_proxy_of_the_proxy_has_them_too(vomsdir: Path) -> None:
    first = a_voms_proxy(ANN, an_ac(ANN, SERVER))
    assert said(vomsdir, a_proxy(first), TRUST, first).vo == "testvo"


def test_the_holder_may_be_named_as_the_rfc_wants(vomsdir: Path) -> None:
    ac = an_ac(ANN, SERVER, holder_name=CA.certificate.subject)
    assert said(vomsdir, a_voms_proxy(ANN, ac)).vo == "testvo"


def test_a_proxy_without_them_has_none(vomsdir: Path) -> None:
    found = said(vomsdir, a_proxy(ANN))
    assert (found.vo, found.attributes, found.notes) == ("", (), ())


@pytest.mark.parametrize(
    "make, reason",
    [
        pytest.param(lambda: an_ac(ANN, OTHER), "may not speak for testvo", id="another server"),
        pytest.param(
            lambda: an_ac(ANN, OTHER, carried=SERVER),
            "is not who issued",
            id="other certificate",
        ),
        pytest.param(
            lambda: an_ac(ANN, SERVER, key=OTHER.key), "signature is wrong", id="another's key"
        ),
        pytest.param(lambda: an_ac(ANN, ANN), "may not speak", id="by the user himself"),
        pytest.param(
            lambda: an_ac(ANN, a_person(a_ca(), SERVER.certificate.subject)),
            "certificate",
            id="another CA of the same name",
        ),
        pytest.param(lambda: an_ac(BOB, SERVER), "to somebody else", id="another's"),
        pytest.param(
            lambda: an_ac(ANN, SERVER, serial=1),
            "given to somebody else",
            id="an older certificate",
        ),
        pytest.param(
            lambda: an_ac(ANN, SERVER, holder_name=BOB.certificate.subject),
            "given to somebody else",
            id="another name",
        ),
        pytest.param(lambda: an_ac(ANN, SERVER, ends=NOW), "are good from", id="run out"),
        pytest.param(
            lambda: an_ac(ANN, SERVER, starts=NOW + timedelta(minutes=1)),
            "are good from",
            id="not yet",
        ),
        pytest.param(
            lambda: an_ac(ANN, SERVER, changes=(b"Role=pilot", b"Role=admin")),
            "signature is wrong",
            id="changed on its way",
        ),
        pytest.param(
            lambda: an_ac(ANN, SERVER, more=CRITICAL),
            "conditions that we do not know",
            id="critical",
        ),
        pytest.param(
            lambda: an_ac(ANN, SERVER, "othervo", ["/othervo"]),
            "nobody may speak for othervo",
            id="VO",
        ),
        pytest.param(
            lambda: an_ac(ANN, SERVER, host="evil.example.org:1"), "nobody may speak", id="host"
        ),
        pytest.param(
            lambda: an_ac(ANN, SERVER, fqans=["/othervo/Role=pilot"]),
            "no attribute of",
            id="of another VO",
        ),
        pytest.param(
            lambda: an_ac(ANN, SERVER, fqans=["/testvo2"]), "no attribute of", id="a longer name"
        ),
        pytest.param(
            lambda: an_ac(ANN, SERVER, fqans=["/testvo\n/testvo/Role=x"]),
            "no attribute of",
            id="two lines",
        ),
        pytest.param(
            lambda: an_ac(ANN, SERVER, "../testvo", ["/../testvo"]), "no VO is named", id="a path"
        ),
        pytest.param(lambda: sequence(number(1)), "cannot be read", id="none at all"),
    ],
)
def test_what_cannot_be_believed_counts_for_nothing_and_a_note_says_why(
    vomsdir: Path, make: Callable[[], bytes], reason: str
) -> None:
    found = said(vomsdir, a_voms_proxy(ANN, make()))
    assert (found.vo, found.attributes) == ("", ())
    [note] = found.notes
    assert reason in note, note
    assert found.proved.subject, "she may still delegate"


def test_a_signer_that_its_ca_revokes_speaks_for_nobody(vomsdir: Path) -> None:
    trust = Trust([CA.certificate], [a_crl(CA, SERVER)])
    found = said(vomsdir, a_voms_proxy(ANN, an_ac(ANN, SERVER)), trust)
    assert not found.vo and "revoked" in found.notes[0]


def test_without_a_vomsdir_nobody_speaks_for_a_vo() -> None:
    found = said(None, a_voms_proxy(ANN, an_ac(ANN, SERVER)))
    assert not found.vo and "vomsdir has no testvo/voms.example.org.lsc" in found.notes[0]


@pytest.mark.parametrize("content", [b"", b"\x30\x00", b"\x30\x02\x30\x00", b"\xff" * 50])
def test_bytes_that_are_none_are_noted(vomsdir: Path, content: bytes) -> None:
    found = said(vomsdir, a_voms_proxy(ANN, content=content))
    assert not found.vo and "count for nothing" in found.notes[0]


def test_cut_anywhere_or_changed_it_is_not_believed(vomsdir: Path) -> None:
    ac = an_ac(ANN, SERVER)
    for place in range(0, len(ac), 7):
        changed = ac[:place] + bytes((ac[place] ^ 0x55,)) + ac[place + 1 :]
        for content in (sequence(sequence(changed)), sequence(sequence(ac[:place]))):
            assert not said(vomsdir, a_voms_proxy(ANN, content=content)).vo, place


def test_several_chains_may_speak(tmp_path: Path) -> None:
    """As sites have them while a VOMS server changes its CA."""
    vomsdir = tmp_path / "vomsdir"
    write_lsc(
        vomsdir,
        "testvo",
        "voms.example.org",
        "/CN=old",
        "/CN=old CA",
        "------ NEXT CHAIN ------",
        *NAMES,
    )
    assert said(vomsdir, a_voms_proxy(ANN, an_ac(ANN, SERVER))).vo == "testvo"


def test_a_file_that_cannot_be_understood_lets_nobody_speak(
    vomsdir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_lsc(vomsdir, "testvo", "voms.example.org", NAMES[0])
    assert not said(vomsdir, a_voms_proxy(ANN, an_ac(ANN, SERVER))).vo
    assert "voms.example.org.lsc counts for nothing: a chain has the name" in caplog.text


# --- what it is for -------------------------------------------------------------------------------


class WithVoms(Delegating):
    """A grid that believes a VO."""

    speakers: Any

    def give(self, chain: str, offer: str, login: str = "alice", **fields: Any) -> Any:
        """The server looks at the attributes, too."""
        found = shown(certificates_in(chain), TRUST, self.now)
        self.shown = with_attributes(found, self.speakers, TRUST, self.now)
        said = m.Delegate("voms", "bridge", chain, offer=offer, **fields)
        return self.ask(said, login)


def a_grid(vomsdir: Path, **rules: Any) -> WithVoms:
    """One whose site has these rules."""
    grid = WithVoms(Site("egi", "arc", **{"submits_as": "user", **rules}))
    grid.speakers = VomsDirectory(vomsdir).read()
    return grid


PILOT = a_voms_proxy(ANN, an_ac(ANN, SERVER))
MEMBER = a_voms_proxy(ANN, an_ac(ANN, SERVER, fqans=["/testvo"]))


@pytest.mark.parametrize(
    "rules, proxy, reason",
    [
        ({"vo": "testvo"}, PILOT, ""),
        ({"vo": "testvo"}, a_proxy(ANN), "VO testvo only, and this one shows no VO"),
        ({"vo": "biomed"}, PILOT, "the credential of this one is of testvo"),
        ({"voms": ("/testvo/Role=pilot",)}, PILOT, ""),
        ({"voms": ("/biomed", "/testvo/Role=pilot")}, PILOT, ""),
        ({"voms": ("/testvo/Role=pilot",)}, MEMBER, "wants the VOMS attribute /testvo/Role=pilot"),
    ],
)
def test_a_site_may_want_a_vo_or_an_attribute(
    vomsdir: Path, tmp_path: Path, rules: dict[str, Any], proxy: Holder, reason: str
) -> None:
    grid = a_grid(vomsdir, **rules)
    uid = grid.delegate(tmp_path, proxy, ANN)
    [work] = grid.submit(delegation=uid)
    if not reason:
        grid.starts(grid.pilot(uid))
        assert grid.status(work) == "PENDING"
        return
    with pytest.raises(Exception, match=reason):
        grid.pilot(uid)


def test_when_the_vos_word_runs_out_the_site_takes_no_more_works(
    vomsdir: Path, tmp_path: Path
) -> None:
    proxy = a_voms_proxy(ANN, an_ac(ANN, SERVER, ends=NOW + timedelta(hours=1)))
    grid = a_grid(vomsdir, voms=("/testvo/Role=pilot",))
    uid = grid.delegate(tmp_path, proxy, ANN)
    grid.submit(delegation=uid)
    grid.starts(grid.pilot(uid))
    grid.after(timedelta(hours=1))
    [late] = grid.submit(delegation=uid)
    assert grid.status(late) == "WAITING"


def test_the_vo_of_a_work_is_on_record(vomsdir: Path, tmp_path: Path) -> None:
    grid = a_grid(vomsdir)
    uid = grid.delegate(tmp_path, PILOT, ANN)
    grid.submit(delegation=uid)
    [row] = grid.changes(c.SubmissionInserted)
    assert (row.vo, row.delegation) == ("testvo", uid)
    [listed] = grid.ask(m.ListObjects("delegations"))["rows"]
    assert (listed["vo"], listed["attributes"]) == ("testvo", "/testvo /testvo/Role=pilot")
