"""Large contents in an S3 store: this server signs URLs, clients and workers move the bytes.

An object is named by the content's SHA-256 and by whoever brought it, so that nobody can write over
what another one's data or work needs. The store may not check what it is given: its size is asked
for before it counts, and whoever fetches it checks the digest. The secret key stays here.
"""

from __future__ import annotations

import base64
import configparser
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from desktopgrid.model.errors import ConfigurationError, Unavailable
from desktopgrid.server.config import StoreSection

PATIENCE = 10
"""Seconds to wait for the store, once again after it has failed."""
NEVER = float("inf")
KEYS = ("aws_access_key_id", "aws_secret_access_key")


class ObjectStore:
    """The bucket that ``settings`` name. Only the URLs are made without asking it."""

    def __init__(self, settings: StoreSection) -> None:
        self._settings = settings
        try:
            boto3 = importlib.import_module("boto3")
            botocore = importlib.import_module("botocore.config")
        except ImportError as error:
            raise Unavailable(
                "server.conf names an S3 store, and boto3 is not here: install glidebridge[s3]"
            ) from error
        self._errors: tuple[type[Exception], ...] = (
            importlib.import_module("botocore.exceptions").BotoCoreError,
            importlib.import_module("botocore.exceptions").ClientError,
        )
        with self._translated("be used"):
            self._client = boto3.client(
                "s3",
                endpoint_url=settings.endpoint,
                region_name=settings.region,
                config=botocore.Config(
                    signature_version="s3v4",
                    s3={"addressing_style": "path"},
                    connect_timeout=PATIENCE,
                    read_timeout=PATIENCE,
                    retries={"total_max_attempts": 2},
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                ),
                **_credentials(settings.credentials),
            )

    def __repr__(self) -> str:
        return f"<ObjectStore {self._settings.endpoint}/{self._settings.bucket}>"

    def place(self, sha256: str, holder: str, size: int) -> tuple[str, dict[str, str]]:
        """Where ``holder`` may put this content, and what the request must say: good for no other
        size, nor for another digest where the store checks it.
        """
        digest = _in_base64(sha256)
        wanted = {"ContentLength": size, "ChecksumSHA256": digest}
        url = self._sign("put_object", sha256, holder, **wanted)
        return url, {"Content-Length": str(size), "x-amz-checksum-sha256": digest}

    def address(self, sha256: str, holder: str) -> str:
        """Where anybody may get the content that ``holder`` put, as long as the URL is good."""
        return self._sign("get_object", sha256, holder)

    def size(self, sha256: str, holder: str) -> int | None:
        """Bytes of what ``holder`` put under this digest; None if there is nothing."""
        found = self._look_at(sha256, holder)
        return None if found is None else int(found["ContentLength"])

    def fault(self, sha256: str, holder: str, size: int) -> str | None:
        """What is wrong with what ``holder`` put under this digest; None if nothing is, as far as
        the store tells: not every one looks at what it is given.
        """
        found = self._look_at(sha256, holder)
        if found is None:
            return "nothing came to the S3 store"
        if found["ContentLength"] != size:
            return f"{found['ContentLength']} bytes came to the S3 store, not {size} bytes"
        kept = found.get("ChecksumSHA256")
        # That of an object in parts is made of theirs, and says how many there are.
        if kept and "-" not in kept and kept != _in_base64(sha256):
            return "what came to the S3 store has another SHA-256"
        return None

    def contents(self, before: float) -> Iterator[tuple[str, str, int]]:
        """Digest, holder and size of what was put before then (seconds since the epoch)."""
        with self._translated("list its contents"):
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._settings.bucket):
                for found in page.get("Contents", ()):
                    sha256, _, holder = found["Key"].partition("-")
                    if len(sha256) == 64 and found["LastModified"].timestamp() < before:
                        yield sha256, holder, int(found["Size"])

    def remove(self, sha256: str, holder: str, before: float = NEVER) -> bool:
        """Delete what ``holder`` put under this digest, unless that was after ``before``; whether
        it is gone.
        """
        found = self._look_at(sha256, holder)
        if found is None or found["LastModified"].timestamp() >= before:
            return False
        with self._translated(f"remove {sha256}"):
            self._client.delete_object(Bucket=self._settings.bucket, Key=_key(sha256, holder))
        return True

    def _look_at(self, sha256: str, holder: str) -> Any:
        with self._translated(f"tell of {sha256}"):
            try:
                return self._client.head_object(
                    Bucket=self._settings.bucket,
                    Key=_key(sha256, holder),
                    ChecksumMode="ENABLED",
                )
            except self._errors as error:
                if _status(error) == 404:
                    return None
                raise

    def _sign(self, method: str, sha256: str, holder: str, **wanted: Any) -> str:
        with self._translated("be signed for"):
            url: str = self._client.generate_presigned_url(
                method,
                Params={"Bucket": self._settings.bucket, "Key": _key(sha256, holder), **wanted},
                ExpiresIn=int(self._settings.url_lifetime.total_seconds()),
            )
        return url

    @contextmanager
    def _translated(self, attempt: str) -> Iterator[None]:
        try:
            yield
        except self._errors as error:
            raise Unavailable(
                f"the S3 store {self._settings.endpoint} cannot {attempt}: {error}"
            ) from error


def _in_base64(sha256: str) -> str:
    """A digest as S3 writes it."""
    return base64.b64encode(bytes.fromhex(sha256)).decode()


def _key(sha256: str, holder: str) -> str:
    return f"{sha256}-{holder}"


def _status(error: Exception) -> int:
    response = getattr(error, "response", {})
    return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _credentials(path: Path) -> dict[str, str]:
    """The key in an AWS credentials file; none without a path, where boto3 looks for itself."""
    if path == Path():
        return {}
    try:
        mode = path.stat().st_mode & 0o777
        found = configparser.ConfigParser(interpolation=None)
        found.read_string(path.read_text())
    except OSError as error:
        raise ConfigurationError(str(path), 1, f"cannot be read: {error.strerror}") from error
    except configparser.Error:
        raise ConfigurationError(str(path), 1, "is no credentials file of AWS's kind") from None
    if mode & 0o077:
        message = f"others can read this secret (mode {mode:o}); chmod 600 the file"
        raise ConfigurationError(str(path), 1, message)
    values = {key: found.get("default", key, fallback="") for key in KEYS}
    if not all(values.values()):
        raise ConfigurationError(str(path), 1, f"[default] must have {' and '.join(KEYS)}")
    return values
