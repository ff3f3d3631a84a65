"""A function as something that can be sent: by reference where the worker has it anyway, else as
source.

With a function goes what it uses of the module around it: other functions and classes as source,
modules by name, constants as JSON. What cannot go along is refused here, by name, and not on the
worker. The other end of this is runner.py.
"""

from __future__ import annotations

import ast
import builtins
import dis
import functools
import inspect
import sys
import textwrap
import types
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from desktopgrid.client.runner import check_json
from desktopgrid.model.errors import BadRequest

KEPT = 256
"""Functions whose text is remembered: to read it anew for each call would cost more than that."""


class NotShippable(BadRequest, TypeError):
    """A function, an argument or something that a function uses cannot be sent."""


@dataclass
class _Parcel:
    """What goes along with a function, by the name under which it is used."""

    sources: dict[str, str] = field(default_factory=dict)
    imports: dict[str, str] = field(default_factory=dict)
    references: dict[str, str] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    owners: dict[str, Any] = field(default_factory=dict)


def call_of(function: Callable[..., Any], modules: Collection[str] = ()) -> dict[str, Any]:
    """``function`` as runner.py takes it; raises NotShippable.

    The worker is taken to have the standard library and ``modules`` (top-level names); what is
    defined elsewhere travels as source.
    """
    if reference := _reference(function, modules):
        return {"reference": reference}
    if not hasattr(function, "__name__") or inspect.ismethod(function):
        raise NotShippable(f"{function!r} is no function; only functions can be sent")
    parcel = _Parcel()
    name = "shipped" if _is_lambda(function) else function.__name__
    _add(parcel, name, function, modules)
    return {
        "name": name,
        "module": function.__module__,
        # What is used by others comes before them: decorators and base classes are needed at once.
        "sources": list(parcel.sources.values()),
        "imports": parcel.imports,
        "references": parcel.references,
        "values": parcel.values,
    }


def check_arguments(args: Collection[Any], kwargs: Mapping[str, Any]) -> None:
    """Raise NotShippable for an argument that is not JSON."""
    try:
        check_json(list(args))
        check_json(dict(kwargs))
    except TypeError as error:
        raise NotShippable(f"an argument cannot be sent: {error}; or send it as a data") from None


