"""A disk that is full again and again, in both ways that a test can fill it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.disks import Cramped, ShortFiles, SmallDisk, cubist, fill_under_load

pytestmark = pytest.mark.soak

TIMES = 20


@pytest.mark.parametrize("kind", [SmallDisk, ShortFiles])
def test_a_disk_that_is_full_again_and_again_loses_nothing(
    kind: type[Cramped], tmp_path: Path
) -> None:
    if kind is SmallDisk and not SmallDisk.is_possible():
        pytest.skip("this account may not mount a file system of its own (unshare -rm)")
    server = kind(tmp_path)
    try:
        server.start()
        fill_under_load(server, cubist(server), TIMES)
    finally:
        server.close()
