"""The grid seen by its users: the Python API, and the command `xw` (cli.py).

    from desktopgrid.client import Description, Grid, GridExecutor

What is named here is what later versions keep; it is loaded when it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from desktopgrid.client.futures import (
        GridExecutor,
        GridFuture,
        NamedData,
        PrivateWorks,
        RemoteError,
        WorkFailed,
    )
    from desktopgrid.client.grid import Grid, Submitted
    from desktopgrid.client.shipping import NotShippable
    from desktopgrid.model.objects import Data, Description, Result

_HOMES = {
    "Data": "desktopgrid.model.objects",
    "Description": "desktopgrid.model.objects",
    "Grid": "desktopgrid.client.grid",
    "GridExecutor": "desktopgrid.client.futures",
    "GridFuture": "desktopgrid.client.futures",
    "NamedData": "desktopgrid.client.futures",
    "NotShippable": "desktopgrid.client.shipping",
    "PrivateWorks": "desktopgrid.client.futures",
    "RemoteError": "desktopgrid.client.futures",
    "Result": "desktopgrid.model.objects",
    "Submitted": "desktopgrid.client.grid",
    "WorkFailed": "desktopgrid.client.futures",
}

__all__ = [
    "Data",
    "Description",
    "Grid",
    "GridExecutor",
    "GridFuture",
    "NamedData",
    "NotShippable",
    "PrivateWorks",
    "RemoteError",
    "Result",
    "Submitted",
    "WorkFailed",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
