#!/usr/bin/env python3
"""The application `python`: makes one call that a GridExecutor shipped, and tells what came of it.

It runs on the worker, under Python 3.9 and later, with the standard library alone. The call is
JSON, in the first argument or on standard input. What the call prints goes where it always went;
the last line of standard output is the frame: the task's marker and JSON with the value, or with
the error's type, message and traceback.
"""

from __future__ import annotations

import base64
import importlib
import json
import linecache
import os
import pickle
import sys
import traceback
import types
from collections.abc import Callable
from typing import Any

VERSION = 1


def main() -> None:
    """Make the call of the first argument, or of standard input."""
    stdout = os.dup(1)
    task = json.loads(sys.argv[1] if len(sys.argv) > 1 else sys.stdin.read())
    answer = answer_to(task)
    # What the call printed comes first; what it left running cannot come into the middle.
    sys.stdout.flush()
    frame = f"\n{task['marker']} {json.dumps(answer)}\n".encode()
    while frame:
        frame = frame[os.write(stdout, frame) :]


def answer_to(task: dict[str, Any]) -> dict[str, Any]:
    """What came of a call: ``{"value"}``, ``{"pickle"}`` or ``{"error"}``."""
    try:
        if task.get("version") != VERSION:
            raise RuntimeError(f"this runner makes calls of version {VERSION} only")
        function = function_of(task["call"])
        value = function(*task["args"], **task["kwargs"])
        return encoded(value, task["results"])
    except BaseException as error:  # a call that exits or is interrupted has an answer, too
        return {"error": told(error)}


def encoded(value: Any, form: str) -> dict[str, Any]:
    """``value`` as the caller wants it; raises TypeError for what is not JSON."""
    if form == "pickle":
        return {"pickle": base64.b64encode(pickle.dumps(value)).decode()}
    check_json(value)
    return {"value": value}


def check_json(value: Any) -> None:
    """Raise TypeError for what JSON would not give back as it is; a tuple may become a list."""
    if isinstance(value, dict):
        for key, item in value.items():
            if type(key) is not str:
                raise TypeError(f"the key {key!r} of a dict is no text, and so is not JSON")
            check_json(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            check_json(item)
    elif not (value is None or type(value) in (bool, int, float, str)):
        raise TypeError(f"{value!r:.60} is a {type(value).__name__}, which is not JSON")


def function_of(call: dict[str, Any]) -> Callable[..., Any]:
    """The function that a call names, or brings along in source."""
    if "reference" in call:
        function: Callable[..., Any] = found(call["reference"])
        return function
    # Under the name that its caller knows it by, so that pickled values find their classes there.
    module = types.ModuleType(call["module"])
    sys.modules[call["module"]] = module
    package = call["module"].rpartition(".")[0]
    while package:
        sys.modules.setdefault(package, types.ModuleType(package))
        package = package.rpartition(".")[0]
    space = module.__dict__
    space.update(call["values"])
    for name, imported in call["imports"].items():
        space[name] = importlib.import_module(imported)
    for name, reference in call["references"].items():
        space[name] = found(reference)
    for number, source in enumerate(call["sources"]):
        file = f"<shipped {number}: {call['name']}>"
        linecache.cache[file] = (len(source), None, source.splitlines(True), file)
        # Annotations are not evaluated: what they name need not be here.
        code = compile(source, file, "exec", flags=ANNOTATIONS, dont_inherit=True)
        exec(code, space)  # noqa: S102 - to run its user's code is what a worker is for
    shipped: Callable[..., Any] = space[call["name"]]
    return shipped


ANNOTATIONS = __import__("__future__").annotations.compiler_flag


def found(reference: str) -> Any:
    """What ``module:name.name`` stands for."""
    module, _, path = reference.partition(":")
    thing: Any = importlib.import_module(module)
    for name in path.split("."):
        thing = getattr(thing, name)
    return thing


def told(error: BaseException) -> dict[str, str]:
    """An error as text; the traceback begins where the call's own code does."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    lines = traceback.format_exception(type(error), error, trace)
    return {
        "type": type(error).__qualname__,
        "module": type(error).__module__,
        "message": str(error),
        "traceback": "".join(lines),
    }


if __name__ == "__main__":
    main()
