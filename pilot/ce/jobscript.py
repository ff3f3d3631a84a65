"""The script that a batch system runs for a job: it starts the program, and cleans up after it.

It hands SIGTERM on to the program and outlives it, because it has to write down how that ended.
Nothing of it is secret, and every value in it is quoted.
"""

from __future__ import annotations

from pilot.ce.base import JobDescription
from pilot.ce.shell import quoted

PATH = "/usr/local/bin:/usr/bin:/bin"

NOT_STARTED = 83
"""The exit code of a job that its script did not start."""
TOO_LATE = "Aborted it waited longer than it was to"

TIDY = """for file in *; do
        case $file in out | err) ;; *) rm -rf -- "./$file" ;; esac
    done"""
"""Remove what a job had, in its directory; what tells how it ended stays."""

SCRIPT = """#!/bin/sh
umask 077
cd -- {directory} || exit 70
{redirection}
if [ -e .started ]; then
    echo 'This job has been started before, and it starts only once.' >&2
    exit {not_started}
fi
: > .started
PATH={path} TMPDIR=$PWD
export PATH TMPDIR
if [ "$(date +%s)" -gt {latest} ]; then
    echo {too_late} > .ended
    code={not_started}
else
    trap 'interrupted=yes; kill -TERM "$program" 2> /dev/null' TERM
    interrupted= program=
    {command} < /dev/null &
    program=$!
    if [ -n "$interrupted" ]; then kill -TERM "$program"; fi
    code=127
    while :; do
        interrupted=
        wait "$program"
        last=$?
        # 127: an earlier round has seen its end already.
        [ "$last" = 127 ] && [ "$code" != 127 ] || code=$last
        [ -n "$interrupted" ] || break
    done
    trap '' TERM
fi
mkdir .kept
number=0
while IFS= read -r output; do
    # What is reached through a symbolic link is another one's file.
    path=$output
    while [ ! -L "./$path" ] && [ "$path" != "${{path%/*}}" ]; do path=${{path%/*}}; done
    if [ ! -L "./$path" ] && [ -f "./$output" ]; then mv -f "./$output" ".kept/$number"; fi
    number=$((number + 1))
done < .outputs
{tidy}
echo "$code" > .exit.new && mv .exit.new .exit
exit "$code"
"""


def job_script(job: JobDescription, directory: str, latest: int, redirects: bool) -> str:
    """What runs ``job`` in ``directory``, if that is before ``latest`` (seconds since 1970)."""
    name = job.program.name
    words = [f"./{name}"] if job.python is None else [job.python, name]
    return SCRIPT.format(
        directory=quoted(directory),
        redirection="exec > out 2> err" if redirects else ":",
        path=PATH,
        latest=latest,
        command=" ".join(map(quoted, [*words, *job.arguments])),
        tidy=TIDY,
        not_started=NOT_STARTED,
        too_late=quoted(TOO_LATE),
    )
