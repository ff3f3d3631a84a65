"""XML for JSDL and ADL: read with limits and without entities, written by hand.

Every element that nobody asks for is named in a notice.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Union
from xml.etree.ElementTree import ParseError
from xml.sax.saxutils import escape, quoteattr

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from jdl.errors import BadDescription, Unsayable
from jdl.job import Draft

LONGEST_TEXT = 1 << 20
DEEPEST_NESTING = 32


class Node:
    """An element whose children are taken one by one; those that are left are notices."""

    def __init__(self, name: str, namespace: str, attributes: dict[str, str], line: int) -> None:
        self.name, self.namespace, self.line = name, namespace, line
        self.attributes = attributes
        self.text = ""
        self.children: list[Node] = []

    def take(self, name: str, namespace: str | None = None) -> Node | None:
        """The only child of that name, which counts as read; raises BadDescription if several."""
        found = self.take_all(name, namespace)
        if len(found) > 1:
            raise BadDescription("it is said twice", name, found[1].line)
        return found[0] if found else None

    def take_all(self, name: str, namespace: str | None = None) -> list[Node]:
        """All children of that name, which count as read."""
        space = self.namespace if namespace is None else namespace
        found = [each for each in self.children if (each.namespace, each.name) == (space, name)]
        self.children = [each for each in self.children if each not in found]
        return found

    def leftovers(self, draft: Draft, reasons: dict[str, str]) -> None:
        """Name the children that nobody took."""
        for each in self.children:
            text = reasons.get(each.name, "this element is not understood")
            draft.note(each.name, text, each.line)


class _Builder:
    """What the parser calls: builds nodes with the lines they begin on."""

    def __init__(self) -> None:
        self.parser: DefusedXMLParser | None = None
        self.open: list[Node] = []
        self.root: Node | None = None

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """An element begins."""
        namespace, _, name = tag.rpartition("}")
        line = self.parser.parser.CurrentLineNumber if self.parser else 1
        if len(self.open) >= DEEPEST_NESTING:
            raise BadDescription(f"nested deeper than {DEEPEST_NESTING}", name, line)
        node = Node(name, namespace.lstrip("{"), dict(attributes), line)
        if self.open:
            self.open[-1].children.append(node)
        else:
            self.root = node
        self.open.append(node)

    def end(self, tag: str) -> None:
        """An element ends."""
        self.open.pop()

    def data(self, text: str) -> None:
        """Text within an element."""
        if self.open:
            self.open[-1].text += text

    def close(self) -> Node | None:
        """The end of the document."""
        return self.root


def parse(text: str) -> Node:
    """The root of a document; raises BadDescription."""
    if len(text) > LONGEST_TEXT:
        raise BadDescription(f"{len(text)} characters; at most {LONGEST_TEXT}")
    builder = _Builder()
    parser = DefusedXMLParser(target=builder, encoding="utf-8", forbid_dtd=True)
    builder.parser = parser
    try:
        # The text was decoded already, whatever its declaration says of an encoding.
        parser.feed(text.encode())
        parser.close()
    except (ParseError, DefusedXmlException, UnicodeEncodeError, ValueError, LookupError) as error:
        line = getattr(error, "position", (None, 0))[0]
        reason = str(error) if isinstance(error, ParseError) else "a document type is not allowed"
        raise BadDescription(f"this is no well-formed XML: {reason}", line=line) from None
    if builder.root is None:
        raise BadDescription("this is no XML: there is no element")
    return builder.root


Tree = tuple[str, dict[str, str], Union[str, "list[Tree]"]]
"""An element to be written: its name with the prefix, its attributes, its text or its children."""


def element(name: str, content: str | list[Tree] = "", /, **attributes: str) -> Tree:
    """An element to be written."""
    return name, attributes, content


def write(language: str, tree: Tree) -> str:
    """A document; raises Unsayable for characters that XML has none for."""
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + "".join(_lines(language, tree, ""))


def _lines(language: str, tree: Tree, indent: str) -> Iterator[str]:
    name, attributes, content = tree
    pairs = (f" {key}={quoteattr(value, _KEPT)}" for key, value in attributes.items())
    head = f"{indent}<{name}{''.join(pairs)}"
    for text in (*attributes.values(), content if isinstance(content, str) else ""):
        for character in text:
            if not _is_character(character):
                raise Unsayable(
                    language, name.partition(":")[2] or name, f"XML has no {character!r}"
                )
    if not content:
        yield f"{head}/>\n"
    elif isinstance(content, str):
        yield f"{head}>{escape(content, {chr(13): '&#13;'})}</{name}>\n"
    else:
        yield f"{head}>\n"
        for child in content:
            yield from _lines(language, child, f"{indent}  ")
        yield f"{indent}</{name}>\n"


_KEPT = {"\r": "&#13;", "\n": "&#10;", "\t": "&#9;"}


def _is_character(character: str) -> bool:
    """Whether XML 1.0 allows it (2.2)."""
    code = ord(character)
    return (
        code in (9, 10, 13) or 0x20 <= code <= 0xD7FF or 0xE000 <= code <= 0xFFFD or code > 0xFFFF
    )
