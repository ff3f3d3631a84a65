"""The doors of contents that go past this server: where in its S3 store they belong, and the word
that they are there (docs/protocol.md, "Files").
"""

from __future__ import annotations

import json

from aiohttp import web

from desktopgrid.model.errors import BadRequest
from desktopgrid.server.listeners.files import (
    DIGEST,
    LONGEST_OUTPUT,
    arrived,
    in_thread,
    own_data,
    peer_of,
    refused,
)
from desktopgrid.server.objectstore import ObjectStore


async def place_data(request: web.Request) -> web.Response:
    """Where the content of a data is to be put; an empty ``url`` if it is here already."""
    service, peer = peer_of(request)
    data = own_data(service, peer, request.match_info["uid"])
    if data.is_available:
        await service.until_durable()
        return web.json_response({"url": "", "headers": {}})
    service.core.grid.check_quota(data)
    return _place(request, data.sha256, data.owner, data.size)


async def settle_data(request: web.Request) -> web.Response:
    """The content of a data was put there."""
    service, peer = peer_of(request)
    data = own_data(service, peer, request.match_info["uid"])
    if not data.is_available:
        answer = await _settle(request, data.sha256, data.owner, data.size)
        if answer is not None:
            return answer
        service.core.change(lambda grid, out: arrived(grid, data, out))
    await service.until_durable()
    return web.Response(status=201)


async def place_output(request: web.Request) -> web.Response:
    """Where what a task left behind is to be put."""
    task, sha256, size = await _output(request)
    return _place(request, sha256, task, size)


async def settle_output(request: web.Request) -> web.Response:
    """What a task left behind was put there."""
    service, _ = peer_of(request)
    task, sha256, size = await _output(request)
    answer = await _settle(request, sha256, task, size)
    if answer is not None:
        return answer
    await in_thread(service, service.outputs.mark, task, sha256)
    return web.Response(status=201)


async def _output(request: web.Request) -> tuple[str, str, int]:
    """Task, digest and size of the output that its host speaks of."""
    service, peer = peer_of(request)
    task, sha256 = request.match_info["task"], request.match_info["sha256"]
    service.core.may_upload(peer, task)
    try:
        size = json.loads(await request.read())["size"]
    except (ValueError, KeyError, TypeError, RecursionError):
        size = None
    is_size = isinstance(size, int) and not isinstance(size, bool)
    if not is_size or not 0 <= size <= LONGEST_OUTPUT or not DIGEST.fullmatch(sha256):
        raise BadRequest("an output has a SHA-256 in hexadecimal digits and a size below a TiB")
    return task, sha256, size


def _objects(request: web.Request) -> ObjectStore:
    objects: ObjectStore | None = request.app["objects"]
    if objects is None:
        raise BadRequest("this server keeps all contents itself: PUT them here")
    return objects


def _place(request: web.Request, sha256: str, holder: str, size: int) -> web.Response:
    service, _ = peer_of(request)
    least = service.policy.direct_from
    if size < least:
        raise BadRequest(
            f"contents below {least} bytes are kept by this server itself: PUT it here"
        )
    url, headers = _objects(request).place(sha256, holder, size)
    return web.json_response({"url": url, "headers": headers})


async def _settle(request: web.Request, sha256: str, holder: str, size: int) -> web.Response | None:
    """Why what came is not what was to come; None if it is, as far as one can see from here."""
    service, _ = peer_of(request)
    objects = _objects(request)
    if size < service.policy.direct_from:
        return refused(422, "bad-request", "so small a content belongs on this server: PUT it here")
    fault = await in_thread(service, objects.fault, sha256, holder, size)
    # It stays: another data of this holder may have it, and the collector sees whether one has.
    return None if fault is None else refused(422, "bad-request", fault)
