"""The doors for files: contents of datas in and out, outputs of tasks in, outputs of works out
(docs/protocol.md).
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from aiohttp import web

from desktopgrid.model.errors import (
    AccessDenied,
    BadRequest,
    NotAuthenticated,
    Unavailable,
    UnknownObject,
)
from desktopgrid.model.objects import Data
from desktopgrid.model.rights import Scope, may_refer, reach_of
from desktopgrid.server.core import Peer
from desktopgrid.server.home import Home
from desktopgrid.server.inserting import data_row, may_read
from desktopgrid.server.listeners.clock import utc_now
from desktopgrid.server.listeners.watching import USER
from desktopgrid.server.objectstore import ObjectStore
from desktopgrid.server.requests import Reading
from desktopgrid.server.state import Grid, Outcome
from desktopgrid.server.storage import Store, Upload, WrongDigest
from desktopgrid.server.tasks import data_arrived
from desktopgrid.wire.messages import GetResults

if TYPE_CHECKING:
    from desktopgrid.server.listeners.service import Service

T = TypeVar("T")
logger = logging.getLogger(__name__)

OFFSET = "Upload-Offset"
CHUNK = 1 << 20
LONGEST_OUTPUT = 1 << 40
UPLOADS_KEPT = 2 * 86_400.0
"""Seconds for which an upload that broke off can be gone on with."""
SWEEP_PERIOD = 3_600.0
RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")
DIGEST = re.compile(r"[0-9a-f]{64}")


def peer_of(request: web.Request) -> tuple[Service, Peer]:
    """The session whose ticket the request carries; raises NotAuthenticated."""
    service: Service = request.app["service"]
    scheme, _, ticket = request.headers.get("Authorization", "").partition(" ")
    if scheme != "Ticket":
        raise NotAuthenticated("transfers carry `Authorization: Ticket ...` of an open session")
    core = service.core
    peer = core.peer_of(ticket)
    request[USER] = core.grid.users[peer.who.user].login
    return service, peer


def _readable(service: Service, peer: Peer, uid: str) -> Data:
    grid = service.core.grid
    data = grid.datas.get(uid)
    if data is not None and not data.is_elsewhere:
        may_look = Scope.READ in peer.who.scope and not data.is_deleted
        if may_look and may_read(grid, peer.who, data):
            return data
        if peer.host is not None and _is_needed(grid, peer.host, data):
            return data
    raise UnknownObject.named("data", uid)


def _is_needed(grid: Grid, host: str, data: Data) -> bool:
    """Whether a task of ``host`` needs the data: who may run a work may read what it needs (manual,
    3.2), also when the data has been removed since.

    Raises AccessDenied if it was made less open than the works that need it: they are in error then
    (3.3, XW-AR-17).
    """
    state = grid.scheduler.hosts.get(host)
    needs = False
    for task in state.tasks.values() if state is not None else ():
        submission = grid.works[task.work].submission
        description = submission.description
        if data.uid in grid.applications[description.application].executables.values():
            return True
        if data.uid in description.datas:
            if may_refer(submission.rights, submission.owner == data.owner, data.rights):
                return True
            needs = True
    if needs:
        reach = reach_of(data.rights).value
        raise AccessDenied(f"data {data.uid} is {reach} by now; this worker may not read it")
    return False


# --- datas ----------------------------------------------------------------------------------------


async def head_data(request: web.Request) -> web.Response:
    """How much of a data the server has."""
    service, peer = peer_of(request)
    data = _readable(service, peer, request.match_info["uid"])
    store: Store = request.app["store"]
    if data.is_available:
        await service.until_durable()
        return web.Response(headers={OFFSET: str(data.size), "Content-Length": str(data.size)})
    return web.Response(headers={OFFSET: str(store.offset(data.uid))})


async def get_data(request: web.Request) -> web.StreamResponse:
    """The content of a data, or a range of it."""
    service, peer = peer_of(request)
    data = _readable(service, peer, request.match_info["uid"])
    if not data.is_available:
        raise UnknownObject(f"data {data.uid} has not arrived yet")
    return await _content(request, data.sha256, data.size, data.owner)


def own_data(service: Service, peer: Peer, uid: str) -> Data:
    """The data of this UID whose content ``peer`` may send; raises a GridError."""
    data: Data = service.core.grid.find("data", uid)
    if data.owner != peer.who.user:
        raise AccessDenied(f"data {data.uid} is another user's")
    if data.is_elsewhere:
        raise BadRequest(f"data {data.uid} is not on this server; it stays at {data.uri}")
    if Scope.CREATE not in peer.who.scope:
        raise AccessDenied(f"your token is good for {peer.who.scope} only; uploads want create")
    return data


async def put_data(request: web.Request) -> web.Response:
    """The content of a data, or its next part."""
    service, peer = peer_of(request)
    data = own_data(service, peer, request.match_info["uid"])
    service.core.grid.check_quota(data)
    if data.is_available:
        await service.until_durable()
        return web.Response(status=201, headers={OFFSET: str(data.size)})
    holdings, store = service.core.grid.holdings, request.app["store"]
    holdings.begin(data)
    try:
        answer = await _receive(request, data.uid, data.sha256, data.size)
        if answer.status == 201:
            service.core.change(lambda grid, out: arrived(grid, data, out))
            await service.until_durable()
            service.watcher.uploaded(service.core.grid, peer, data.uid)
    finally:
        if not store.offset(data.uid):
            holdings.end(data.uid)
    return answer


def arrived(grid: Grid, data: Data, out: Outcome) -> None:
    """The content of ``data`` is here, whole and durable; raises LimitExceeded."""
    whole = replace(grid.datas[data.uid], is_available=True)
    grid.check_quota(whole)
    grid.put_data(whole)
    out.changes.append(data_row(whole))
    data_arrived(grid, whole, utc_now(), out)


# --- outputs --------------------------------------------------------------------------------------


async def put_output(request: web.Request) -> web.Response:
    """What a task left behind, from the host that has the task (XW-USR-8)."""
    service, peer = peer_of(request)
    task, sha256 = request.match_info["task"], request.match_info["sha256"]
    service.core.may_upload(peer, task)
    if not DIGEST.fullmatch(sha256):
        raise BadRequest("an output is named by the 64 hexadecimal digits of its SHA-256")
    size = request.content_length
    content_range = request.headers.get("Content-Range")
    if content_range is not None:
        size = _range(content_range)[2]
    if size is None or size > LONGEST_OUTPUT:
        raise BadRequest("an output's size must be known, and below a TiB")
    answer = await _receive(request, f"{task}.{sha256}", sha256, size)
    if answer.status == 201:
        await in_thread(service, request.app["outputs"].mark, task, sha256)
    return answer


async def get_output(request: web.Request) -> web.StreamResponse:
    """An output of a work, for who may read the work."""
    service, peer = peer_of(request)
    work, name = request.match_info["work"], request.match_info["name"]
    if Scope.READ not in peer.who.scope:
        raise AccessDenied(f"your token is good for {peer.who.scope} only; results want read")
    await service.until_durable()
    question = Reading(peer.who, GetResults((work,)), {})
    found = await service.ask(question)
    for result in found["results"]:
        for output in result["outputs"]:
            if result["work"] == work and output["name"] == name:
                return await _content(request, output["sha256"], output["size"], result["task"])
    raise UnknownObject(f"work {work} has no output {name!r} that you may see")


async def sweep(service: Service, store: Store) -> None:
    """Throw away, now and then, what was never uploaded to its end, or is of a data that was
    removed since; what is kept counts for its owner.
    """
    while True:
        count = await in_thread(service, store.sweep, time.time() - UPLOADS_KEPT)
        with suppress(Unavailable):
            count += await count_parts(service, store)
        if count:
            logger.info("Threw away %d uploads that nobody went on with", count)
        await asyncio.sleep(SWEEP_PERIOD)


async def count_parts(service: Service, store: Store) -> int:
    """Let the datas of which there are parts, and no others, count for their owners. Parts of datas
    that are gone are thrown away; how many.
    """
    grid, thrown_away = service.core.grid, 0
    begun = grid.holdings.begun
    names = await in_thread(service, store.unfinished)
    for uid in begun - names:
        grid.holdings.end(uid)
    for name in names:
        data = grid.datas.get(name)
        if data is None:
            continue
        if not data.is_deleted:
            grid.holdings.begin(data)
            continue
        with suppress(Unavailable, FileNotFoundError):
            await in_thread(service, store.discard, name)
            grid.holdings.end(name)
            thrown_away += 1
    return thrown_away


async def collect(home: Home) -> None:
    """Have what nothing refers to thrown away, now and then, by a process of its own."""
    period = home.config.datas.collect_every.total_seconds()
    while period:
        await asyncio.sleep(period)
        command = ("-m", "desktopgrid.server.cli", "--directory", str(home.directory), "collect")
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        try:
            _, said = await process.communicate()
        except asyncio.CancelledError:
            # It may be ended anywhere, and goes on next time.
            process.kill()
            await process.wait()
            raise
        words = said.decode(errors="replace").strip().splitlines()
        level = logging.WARNING if process.returncode else logging.INFO
        logger.log(level, "Collected garbage: %s", words[-1] if words else "it said nothing")


# --- contents -------------------------------------------------------------------------------------


async def _content(request: web.Request, sha256: str, size: int, holder: str) -> web.StreamResponse:
    """The content, or where in the S3 store it is, as ``holder`` has put it there.

    What he put there goes before what is here: nobody has seen whether it is what its digest says,
    and if not, what is here is another one's.
    """
    service: Service = request.app["service"]
    store: Store = request.app["store"]
    objects: ObjectStore | None = request.app["objects"]
    if objects is not None and (
        not store.has(sha256)
        or (
            size >= service.policy.direct_from
            and await in_thread(service, objects.size, sha256, holder) is not None
        )
    ):
        place = objects.address(sha256, holder)
        return web.Response(status=307, headers={"Location": place})
    if not store.has(sha256):
        raise UnknownObject(f"the server has no content {sha256}")
    headers = {"Content-Type": "application/octet-stream", "X-Content-Type-Options": "nosniff"}
    return web.FileResponse(store.path(sha256), headers=headers)


def _range(text: str) -> tuple[int, int, int]:
    match = RANGE.fullmatch(text)
    if match is None:
        raise BadRequest(f"Content-Range must be `bytes A-B/SIZE`, not {text[:60]!r}")
    first, last, size = (int(part) for part in match.groups())
    return first, last, size


async def _receive(request: web.Request, name: str, sha256: str, size: int) -> web.Response:
    """Store the body as (a part of) the upload ``name``: 201 whole and durable, 202 go on, 409 not
    from there, 422 wrong.
    """
    service: Service = request.app["service"]
    store: Store = request.app["store"]
    text = request.headers.get("Content-Range")
    start = 0
    if text is not None:
        start, _, total = _range(text)
        if total != size:
            raise BadRequest(f"the size is {size}, not {total}")
    elif store.offset(name):
        store.discard(name)
    upload = await in_thread(service, store.begin, name, sha256, size)
    try:
        if upload.offset != start:
            answer = refused(409, "wrong-offset", f"go on at {upload.offset}")
            answer.headers[OFFSET] = str(upload.offset)
            return answer
        async for chunk in request.content.iter_chunked(CHUNK):
            await in_thread(service, upload.append, chunk)
            service.watcher.taken += len(chunk)
        return await _finish(service, upload)
    except WrongDigest as error:
        return refused(422, error.code, str(error))
    except (ConnectionError, web.RequestPayloadError) as error:
        # Nobody hears this. What has come stays, and is gone on from.
        raise Unavailable("the upload broke off") from error
    finally:
        await in_thread(service, upload.close)


async def _finish(service: Service, upload: Upload) -> web.Response:
    if upload.offset < upload.size:
        return web.Response(status=202, headers={OFFSET: str(upload.offset)})
    await in_thread(service, upload.finish)
    return web.Response(status=201, headers={OFFSET: str(upload.size)})


def refused(status: int, code: str, reason: str) -> web.Response:
    """An answer that says why not."""
    return web.json_response({"code": code, "reason": reason}, status=status)


async def in_thread(service: Service, do: Callable[..., T], *args: object) -> T:
    """What ``do`` gives, which waits for a disk or for the network."""
    return await service.in_thread(service.files, partial(do, *args))
