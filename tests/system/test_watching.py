"""A grid that is watched: by programs that others wrote, on what a real server says of itself."""

from __future__ import annotations

import base64
import contextlib
import csv
import json
import re
import socket
import sqlite3
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus

from desktopgrid.client.grid import Grid
from desktopgrid.model.errors import AccessDenied, UnknownObject
from desktopgrid.model.objects import ANY_PLATFORM, Description, new_uid
from desktopgrid.wire import messages as m
from tests.system.bystander import SQUARE
from tests.system.processes import SERVER, Process, ServerUnderTest, a_grid, a_port, run, until
from tests.unit.server.test_access_log import CLF, records


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerUnderTest]:
    with a_grid(tmp_path) as server:
        yield server


def works_done(server: ServerUnderTest, count: int = 3) -> Grid:
    """A client, so many of whose works a worker has run."""
    grid = server.client()
    grid.send_application("square", SQUARE, ANY_PLATFORM)
    server.worker("desk")
    sweep = grid.sweep(Description("square"), [[str(n)] for n in range(count)])
    assert len(list(grid.wait(sweep.works, 60))) == count
    return grid


def get(
    server: ServerUnderTest, path: str, method: str = "GET", body: Any = None, **headers: str
) -> tuple[int, str]:
    """Status and body of an answer over HTTPS, from the machine that serves."""
    trust = ssl.create_default_context(cafile=str(server.home.ca_certificate))
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust)
    )
    content = json.dumps(body).encode() if body else None
    request = urllib.request.Request(  # noqa: S310
        server.address + path,
        content,
        {"Content-Type": "application/json", **headers},
        method=method,
    )
    try:
        with opener.open(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def spoken(server: ServerUnderTest, said: bytes) -> bytes:
    """What the server answers to who speaks TLS and no HTTP."""
    trust = ssl.create_default_context(cafile=str(server.home.ca_certificate))
    with (
        socket.create_connection(("127.0.0.1", server.port)) as plain,
        trust.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
    ):
        connection.sendall(said)
        return connection.recv(10_000)


# --- the access log -------------------------------------------------------------------------------


@pytest.mark.feature("XW-MON-2")
def test_each_request_has_a_line_that_webalizer_reads(server, tmp_path, webalizer):
    grid = works_done(server)
    with pytest.raises(UnknownObject):
        grid.why("no-such-work")
    assert get(server, "/v1/status?secret=1")[0] == 200
    assert get(server, "/nowhere/%22%0A%20x", "DELETE")[0] == 404
    for garbage in (b"GARBAGE\r\n\r\n", b'GET /"x" HTTP/1.1\r\nHost: [\r\nA\r\n\r\n'):
        assert b" 400 " in spoken(server, garbage)
    grid.close()
    server.stop()

    log = (server.home.logs / "access.log").read_text()
    lines = [CLF.fullmatch(line) for line in log.splitlines(keepends=True)]
    assert all(lines), log
    found = Counter((line[3], line[5], line[6]) for line in lines if line)
    submit, why = ("POST /v1/link/submit HTTP/1.1", "POST /v1/link/why HTTP/1.1")
    assert found["admin", submit, "200"] == 1
    assert found["admin", why, "404"] == 1
    assert found["-", "GET /v1/status HTTP/1.1", "200"] == 1
    assert found["-", "DELETE /nowhere/%22%0A%20x HTTP/1.1", "404"] == 1
    assert found["admin", "GET /v1/link HTTP/1.1", "101"] == 1
    assert found["-", "UNKNOWN / HTTP/1.0", "400"] == 2
    uploads = [key for key in found if re.match("PUT /v1/datas/", key[1])]
    assert [(user, status) for user, _, status in uploads] == [("admin", "201")]
    (download,) = [line for line in lines if line and line[5].startswith("GET /v1/datas/")]
    assert (download[3], download[7]) == ("worker", str(len(SQUARE)))
    assert "secret" not in log

    assert records(webalizer, tmp_path, log.encode()) == (len(lines), 0)


def test_a_server_that_cannot_write_its_logs_serves(tmp_path):
    with a_grid(tmp_path) as server:
        server.stop()
        server.home.logs.write_text("in the way")
        server.start()
        grid = works_done(server)
        until(lambda: "they wait" in server.log, "it says so")
        grid.close()
        server.stop()


def test_no_access_log_is_written_where_none_is_wanted(tmp_path):
    with a_grid(tmp_path, watching__access_log="no") as server:
        assert get(server, "/v1/status")[0] == 200
        server.stop()
        assert not (server.home.logs / "access.log").exists()


# --- the audit log --------------------------------------------------------------------------------


def audit(server: ServerUnderTest, *question: str) -> list[dict[str, Any]]:
    """What `xwserver audit` finds."""
    done = run(SERVER, "--directory", server.place, "audit", "--format", "json", *question)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.feature("XW-PIL-6")
def test_who_did_what_and_for_whom_each_task_ran_is_found(server, tmp_path):
    admin = server.client()
    admin.send_application("square", SQUARE, ANY_PLATFORM)
    ann = admin.send_user("ann", password="correct horse battery")
    hers = replace(admin.new_identity("client", ann), servers=(server.address,))
    server.pilot(admin)
    with Grid.open(hers) as grid:
        work = grid.submit(Description("square"), ["7"]).uid
        assert [result.stdout for result in grid.wait([work], 60)] == [b"49\n"]
        with pytest.raises(AccessDenied):
            grid.revoke("admin")
        grid.remove([work])
    assert get(server, "/v1/login", "POST", {"login": "ann", "password": "wrong word"})[0] == 401
    wrong = base64.b64encode(b"ann:wrong word").decode()
    assert get(server, "/v1/requests/stats", "POST", {}, Authorization=f"Basic {wrong}")[0] == 401
    basic = base64.b64encode(b"ann:correct horse battery").decode()
    bag = {"uid": "bag", "kind": "session", "name": "tuesday"}
    for _ in range(2):  # the second time it is known by its key
        headers = {"Authorization": f"Basic {basic}", "Idempotency-Key": "one"}
        assert get(server, "/v1/requests/sendgroup", "POST", bag, **headers)[0] == 200
    admin.revoke("ann")

    # What is found by user, by object, and in time.
    (stamp,) = [row["uid"] for row in admin.objects("pilots")]
    until(lambda: audit(server, "--object", "ann"), "the log has what was done last")
    found = audit(server, "--user", "ann")
    assert [(line["verb"], line.get("code", "")) for line in found] == [
        ("submit", ""),
        ("task", ""),
        ("revoke", "access-denied"),
        ("remove", ""),
        ("login", "not-authenticated"),
        ("login", "not-authenticated"),
        ("sendgroup", ""),
    ]
    task = found[1]
    assert task["objects"] == [f"{work}.1", work]
    assert (task["pilot"], task["host_name"]) == (stamp, socket.gethostname())
    assert [line["at"] for line in found] == sorted(line["at"] for line in found)
    assert {line["address"] for line in found} == {"127.0.0.1"}
    assert [line["verb"] for line in audit(server, "--object", work)] == [
        "submit",
        "task",
        "remove",
    ]
    assert [line["verb"] for line in audit(server, "--object", stamp)] == ["submitpilots", "task"]
    assert audit(server, "--user", "ann", "--since", "1 h") == found
    assert audit(server, "--user", "ann", "--until", "1 h") == []

    text = run(SERVER, "--directory", server.place, "audit", "--object", stamp).stdout
    assert f"worker of admin pilot {stamp} from 127.0.0.1" in text
    log = server.home.audit_log
    assert log.stat().st_mode & 0o777 == 0o600
    assert "horse" not in log.read_text()
    assert "wrong word" not in log.read_text()


def test_no_audit_log_is_written_where_none_is_wanted(tmp_path):
    with a_grid(tmp_path, watching__audit_log="no") as server:
        server.client().send_bag("session", "tuesday")
        server.stop()
        assert server.home.access_log.exists()
        assert not server.home.audit_log.exists()


# --- Prometheus, health, readiness ----------------------------------------------------------------


def samples(server: ServerUnderTest, form: str = "text/plain") -> dict[tuple[str, ...], float]:
    """What Prometheus' own reader makes of /metrics: name, then the labels' values in order."""
    status, text = get(server, "/metrics", Accept=form)
    assert status == 200, text
    read = openmetrics if "openmetrics" in form else prometheus
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in read(text)
        for sample in family.samples
    }


