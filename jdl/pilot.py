"""A pilot as a job: what pilot bundles need of a site, to be written in the site's language.

The templates in jdl/templates are what the writers make of it; a test makes them again.
"""

from __future__ import annotations

from jdl.job import File, Job

BUNDLE = "pilot.pyz"
IDENTITY = "pilot.identity"
WALL_TIME = 12 * 3600


def pilot_job(
    cores: int = 1, memory_mib: int = 1024, wall_time: int = WALL_TIME, queue: str = ""
) -> Job:
    """A pilot that runs the bundle with its enrolment file beside it, and goes when nothing is left
    to do or its wall time (in seconds) is nearly over.

    Both files are taken from the directory that the description is submitted from. The enrolment
    file holds a secret and is named, never quoted.
    """
    return Job(
        executable=BUNDLE,
        arguments=(
            *("--identity", IDENTITY),
            *("--idle", "300"),
            *("--lifetime", str(wall_time)),
            *("--slots", str(cores)),
            *("--memory", str(memory_mib)),
        ),
        stdout="pilot.out",
        stderr="pilot.err",
        inputs=(File(BUNDLE), File(IDENTITY)),
        cores=cores,
        memory_mib=memory_mib,
        wall_time=wall_time,
        queue=queue,
    )
