"""A TLS connection that one thread reads and any thread writes, none of them waiting for the other.

Why not an ``ssl.SSLSocket``: OpenSSL's connection objects are not thread-safe, and CPython locks
them only from 3.13 on; before, a thread in ``recv`` and one in ``send`` may be inside the same
object at once. A lock around both would let a reader that waits for the peer keep all writers
waiting. One thread that owns the object and is woken for each write costs two context switches a
message.

So the TLS object stands between two memory buffers (``ssl.MemoryBIO``) behind one lock, and the
socket does not block. Nothing waits while it holds the lock: the reader waits in ``poll`` outside
of it, and takes it to decrypt what ``recv`` gave; a writer encrypts and sends in its own thread, at
once. What the socket does not take is kept, and the reader, who waits anyway, sends it when the
socket takes more. Thus a writer never blocks, and reader and peer cannot wait for each other to
read.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
import threading
import time
from contextlib import suppress

from desktopgrid.link.errors import ConnectionLost, ForeignServer, in_words

RECEIVE = 256 << 10
"""Bytes to ask the socket for at once: many messages a wake-up."""

RECORD = 16 << 10
"""Bytes that one TLS record can hold: what one call decrypts at most."""


class Waker:
    """Lets any thread end another one's ``poll``."""

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._reading, False)
        os.set_blocking(self._writing, False)
        self._lock = threading.Lock()
        self.is_set = False
        self._is_closed = False

    def fileno(self) -> int:
        """What to poll."""
        return self._reading

    def wake(self) -> None:
        """End the present or the next ``poll``."""
        with self._lock:
            if not (self.is_set or self._is_closed):
                self.is_set = True
                os.write(self._writing, b"!")

    def reset(self) -> None:
        """Take back what ``wake`` did."""
        with self._lock:
            if self.is_set and not self._is_closed:
                self.is_set = False
                os.read(self._reading, 16)

    def close(self) -> None:
        """Give the pipe back."""
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                os.close(self._reading)
                os.close(self._writing)


