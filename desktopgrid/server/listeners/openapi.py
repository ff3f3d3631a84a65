"""The document of the HTTP doors (OpenAPI 3.1), made of what they take: the table of requests, its
dataclasses and replies. A new request stands in it by itself.
"""

from __future__ import annotations

import inspect
from typing import Any

import msgspec
from aiohttp import web

from desktopgrid.server.listeners.asking import KEY_HEADER
from desktopgrid.server.listeners.login import (
    CertificateLogin,
    Login,
    Nonce,
    Status,
    Token,
    TokenLogin,
)
from desktopgrid.server.replies import REPLIES
from desktopgrid.server.requests import RECORDED, REQUESTS
from desktopgrid.wire import messages as m

Object = dict[str, Any]
SCHEMAS = "#/components/schemas/{name}"

REASONS = {
    400: "What was asked makes no sense; nothing was changed.",
    401: "Nobody is known by what the request carries.",
    403: "The caller may not do that.",
    404: "There is no such object, or none that the caller may see.",
    405: "Another method is meant.",
    409: "The name, or the key, is taken.",
    410: "The link is gone; start again.",
    413: "More than a limit allows.",
    429: "Too often; wait a little.",
    415: "The body is of another type.",
    416: "There is no such range.",
    422: "The content has another digest.",
    503: "The server cannot answer now; ask again later.",
    507: "The server's disk has no room.",
}
ALWAYS = (400, 503)


class Error(msgspec.Struct):
    """Why not: a word for programs and a sentence for people."""

    code: str
    reason: str


async def openapi(request: web.Request) -> web.Response:
    """The document."""
    return web.json_response(request.app["openapi"])


def document() -> Object:
    """The document, as an object of JSON."""
    kinds = list(REQUESTS)
    types: list[Any] = [
        *kinds,
        *REPLIES.values(),
        Login,
        Token,
        Status,
        Error,
        Nonce,
        CertificateLogin,
        TokenLogin,
    ]
    schemas, components = msgspec.json.schema_components(types, ref_template=SCHEMAS)
    named = dict(zip(types[: len(kinds)], schemas, strict=False))
    replies = dict(zip(REPLIES, schemas[len(kinds) :], strict=False))
    for component in components.values():
        if "description" in component:
            component["description"] = " ".join(component["description"].split())
    paths = {
        f"/v1/requests/{kind.verb}": {
            "post": _request(kind, named[kind], replies.get(kind, {"type": "object"}))
        }
        for kind in kinds
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Glidebridge",
            "version": str(m.VERSIONS[0]),
            "description": "The doors of a grid's server; docs/protocol.md says more.",
        },
        "paths": {**paths, **_without_identity(), **_watching(), **_files(), **_poll()},
        "components": {
            "schemas": components,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "TOKEN:SECRET, as an identity file or a login has them",
                },
                "password": {"type": "http", "scheme": "basic"},
                "ticket": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Authorization",
                    "description": "Ticket T, of the welcome of an open session",
                },
            },
        },
    }


def _request(kind: type[m.Request], schema: Object, reply: Object) -> Object:
    first, _, rest = inspect.cleandoc(kind.__doc__ or "").partition("\n\n")
    operation = {
        "operationId": kind.verb,
        "summary": " ".join(first.split()),
        "description": " ".join(rest.split()),
        "security": [{"token": []}, {"password": []}],
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": {
            "200": _answer("The reply.", reply),
            **_refusals(401, 403, 404, 405, 409, 413, 415, 429, 507),
        },
    }
    if kind in RECORDED:
        key = {"type": "string", "pattern": "^[!-~]{1,255}$"}
        operation["parameters"] = [
            {
                "name": KEY_HEADER,
                "in": "header",
                "schema": key,
                "description": "asking the same again under this key has no second effect",
            }
        ]
    return operation


def _answer(description: str, schema: Object) -> Object:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _refusals(*statuses: int) -> Object:
    error = {"$ref": SCHEMAS.format(name="Error")}
    return {str(each): _answer(REASONS[each], error) for each in sorted({*statuses, *ALWAYS})}


def _content(schema: Object | None = None) -> Object:
    return {"application/octet-stream": {"schema": schema or {}}}


def _in_path(*names: str) -> list[Object]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in names
    ]


def _without_identity() -> Object:
    def named(name: str) -> Object:
        return {"$ref": SCHEMAS.format(name=name)}

    def login(name: str, summary: str, body: str | None, answer: str) -> Object:
        asked = {}
        if body is not None:
            content = {"application/json": {"schema": named(body)}}
            asked = {"requestBody": {"required": True, "content": content}}
        return {
            "post": {
                "operationId": name,
                "summary": summary,
                **asked,
                "responses": {
                    "200": _answer("As asked.", named(answer)),
                    **_refusals(401, 405, 413, 415, 429),
                },
            }
        }

    return {
        "/v1/login": login("login", "A token for who knows the password.", "Login", "Token"),
        "/v1/password": login(
            "passwd", "Another password for who knows his.", "PasswordChange", "PasswordChanged"
        ),
        "/v1/login/nonce": login("nonce", "What a certificate's key is to sign.", None, "Nonce"),
        "/v1/login/certificate": login(
            "login-by-certificate", "A token for who has the key.", "CertificateLogin", "Token"
        ),
        "/v1/login/token": login(
            "login-by-token", "A token for who has an issuer's.", "TokenLogin", "Token"
        ),
        "/v1/status": {
            "get": {
                "operationId": "status",
                "summary": "Whether the server serves.",
                "responses": {
                    "200": _answer("It serves.", named("Status")),
                    **_refusals(405),
                },
            }
        },
    }


