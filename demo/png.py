"""A PNG, written with the standard library alone."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

SIGNATURE = b"\x89PNG\r\n\x1a\n"


class Canvas:
    """Pixels of three bytes each, black until they are painted."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._rows = [bytearray(3 * width) for _ in range(height)]

    def paint(self, top: int, left: int, width: int, pixels: bytes) -> None:
        """Put a rectangle of so many columns at its place."""
        for number in range(len(pixels) // (3 * width)):
            line = pixels[3 * width * number : 3 * width * (number + 1)]
            self._rows[top + number][3 * left : 3 * (left + width)] = line

    def write(self, path: Path) -> None:
        """Make ``path`` this picture."""
        # RGB of 8 bits a colour; each line is the difference from the one above it (filter 2).
        header = struct.pack(">IIBBBBB", self.width, self.height, 8, 2, 0, 0, 0)
        above = bytearray(3 * self.width)
        packer = zlib.compressobj(9)
        packed = b""
        for row in self._rows:
            line = bytes((here - over) & 0xFF for here, over in zip(row, above, strict=True))
            packed += packer.compress(b"\x02" + line)
            above = row
        packed += packer.flush()
        parts = ((b"IHDR", header), (b"IDAT", packed), (b"IEND", b""))
        path.write_bytes(SIGNATURE + b"".join(_chunk(kind, content) for kind, content in parts))


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)
