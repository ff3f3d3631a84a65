"""Whom we trust: the grid's own CA, or the one certificate that is named, and nobody else."""

from __future__ import annotations

import ssl
from functools import lru_cache

from desktopgrid.model.errors import BadRequest

PARTIAL_CHAIN = getattr(ssl, "VERIFY_X509_PARTIAL_CHAIN", 0x80000)
"""X509_V_FLAG_PARTIAL_CHAIN; Python has no name for it before 3.10."""


@lru_cache(maxsize=16)
def pinned(ca: str) -> ssl.SSLContext:
    """A context that accepts the servers which ``ca`` (PEM) has certified, each under its own name,
    or the one server whose own certificate it is; raises BadRequest for a wrong ``ca``.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # certificate and host name are checked
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= PARTIAL_CHAIN
    context.options |= ssl.OP_NO_COMPRESSION
    # So that writing never has to read first, whatever the server asks for (before TLS 1.3).
    context.options |= ssl.OP_NO_RENEGOTIATION
    try:
        context.load_verify_locations(cadata=ca)
    except (ssl.SSLError, ValueError) as error:
        raise BadRequest(f"the grid's CA must be a certificate in PEM: {error}") from None
    return context
