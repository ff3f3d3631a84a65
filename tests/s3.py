"""A real S3 server on loopback, which checks signatures: `rclone serve s3`."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.system.processes import until

KEY, SECRET = "AKIDTEST", "a secret of the store's"
BUCKET = "grid"


class S3:
    """The server, and what lies in its bucket, which is a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.bucket = directory / "root" / BUCKET
        self.bucket.mkdir(parents=True)
        self.credentials = directory / "credentials"
        self.credentials.write_text(
            f"[default]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n"
        )
        self.credentials.chmod(0o600)
        self._process: subprocess.Popen[bytes] | None = None
        self.address = "127.0.0.1:0"

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://{self.address}"

    @property
    def settings(self) -> dict[str, str]:
        """How a grid's server is told of it, in the words of ServerUnderTest."""
        return {
            "store__endpoint": self.url,
            "store__bucket": BUCKET,
            "store__credentials": str(self.credentials),
            "store__from_mib": "1",
        }

    def start(self) -> None:
        """Start it, on the port that it had before."""
        rclone = shutil.which("rclone", path=f"{Path(sys.executable).parent}:/usr/bin")
        assert rclone is not None
        log = self.directory / "log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [
                    *(rclone, "serve", "s3", "--auth-key", f"{KEY},{SECRET}"),
                    # Tests change files behind its back.
                    *("--dir-cache-time", "0s", "--vfs-cache-mode", "off"),
                    *("--addr", self.address, "--config", "/dev/null", self.directory / "root"),
                ],
                stdout=output,
                stderr=output,
            )
        said = until(lambda: re.search(r"http://([\d.:]+)", log.read_text()), "the S3 server")
        self.address = said[1]

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @property
    def objects(self) -> dict[str, int]:
        """Name and size of what lies there."""
        return {path.name: path.stat().st_size for path in self.bucket.iterdir()}


@contextlib.contextmanager
def an_s3(directory: Path) -> Iterator[S3]:
    """An S3 server that runs, ended afterwards."""
    server = S3(directory)
    try:
        server.start()
        yield server
    finally:
        server.stop()