@pytest.mark.parametrize("form", ["text/plain", "application/openmetrics-text; version=1.0.0"])
def test_prometheus_reads_what_the_grid_did(server, form):
    grid = works_done(server, 3)
    with pytest.raises(UnknownObject):
        grid.why("no-such-work")
    found = samples(server, form)
    assert found["glidebridge_ready",] == 1
    assert found["glidebridge_requests_total", "done", "submit"] == 1
    assert found["glidebridge_requests_total", "unknown-object", "why"] == 1
    assert found["glidebridge_works_submitted_total",] == 3
    assert found["glidebridge_works_ended_total", "completed"] == 3
    assert found["glidebridge_works", "WAITING"] == 0
    assert found["glidebridge_hosts", "desktop", "connected"] == 1
    assert found["glidebridge_cores",] == 2
    assert found["glidebridge_sessions", "client", "connected"] == 1
    assert found["glidebridge_sessions", "worker", "connected"] == 1
    assert found["glidebridge_journal_commit_seconds_count",] > 1
    assert found["glidebridge_journal_changes_total",] > 9
    assert found["glidebridge_bytes_total", "in", "http"] == len(SQUARE)
    assert found["glidebridge_bytes_total", "out", "session"] > 100
    assert found["glidebridge_log_lines_dropped_total", "audit.log"] == 0
    assert found["process_open_fds",] > 5
    assert found["process_start_time_seconds",] > 1e9


