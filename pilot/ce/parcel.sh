#!/bin/sh
# A job of Glidebridge. Its files follow this script's last line, as a tar archive.
#
# What is known of it stands in $HOME/.glidebridge/STAMP, which the site's machines share:
#
#     contact     what GRAM calls it
#     work/       its own directory, while it runs
#     out, err    what it wrote
#     outputs     the names of the files that it may leave, a line each
#     kept/       these, by the numbers of their lines, once it has ended
#     exit        its exit code, once it has ended
#     removed     it was taken back; where this is there first, it does not start
umask 077
cd "$HOME" && mkdir -p .glidebridge && cd .glidebridge || exit 70
# It starts once: a pilot's enrolment secret is good for one.
mkdir @STAMP@ && cd @STAMP@ && mkdir work kept || exit 71
printf '%s\n' "$GLOBUS_GRAM_JOB_CONTACT" > contact
case $0 in /*) parcel=$0 ;; *) exit 72 ;; esac
tail -n +@LINE@ "$parcel" | tar -xpf - -C work || exit 73
mv work/.outputs outputs
trap 'kill -TERM "$job" 2> /dev/null' TERM
trap : INT HUP
(
    cd work || exit 74
    exec timeout --foreground --kill-after=60 @SECONDS@ /bin/sh collect.sh ../kept @COMMAND@
) > out 2> err < /dev/null &
job=$!
code=
while :; do
    wait "$job"
    last=$?
    # A signal ends the waiting, not the job; 127 is that of a job that was waited for already.
    [ "$last" = 127 ] && [ -n "$code" ] && break
    code=$last
    kill -0 "$job" 2> /dev/null || break
done
rm -rf work
echo "$code" > exit.new && mv exit.new exit
exit "$code"
