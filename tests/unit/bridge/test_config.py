"""The bridge's configuration: what is wrong is named with its line."""

from __future__ import annotations

import re
from dataclasses import fields
from datetime import timedelta
from pathlib import Path

import pytest

from bridge.config import BatchRoute, BridgeConfig, CondorRoute, GridRoute, JobsRoute, read
from bridge.gateway import NEVER, start_expression
from desktopgrid.model.errors import BadRequest, ConfigurationError

CONF = Path(__file__).resolve().parents[3] / "conf"
GRID = "[grid desktop]\nidentity = me.json\n"
ROUTE = "[route r]\nkind = condor\nfrom = pool\nto = desktop\npool = collector\n"


def config(directory: Path, text: str) -> BridgeConfig:
    """What ``text`` configures."""
    path = directory / "bridge.conf"
    path.write_text(text)
    return read(path)


def test_a_route_is_read_and_paths_begin_at_the_file(tmp_path: Path) -> None:
    found = config(tmp_path, GRID + ROUTE + "token = secrets/token\nslots = 7\n")
    route = found.routes["r"]
    assert isinstance(route, CondorRoute)
    assert (route.from_, route.to, route.slots) == ("pool", "desktop", 7)
    assert route.token == tmp_path / "secrets/token"
    assert found.grids["desktop"].identity == tmp_path / "me.json"
    assert found.bridge.keep == timedelta(days=1)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[bridge]\nkepe = 1 d\n", r"bridge.conf:2: \[bridge\] unknown key 'kepe', perhaps keep"),
        ("[bridge]\nkeep = 1 s\n", "keep must be at least a minute"),
        ("[routes r]\n", r"unknown section \[routes r\]"),
        ("[grid]\nidentity = x\n", r"\[grid\] is written \[grid NAME\]"),
        ("[grid a b]\nidentity = x\n", "a name of other than"),
        ("[grid a]\n", r"\[grid a\] needs an identity, or identities"),
        (
            GRID + "[route r]\nfrom = pool\n",
            "lacks the key 'kind'; it is one of condor, batch, grid, jobs, pilots",
        ),
        (GRID + "[route r]\nkind = teleport\n", "bridge.conf:4: .*not 'teleport'"),
        (GRID + "[route r]\nkind = condor\nto = desktop\n", "lacks the key 'from'"),
        (GRID + ROUTE.replace("pool = collector\n", ""), "needs a pool"),
        (GRID + ROUTE + "slots = many\n", "slots must be a whole number"),
        (GRID + ROUTE + "frmo = x\n", r"\[route r\] unknown key 'frmo'.*, from, "),
        (GRID + ROUTE.replace("= desktop", "= desk"), r"to must be a \[grid\] of this file"),
        (GRID + ROUTE.replace("= pool\n", "= p o\n", 1), "from must be the name of a place"),
        (GRID + ROUTE + ROUTE, r"section \[route r\] stands on line 3 already"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        config(tmp_path, text)


@pytest.mark.parametrize(
    ("from_", "sentence"),
    [
        ("desktop", "leads from desktop to desktop: what it takes would come back"),
        ("other", r"from is 'other', which is a \[grid\]"),
    ],
)
def test_a_route_that_would_take_what_it_brings_is_refused(
    tmp_path: Path, from_: str, sentence: str
) -> None:
    text = (
        GRID + "[grid other]\nidentity = me.json\n" + ROUTE.replace("= pool\n", f"= {from_}\n", 1)
    )
    with pytest.raises(ConfigurationError, match=sentence):
        config(tmp_path, text)


@pytest.mark.feature("XW-PIL-10")
def test_the_sample_holds_every_key_at_its_default(tmp_path: Path) -> None:
    text = (CONF / "bridge.conf").read_text()
    assert (CONF.parent / "bridge/samples/bridge.conf").read_text() == text
    plain = config(tmp_path, text)
    assert isinstance(plain.routes["condor"], CondorRoute)
    whole = config(tmp_path, re.sub(r"^# ([a-z_]+ =|\[)", r"\1", text, flags=re.M))
    assert isinstance(whole.routes["router"], BatchRoute)
    assert isinstance(whole.routes["federation"], GridRoute)
    assert isinstance(whole.routes["plain"], JobsRoute)
    for name in ("condor", "router", "federation", "plain", "out"):
        kind = type(whole.routes[name])
        section = re.split(r"^# \[|^\[", text, flags=re.M)
        (own,) = [each for each in section if each.startswith(f"route {name}]")]
        said = set(re.findall(r"^#? ?([a-z_]+) =", own, re.M))
        assert said == {each.name.rstrip("_") for each in fields(kind)} - {"name"}
    keyless = {"token", "settings"}
    for name in {each.name for each in fields(CondorRoute)} - keyless - {"name"}:
        assert getattr(whole.routes["condor"], name) == getattr(plain.routes["condor"], name), name
    assert whole.bridge == plain.bridge


def a_route(tmp_path: Path, jobs: str) -> CondorRoute:
    route = config(tmp_path, f"{GRID}{ROUTE}jobs = {jobs}\n").routes["r"]
    assert isinstance(route, CondorRoute)
    return route


def test_whatever_a_route_says_no_code_of_users_runs_at_the_gateway(tmp_path: Path) -> None:
    start = start_expression(a_route(tmp_path, 'Owner == "ann" || true'))
    assert start == f'{" && ".join(NEVER)} && (Owner == "ann" || true)'
    for attribute in ("PreCmd", "TransferPlugins", "GlidebridgeStamp"):
        assert f"TARGET.{attribute} =?= undefined" in start


@pytest.mark.parametrize("jobs", ["true) || (true", "Owner ==", "x = 1; y", '"'])
def test_a_route_expression_is_one_expression(tmp_path: Path, jobs: str) -> None:
    with pytest.raises(BadRequest, match=r"\[route r\] jobs: "):
        start_expression(a_route(tmp_path, jobs))
