"""Whom we trust: the grid's own CA and nobody else."""

from __future__ import annotations

import ssl
from functools import lru_cache

from desktopgrid.model.errors import BadRequest


@lru_cache(maxsize=16)
def pinned(ca: str) -> ssl.SSLContext:
    """A context that accepts the servers which ``ca`` (PEM) has certified, each under its own name;
    raises BadRequest for a wrong ``ca``.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # certificate and host name are checked
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION
    # So that writing never has to read first, whatever the server asks for (before TLS 1.3).
    context.options |= ssl.OP_NO_RENEGOTIATION
    try:
        context.load_verify_locations(cadata=ca)
    except (ssl.SSLError, ValueError) as error:
        raise BadRequest(f"the grid's CA must be a certificate in PEM: {error}") from None
    return context
