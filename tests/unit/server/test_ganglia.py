"""The grid as Ganglia's gmetad reads it, whatever machines are called."""

from __future__ import annotations

import re
from typing import Any
from xml.etree.ElementTree import Element

import pytest
from defusedxml.ElementTree import fromstring

from desktopgrid.server.counting import Look, look
from desktopgrid.server.ganglia import document, plain
from desktopgrid.wire import messages as m
from tests.builders import NOON, GridUnderTest, replace, seconds


def hosts(seen: Look | None, server: str = "server") -> dict[str, Element]:
    """The hosts of the cluster by name."""
    root = fromstring(document(server, seen, 60.0, NOON, NOON))
    assert [cluster.get("NAME") for cluster in root] == ["XWHEP"]
    found = root[0].findall("HOST")
    assert len({host.get("NAME") for host in found}) == len(found)
    return {str(host.get("NAME")): host for host in found}


def values(host: Element) -> dict[str, Any]:
    return {str(metric.get("NAME")): metric.get("VAL") for metric in host}


def test_a_machine_has_what_its_worker_said():
    grid = GridUnderTest()
    state = grid.arrives("desk1")
    grid.says(state, m.Alive(0.25, 512))
    grid.submit(1)
    found = values(hosts(look(grid.grid, grid.now))["desk1"])
    assert (found["cpu_num"], found["load_one"], found["disk_free"]) == ("2", "0.250", "0.500")
    assert (found["tasks"], found["cores_given"], found["os_name"]) == ("1", "1", "linux")


def test_the_server_has_the_works_by_status_and_a_rate_of_those_that_ended():
    grid = GridUnderTest()
    grid.submit(3)
    server = hosts(look(grid.grid, grid.now))["server"]
    found = values(server)
    assert (found["works_waiting"], found["works_running"], found["hosts"]) == ("3", "0", "0")
    slopes = {metric.get("NAME"): metric.get("SLOPE") for metric in server}
    assert (slopes["works_completed"], slopes["works_waiting"]) == ("positive", "both")
    assert slopes["tasks_lost"] == "positive"


def test_workers_of_one_machine_are_one_host():
    grid = GridUnderTest()
    for uid in ("pilot1", "pilot2"):
        state = grid.arrives(uid)
        grid.says(state, m.Alive(1.0, 1024))
        state.host = replace(state.host, facts=replace(state.host.facts, name="Server"))
    grid.submit(3)
    (found,) = hosts(look(grid.grid, grid.now)).values()
    assert (values(found)["cpu_num"], values(found)["tasks"]) == ("4", "3")
    assert "works_pending" in values(found)


def test_a_machine_says_for_how_long_it_was_silent():
    grid = GridUnderTest()
    grid.arrives("desk1")
    host = hosts(look(grid.grid, grid.now + seconds(50)))["desk1"]
    assert (host.get("TN"), host.get("TMAX")) == ("50", "60")


def test_a_grid_that_cannot_be_seen_is_an_empty_cluster():
    assert hosts(None) == {}


@pytest.mark.parametrize(
    "name", ["../../etc", "a/b", "..", "", "x" * 300, 'a" NAME="b', "<HOST>", "Zoë", "a\nb", "A B"]
)
def test_no_name_leaves_the_directory_of_its_cluster_or_breaks_the_xml(name):
    assert re.fullmatch(r"[a-z0-9_-][a-z0-9._-]{0,99}", plain(name))
    grid = GridUnderTest()
    state = grid.arrives("desk1")
    facts = replace(state.host.facts, name=name, address=name, os=name)
    state.host = replace(state.host, facts=facts)
    assert set(hosts(look(grid.grid, grid.now))) == {plain(name), "server"}