def test_works_that_wait_are_counted_by_what_they_wait_for(server):
    grid = server.client()
    grid.send_application("square", SQUARE, ANY_PLATFORM)
    data = new_uid()
    grid.session.ask(m.SendData(data, "late", "0" * 64, 10))
    grid.sweep(Description("square"), [[str(n)] for n in range(5)])
    grid.submit(Description("square", stdin=data))
    found = samples(server)
    assert found["glidebridge_works", "WAITING"] == 5
    assert found["glidebridge_works", "DATAREQUEST"] == 1
    assert found["glidebridge_works", "RUNNING"] == 0


def test_only_who_may_watch_reads_metrics(tmp_path):
    with a_grid(tmp_path, watching__watch_from="192.0.2.0/24") as server:
        status, text = get(server, "/metrics")
        assert (status, json.loads(text)["code"]) == (403, "access-denied")
        assert get(server, "/v1/health") == (200, '{"status": "alive"}')
        assert get(server, "/v1/ready") == (200, '{"status": "ready"}')


def test_a_server_whose_database_takes_nothing_is_alive_and_not_ready(server):
    client = server.client()
    ours = sqlite3.connect(server.home.database, timeout=30, isolation_level=None)
    ours.execute("CREATE TRIGGER full BEFORE INSERT ON bags BEGIN SELECT RAISE(FAIL, 'x'); END")
    ours.execute("CREATE TRIGGER lost BEFORE UPDATE ON shards BEGIN SELECT RAISE(FAIL, 'y'); END")
    client.session.post(m.SendGroup("bag", "group", "tuesday"))

    def reason() -> str:
        status, text = get(server, "/v1/ready")
        return str(json.loads(text)["reason"]) if status == 503 else ""

    assert "cannot store anything" in until(reason, "it is not ready")
    assert get(server, "/v1/health")[0] == 200
    assert samples(server)["glidebridge_ready",] == 0
    ours.execute("DROP TRIGGER full")
    ours.execute("DROP TRIGGER lost")
    ours.close()
    until(lambda: get(server, "/v1/ready")[0] == 200, "it is ready again")


# --- Ganglia --------------------------------------------------------------------------------------

GMETAD = """
data_source "XWHEP" 1 localhost:{port}
gridname "test"
rrd_rootdir "{rrds}"
setuid off
xml_port {xml}
interactive_port {interactive}
"""


@contextlib.contextmanager
def gmetad(ganglia: Path, directory: Path, port: int) -> Iterator[Path]:
    """A real gmetad that polls `port` each second; where it keeps its databases."""
    rrds = directory / "rrds"
    rrds.mkdir()
    configuration = directory / "gmetad.conf"
    configuration.write_text(
        GMETAD.format(port=port, rrds=rrds, xml=a_port(), interactive=a_port())
    )
    command = [str(ganglia / "sbin" / "gmetad"), "--conf", str(configuration), "--debug", "1"]
    process = Process(command, directory / "gmetad.log", directory)
    try:
        yield rrds / "XWHEP"
    finally:
        process.kill()