def _reference(thing: Any, modules: Collection[str]) -> str | None:
    """``module:name`` of what the worker has; None for what it has not."""
    module = getattr(thing, "__module__", None)
    name = getattr(thing, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or "<" in name:
        return None
    top = module.partition(".")[0]
    if top not in sys.stdlib_module_names and top not in modules:
        return None
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return f"{module}:{name}" if found is thing else None


def _add(parcel: _Parcel, name: str, thing: Any, modules: Collection[str]) -> None:
    """Put ``thing``, and what it uses in turn, into the parcel under ``name``."""
    if name in parcel.owners:
        known = parcel.owners[name]
        if known is not thing and not (name in parcel.values and known == thing):
            raise NotShippable(f"two different things are called {name!r} in what would be sent")
        return
    parcel.owners[name] = thing
    if isinstance(thing, types.ModuleType):
        parcel.imports[name] = thing.__name__
    elif reference := _reference(thing, modules):
        parcel.references[name] = reference
    elif isinstance(thing, type) or isinstance(inspect.unwrap(thing), types.FunctionType):
        _add_source(parcel, name, thing, modules)
    else:
        try:
            check_json(thing)
        except TypeError as error:
            raise NotShippable(f"{name!r} is used but cannot go along: {error}") from None
        parcel.values[name] = thing


def _add_source(parcel: _Parcel, name: str, thing: Any, modules: Collection[str]) -> None:
    if _is_lambda(thing):
        source = f"{name} = ({_lambda_source(thing)})\n"
    elif name == thing.__name__:
        source = _source(thing)
    else:
        raise NotShippable(f"{thing.__name__!r} is used as {name!r}; only its own name can be sent")
    around = _surroundings(thing)
    for used in _names(thing, source):
        if used in around:
            _add(parcel, used, around[used], modules)
        elif not hasattr(builtins, used):
            raise NotShippable(f"{name} uses {used!r}, which is defined nowhere")
    parcel.sources[name] = source


def _is_lambda(thing: Any) -> bool:
    return getattr(thing, "__name__", "") == "<lambda>"


@functools.lru_cache(KEPT)
def _lambda_source(thing: Any) -> str:
    """The text of a lambda, cut out of the lines around it."""
    code = thing.__code__
    try:
        text = "".join(inspect.findsource(code)[0])
        candidates = [each for each in ast.walk(ast.parse(text)) if isinstance(each, ast.Lambda)]
    except (OSError, SyntaxError):
        raise NotShippable("the source of a lambda is not to be had; put it into a file") from None
    places = set()
    for line, last_line, column, last_column in code.co_positions():
        # What is no part of the text has no width.
        if None not in (line, last_line, column, last_column) and column != last_column:
            places.add((line, column))
    for each in candidates:
        body = each.body
        begin, end = (body.lineno, body.col_offset), (body.end_lineno, body.end_col_offset)
        if each.lineno == code.co_firstlineno and places and begin == min(places) < end:
            return ast.get_source_segment(text, each) or ""
    raise NotShippable("the source of a lambda is not to be found; use def")


@functools.lru_cache(KEPT)
def _source(thing: Any) -> str:
    try:
        source = textwrap.dedent(inspect.getsource(thing))
        ast.parse(source)
    except (OSError, TypeError, SyntaxError):
        raise NotShippable(
            f"the source of {thing.__name__} is not to be had; put it into a file"
        ) from None
    return source


def _surroundings(thing: Any) -> Mapping[str, Any]:
    """What names may mean in ``thing``: its module's, and above them those of the functions around
    it.
    """
    if isinstance(thing, type):
        return vars(sys.modules[thing.__module__])
    function = inspect.unwrap(thing)
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    try:
        return {**function.__globals__, **{name: cell.cell_contents for name, cell in cells}}
    except ValueError:
        raise NotShippable(f"{function.__name__} uses a name before it has a value") from None


@functools.lru_cache(KEPT)
def _names(thing: Any, source: str) -> list[str]:
    """The names of its surroundings that ``thing`` uses, in the order of their use."""
    (node, *_) = ast.parse(source).body
    if isinstance(thing, type):
        found = [*_class_names(node, vars(sys.modules[thing.__module__]))]
    else:
        function = inspect.unwrap(thing)
        found = [*_head_names(node), *_loaded(function.__code__), *function.__code__.co_freevars]
    return [name for name in dict.fromkeys(found) if name != thing.__name__]


def _head_names(node: ast.stmt) -> Iterator[str]:
    """Names in decorators and defaults, which are evaluated where the function is defined."""
    head: list[ast.expr] = []
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        head += [*node.decorator_list, *_defaults(node.args)]
    elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda):
        head += _defaults(node.value.args)
    for part in head:
        yield from (each.id for each in ast.walk(part) if isinstance(each, ast.Name))


def _defaults(arguments: ast.arguments) -> list[ast.expr]:
    return [*arguments.defaults, *(each for each in arguments.kw_defaults if each)]


def _class_names(node: ast.stmt, around: Mapping[str, Any]) -> Iterator[str]:
    for each in ast.walk(node):
        if isinstance(each, ast.Name) and each.id in around:
            yield each.id


def _loaded(code: types.CodeType) -> Iterator[str]:
    """Names that the code looks up around itself, functions within it included."""
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _loaded(constant)


def plain(
    function: Callable[..., Any],
) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    """A partial as the function behind it and the arguments that it has already."""
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    while isinstance(function, functools.partial):
        args = (*function.args, *args)
        kwargs = {**function.keywords, **kwargs}
        function = function.func
    return function, args, kwargs
