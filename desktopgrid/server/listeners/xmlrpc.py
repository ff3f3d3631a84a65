"""The gateway for XML-RPC (XWHEP manual, 7.1.1: port.xmlrpc): the requests of docs/protocol.md as
methods, with the same functions, limits and rights. Each call carries who asks; nothing of a call
is kept.
"""

from __future__ import annotations

import inspect
import re
import xmlrpc.client
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from xml.parsers.expat import ExpatError

import msgspec
from aiohttp import web
from defusedxml.common import DefusedXmlException
from defusedxml.xmlrpc import DefusedExpatParser

from desktopgrid.model.errors import BadRequest, GridError, UnknownObject
from desktopgrid.server.listeners.app import answer_errors
from desktopgrid.server.listeners.asking import BY_VERB, by_password, by_token, message_of, note
from desktopgrid.server.statuses import status_of
from desktopgrid.wire.messages import MAX_FRAME

if TYPE_CHECKING:
    from desktopgrid.server.listeners.service import Service

MANUAL: dict[str, tuple[str, dict[str, Any]]] = {
    "xwgetusers": ("list", {"kind": "users"}),
    "xwgetusergroups": ("list", {"kind": "usergroups"}),
    "xwgetdatas": ("list", {"kind": "datas"}),
    "xwgetapps": ("list", {"kind": "apps"}),
    "xwgetworks": ("list", {"kind": "works"}),
    "xwgettasks": ("list", {"kind": "tasks"}),
    "xwsenduser": ("senduser", {}),
    "xwsendusergroup": ("sendgroup", {"kind": "usergroup"}),
    "xwsenddata": ("senddata", {}),
    "xwsendapp": ("sendapp", {}),
    "xwsendwork": ("submit", {"single": True}),
    "xwresult": ("results", {}),
    "xwremove": ("remove", {}),
    "xwchmod": ("chmod", {}),
}
"""The manual's verbs (5.4 to 5.6): the request that each is, and what of it is said already."""

METHODS = {**{verb: (verb, {}) for verb in BY_VERB}, **MANUAL}
NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What has no place in XML 1.0 (2.2), not even as a reference."""


def application(service: Service) -> web.Application:
    """What is behind the port."""
    app = web.Application(middlewares=[answer_errors], client_max_size=MAX_FRAME + 1)
    app["service"] = service
    app.add_routes([web.post("/", call), web.post("/RPC2", call)])
    return app


async def call(request: web.Request) -> web.Response:
    """One call and its answer: a value, or a fault with our error in it."""
    service: Service = request.app["service"]
    body = await request.read()
    try:
        # A long one would keep everybody else waiting, and uploads that share its threads.
        name, parameters = await service.in_thread(service.parsers, read, body)
        answer = written(await _answer(request, name, parameters))
    except GridError as error:
        answer = written(xmlrpc.client.Fault(status_of(error), f"{error.code}: {error}"))
    return web.Response(body=answer, content_type="text/xml", charset="utf-8")


async def _answer(request: web.Request, name: str, parameters: tuple[Any, ...]) -> Any:
    service: Service = request.app["service"]
    known = SYSTEM.get(name)
    if known is not None:
        return known(*(each for each in parameters if isinstance(each, str)))
    if name not in METHODS:
        raise UnknownObject(f"there is no method {name[:40]!r}; system.listMethods lists them")
    verb, said = METHODS[name]
    login, secret, fields = _three(name, parameters)
    credentials = service.core.grid.credentials
    if login in credentials and credentials[login].kind == "token":
        credential = by_token(service, login, secret)
    else:
        credential = await by_password(service, login, secret, request.remote or "")
    note(request, credential)
    try:
        body = msgspec.json.encode({**fields, **said})
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise BadRequest(f"{name}: {error}") from None
    asked = message_of(BY_VERB[verb], body)
    return await service.request(credential, asked, request.remote or "")


def _three(name: str, parameters: tuple[Any, ...]) -> tuple[str, str, dict[str, Any]]:
    """Who asks, by what it is proved, and the fields of the request."""
    login, secret, fields = (*parameters, {})[:3] if len(parameters) in (2, 3) else ("", "", None)
    if not (isinstance(login, str) and isinstance(secret, str) and isinstance(fields, dict)):
        raise BadRequest(
            f"{name} takes a login and its password, or a token and its secret, and a struct of"
            " the request's fields"
        )
    return login, secret, fields


def read(body: bytes) -> tuple[str, tuple[Any, ...]]:
    """The method and the parameters of a call; raises BadRequest. No document type is read, so no
    entity is ever expanded or fetched.
    """
    found = xmlrpc.client.Unmarshaller(use_builtin_types=True)
    try:
        parser = DefusedExpatParser(found, forbid_dtd=True)
        parser.feed(body)
        parser.close()
        parameters = found.close()
    except (DefusedXmlException, ExpatError) as error:
        raise BadRequest(f"no XML that is read here: {error}") from None
    # What the reader of the standard library makes of the wrong order of elements.
    except (xmlrpc.client.Error, ValueError, TypeError, LookupError, AttributeError) as error:
        raise BadRequest(f"no call of XML-RPC: {type(error).__name__} {error}") from None
    return found.getmethodname() or "", tuple(parameters)


def _dump_number(
    writer: xmlrpc.client.Marshaller, value: Any, write: Callable[[str], object]
) -> None:
    """A number of more than 32 bits as `i8`, as most readers understand."""
    kind = "int" if -(1 << 31) <= value < 1 << 31 else "i8"
    write(f"<value><{kind}>{value}</{kind}></value>\n")


class _Writer(xmlrpc.client.Marshaller):
    dispatch = {**xmlrpc.client.Marshaller.dispatch, int: _dump_number}  # noqa: RUF012


def written(value: Any) -> bytes:
    """The document of an answer, or of a fault."""
    is_fault = isinstance(value, xmlrpc.client.Fault)
    content = _Writer("utf-8", True).dumps(value if is_fault else (value,))
    text = f'<?xml version="1.0" encoding="utf-8"?>\n<methodResponse>{content}</methodResponse>\n'
    return NOT_IN_XML.sub("\ufffd", text).encode()


def _methods() -> list[str]:
    return sorted((*METHODS, *SYSTEM))


def _help(name: str = "") -> str:
    if name not in METHODS:
        raise UnknownObject(f"there is no method {name[:40]!r}; system.listMethods lists them")
    return inspect.cleandoc(BY_VERB[METHODS[name][0]].__doc__ or "")


SYSTEM: dict[str, Callable[..., Any]] = {
    "system.listMethods": lambda *_: _methods(),
    "system.methodHelp": lambda *names: _help(*names[:1]),
}
"""What needs no identity."""