def _watching() -> Object:
    status = _answer("It does.", {"type": "object", "properties": {"status": {"type": "string"}}})
    text = {"description": "The samples.", "content": {"text/plain": {"schema": {}}}}
    return {
        "/v1/health": {
            "get": {
                "operationId": "health",
                "summary": "Whether the server lives.",
                "responses": {"200": status, **_refusals(405)},
            }
        },
        "/v1/ready": {
            "get": {
                "operationId": "ready",
                "summary": "Whether the server can store things.",
                "responses": {"200": status, **_refusals(405)},
            }
        },
        "/metrics": {
            "get": {
                "operationId": "metrics",
                "summary": "Samples for Prometheus, for who may watch.",
                "responses": {"200": text, **_refusals(403, 405)},
            }
        },
    }


def _files() -> Object:
    ticket: list[Object] = [{"ticket": []}]
    upload = {
        "security": ticket,
        "requestBody": {"required": True, "content": _content()},
        "responses": {
            "201": {"description": "Whole, right and durable."},
            "202": {"description": "Go on at Upload-Offset."},
            **_refusals(401, 403, 404, 405, 409, 413, 415, 422, 507),
        },
    }
    given = {
        "200": {"description": "The content.", "content": _content()},
        "206": {"description": "A range of it.", "content": _content()},
        "307": {"description": "It is where Location says."},
        **_refusals(401, 403, 404, 405, 416),
    }
    return {
        "/v1/datas/{uid}": {
            "parameters": _in_path("uid"),
            "get": {
                "operationId": "get-data",
                "summary": "The content of a data.",
                "security": ticket,
                "responses": given,
            },
            "head": {
                "operationId": "head-data",
                "summary": "How much of a data the server has.",
                "security": ticket,
                "responses": {
                    "200": {"description": "Upload-Offset says it."},
                    **_refusals(401, 404, 405),
                },
            },
            "put": {
                "operationId": "put-data",
                "summary": "The content of a data, or its next part.",
                **upload,
            },
        },
        "/v1/tasks/{task}/outputs/{sha256}": {
            "parameters": _in_path("task", "sha256"),
            "put": {
                "operationId": "put-output",
                "summary": "What a task left behind, from the worker that has the task.",
                **upload,
            },
        },
        **_direct("/v1/datas/{uid}/direct", "uid", what="data"),
        **_direct("/v1/tasks/{task}/outputs/{sha256}/direct", "task", "sha256", what="output"),
        "/v1/works/{work}/outputs/{name}": {
            "parameters": _in_path("work", "name"),
            "get": {
                "operationId": "get-output",
                "summary": "An output of a work, for who may read the work.",
                "security": ticket,
                "responses": given,
            },
        },
    }


def _direct(path: str, *names: str, what: str) -> Object:
    """The doors of contents that go to the S3 store."""
    ticket: list[Object] = [{"ticket": []}]
    body = {"content": {"application/json": {"schema": {"type": "object"}}}}
    said = {"200": {"description": "A URL, and the headers that go with it."}}
    return {
        path: {
            "parameters": _in_path(*names),
            "post": {
                "operationId": f"place-{what}",
                "summary": f"Where in the S3 store the content of the {what} is to be put.",
                "security": ticket,
                "requestBody": body,
                "responses": {**said, **_refusals(400, 401, 403, 404, 405, 413, 415, 503)},
            },
            "put": {
                "operationId": f"settle-{what}",
                "summary": "It was put there.",
                "security": ticket,
                "requestBody": body,
                "responses": {
                    "201": {"description": "It is there, in its size."},
                    **_refusals(400, 401, 403, 404, 405, 413, 415, 422, 503),
                },
            },
        }
    }


def _poll() -> Object:
    headers = ("Glidebridge-Link", "Glidebridge-Wait", "Glidebridge-Turn")
    return {
        "/v1/poll": {
            "post": {
                "operationId": "poll",
                "summary": "A frame in, a frame out, where WebSockets do not pass.",
                "parameters": [
                    {"name": name, "in": "header", "schema": {"type": "string"}} for name in headers
                ],
                "requestBody": {"content": _content()},
                "responses": {
                    "200": {"description": "The next frame.", "content": _content()},
                    **_refusals(405, 410, 413, 415),
                },
            }
        }
    }