class Stream:
    """Bytes over TLS: ``read`` belongs to one thread, all else is anybody's."""

    def __init__(self, connection: socket.socket, context: ssl.SSLContext, host: str) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._lock = threading.Lock()
        self._rest = b""  # ciphertext that the socket has not taken
        self._buffer = memoryview(bytearray(RECEIVE))
        self._is_ended = False  # the peer has said its last byte
        self._is_closed = False
        self._waker = Waker()
        self._polls_writing = False
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)
        self._poll.register(self._waker, select.POLLIN)
        self.heard_at = time.monotonic()
        """When the last byte came."""

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "open"
        return f"<Stream {state}, {len(self._rest)} bytes not taken by the socket>"

    def fileno(self) -> int:
        """What to poll where one thread reads several streams."""
        return self._socket.fileno()

    def shake_hands(self, deadline: float) -> None:
        """Agree on keys with a server that our CA has certified; raises ConnectionLost."""
        while True:
            try:
                with self._lock:
                    self._tls.do_handshake()
                    self._flush()
                return
            except ssl.SSLWantReadError:
                with self._lock:
                    self._flush()
            except ssl.SSLCertVerificationError as error:
                raise ForeignServer(
                    f"the server showed no certificate of this grid: {error.verify_message}"
                ) from error
            except ssl.SSLError as error:
                raise ConnectionLost(f"TLS failed: {in_words(error)}") from error
            left = deadline - time.monotonic()
            if left <= 0:
                raise ConnectionLost("the server did not answer in time")
            try:
                self._wait(left)
                if self._receive():
                    with self._lock:
                        self._fill_from_buffer()
            except OSError as error:
                raise ConnectionLost(
                    f"the connection broke before TLS was set up: {in_words(error)}"
                ) from error

    @property
    def is_full(self) -> bool:
        """Whether the socket has not taken all that was written."""
        return bool(self._rest)

    def write(self, data: bytes) -> bool:
        """Send ``data``, or keep what the socket does not take for the reader to send; whether all
        of it is out.
        """
        try:
            with self._lock:
                if self._is_closed:
                    raise ConnectionLost("the connection is closed")
                self._tls.write(data)
                is_out = self._flush()
        except OSError as error:
            raise ConnectionLost(f"cannot send: {in_words(error)}") from error
        if not is_out:
            self._waker.wake()
        return is_out

    def read(self, timeout: float | None = None) -> bytes:
        """All that has come; nothing if nothing did within ``timeout`` or before somebody called
        ``wake``. Raises ConnectionLost at the end.
        """
        if self._is_ended:
            raise ConnectionLost("the server closed the connection")
        try:
            self._wait(timeout)
            if not self._receive():
                return b""
            with self._lock:
                self._fill_from_buffer()
                data = self._decrypted()
                if self._outgoing.pending:
                    self._flush()
        except OSError as error:
            raise ConnectionLost(f"cannot receive: {in_words(error)}") from error
        return data

    def drain(self, timeout: float) -> None:
        """Wait until the socket has taken all that was written. For the reading thread."""
        deadline = time.monotonic() + timeout
        poll = select.poll()
        poll.register(self._socket, select.POLLOUT)
        try:
            while self._rest:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise ConnectionLost("the server takes no more")
                poll.poll(left * 1000)
                with self._lock:
                    self._flush()
        except OSError as error:
            raise ConnectionLost(f"cannot send: {in_words(error)}") from error

    def wake(self) -> None:
        """End the present or the next ``read`` of the other thread."""
        self._waker.wake()

    def close(self) -> None:
        """Say that this was all, if the socket takes it, and close. For the reading thread."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            with suppress(OSError, ValueError):  # it wants to read the peer's goodbye; we do not
                self._tls.unwrap()
            with suppress(OSError):
                self._flush()
            self._socket.close()
            self._waker.close()

    def abort(self) -> None:
        """Make the present and every later ``read`` fail. For any thread."""
        with self._lock:
            if not self._is_closed:
                with suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)
        self._waker.wake()

    def _wait(self, timeout: float | None) -> None:
        """Wait for bytes, a wake-up or the time; send what was kept when the socket takes it."""
        if self._polls_writing != bool(self._rest):
            self._polls_writing = not self._polls_writing
            wanted = select.POLLIN | (select.POLLOUT if self._polls_writing else 0)
            self._poll.modify(self._socket, wanted)
        # Rounded up: a wait that ends too early is repeated at once, and burns the processor.
        self._poll.poll(int(timeout * 1000) + 1 if timeout else timeout)
        if self._waker.is_set:
            self._waker.reset()
        if self._rest:
            with self._lock:
                self._flush()

    def _receive(self) -> bool:
        """Take from the socket what there is; whether there was something."""
        try:
            self._received = self._socket.recv_into(self._buffer)
        except (BlockingIOError, InterruptedError):
            return False
        if not self._received:
            raise ConnectionLost("the server closed the connection")
        self.heard_at = time.monotonic()
        return True

    def _fill_from_buffer(self) -> None:
        self._incoming.write(self._buffer[: self._received])

    def _decrypted(self) -> bytes:
        """All that can be decrypted now. The lock is held."""
        chunks: list[bytes] = []
        tls, incoming = self._tls, self._incoming
        while True:
            try:
                chunk = tls.read(RECORD)
            except ssl.SSLWantReadError:
                break
            if not chunk:
                self._is_ended = True
                break
            chunks.append(chunk)
            if not incoming.pending and not tls.pending():
                break
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _flush(self) -> bool:
        """Send what is ready until the socket takes no more; whether all is out. Holds the lock."""
        if self._outgoing.pending:
            self._rest += self._outgoing.read()
        view = memoryview(self._rest)
        try:
            while view:
                view = view[self._socket.send(view) :]
        except (BlockingIOError, InterruptedError):
            pass
        self._rest = bytes(view)
        return not self._rest
