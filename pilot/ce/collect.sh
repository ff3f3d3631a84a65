#!/bin/sh
# collect.sh KEPT COUNT OUTPUT... PROGRAM ARGUMENT...
#
# Runs PROGRAM, then moves those of the COUNT outputs that are there into the directory KEPT, as
# 0, 1 and so on. Ends with PROGRAM's exit code; hands SIGTERM on to it. Its own directory is PROGRAM's
# TMPDIR, too.
TMPDIR=$PWD
export TMPDIR
kept=$1
count=$2
shift 2
outputs=
while [ "$count" -gt 0 ]; do
    outputs="$outputs$1
"
    shift
    count=$((count - 1))
done
# A file that came with the job may have lost this on its way.
case $1 in ./*) chmod u+x "$1" ;; esac

"$@" &
program=$!
trap 'interrupted=yes; kill -TERM "$program" 2> /dev/null' TERM
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

mkdir -p "$kept"
number=0
printf %s "$outputs" | while IFS= read -r output; do
    # What is reached through a symbolic link is another one's file.
    path=$output
    while [ ! -L "./$path" ] && [ "$path" != "${path%/*}" ]; do path=${path%/*}; done
    if [ ! -L "./$path" ] && [ -f "./$output" ]; then
        mv -f "./$output" "$kept/$number"
    fi
    number=$((number + 1))
done
exit "$code"