def last(ganglia: Path, rrd: Path) -> float | None:
    """The value that a database was told last, as rrdtool reads it; None while there is none."""
    done = subprocess.run(
        [ganglia / "bin" / "rrdtool", "lastupdate", rrd], capture_output=True, text=True
    )
    value = done.stdout.split()[-1:] if done.returncode == 0 else []
    return float(value[0]) if value and value[0] not in ("U", "sum") else None


def waiting_works(server: ServerUnderTest) -> None:
    """A worker with three cores and nothing to do; five works wait for something else."""
    grid = server.client()
    grid.send_application("square", SQUARE, ANY_PLATFORM)
    server.worker("desk", slots=3)
    until(lambda: grid.stats()["hosts"], "the worker is there")
    grid.sweep(Description("square", cores=50), [[str(n)] for n in range(5)])


@pytest.mark.feature("XW-MON-1")
def test_a_gmetad_polls_the_server_into_its_databases(tmp_path, ganglia):
    port = a_port()
    with a_grid(tmp_path, watching__ganglia_port=str(port)) as server:
        waiting_works(server)
        machine = socket.gethostname().lower()
        with gmetad(ganglia, tmp_path, port) as rrds:
            for metric, value in (("works_waiting", 5), ("cpu_num", 3), ("hosts", 1), ("tasks", 0)):
                rrd = rrds / machine / f"{metric}.rrd"
                until(lambda rrd=rrd, value=value: last(ganglia, rrd) == value, f"{metric} {value}")
            assert last(ganglia, rrds / machine / "disk_free.rrd") > 0
            assert (rrds / "__SummaryInfo__" / "works_waiting.rrd").exists()
        server.stop()


@pytest.mark.feature("XW-MON-4")
def test_the_ganglia_source_is_a_service_of_its_own(server, tmp_path, ganglia):
    waiting_works(server)
    port = a_port()
    command = [sys.executable, "-c", SERVER, "--directory", str(server.place), "ganglia"]
    source = Process([*command, "--port", str(port)], tmp_path / "source.log", tmp_path)
    try:
        until(lambda: "finds the grid" in source.log.read_text(), "the source is there")
        machine = socket.gethostname().lower()
        with gmetad(ganglia, tmp_path, port) as rrds:
            rrd = rrds / machine / "works_waiting.rrd"
            until(lambda: last(ganglia, rrd) == 5, "gmetad has the grid's numbers")
        server.stop()
        with socket.create_connection(("127.0.0.1", port)) as reader, reader.makefile("rb") as file:
            text = file.read().decode()
        assert "<CLUSTER" in text
        assert "<HOST" not in text
        assert source.stop() == 0
        assert "no server runs" in source.log.read_text()
        assert "Traceback" not in source.log.read_text()
    finally:
        source.kill()


def test_who_may_not_watch_gets_nothing_from_the_ganglia_port(tmp_path):
    port = a_port()
    settings = {"watching__ganglia_port": str(port), "watching__watch_from": "192.0.2.7"}
    with a_grid(tmp_path, **settings) as server:
        with socket.create_connection(("127.0.0.1", port)) as reader:
            assert reader.recv(100) == b""
        assert get(server, "/v1/ganglia")[0] == 403


# --- the monitoring table -------------------------------------------------------------------------


@pytest.mark.feature("XW-MON-3")
def test_a_server_adds_rows_to_a_table_a_day(tmp_path):
    with a_grid(tmp_path, watching__monitoring_period="0.1 s") as server:
        works_done(server)

        def table() -> list[dict[str, str]]:
            files = sorted(server.home.logs.glob("monitoring-*.csv"))
            return [row for file in files for row in csv.DictReader(file.read_text().splitlines())]

        until(lambda: len(table()) > 2 and table()[-1]["connections"] == "2", "rows are added")
        row = table()[-1]
        assert float(row["free_memory_mib"]) > 1
        assert float(row["server_memory_mib"]) > 10
        assert int(row["open_files"]) > 5
        assert (row["hosts"], row["works_waiting"]) == ("1", "0")
        server.stop()
        assert all(None not in row for row in table())
