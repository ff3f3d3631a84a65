# What is asked at a site of GRAM's, by a job of its fork service. $1 is the question, the rest what
# it is about: stamps, or a stamp and a number. The last line of an answer is "end".
umask 077
question=$1
shift
mkdir -p "$HOME/.glidebridge" && cd "$HOME/.glidebridge" || exit

# Where job managers keep what they know, if that is where it is by default. A job's file is there
# as long as it is managed; its first line is what it is called by now, its third how far it is.
managed() {
    path=${1#https://*/}
    path=${path%/}
    for file in /var/lib/globus/gram_job_state/"${LOGNAME:-nobody}"/*/*/job."${path%/*}.${path#*/}"; do
        [ -f "$file" ] && sed -n '1p; 3p' "$file" | tr -d ' ' | tr '\n' ' '
    done
}

case $question in
    look)  # stamp, contact, exit code, whether it was removed, what GRAM calls it and its state
        for pair; do
            stamp=${pair%%=*}
            code=- removed=-
            [ -f "$stamp/exit" ] && code=$(cat "$stamp/exit")
            [ -f "$stamp/removed" ] && removed=removed
            started=-
            [ -f "$stamp/contact" ] && started=started
            echo "job $stamp $started $code $removed $(managed "${pair#*=}")"
        done
        # What nobody asks for any more.
        find . -mindepth 1 -maxdepth 1 -type d -mtime +10 -exec rm -rf {} +
        ;;
    find)  # what has started, and what waits: its parcel is in the cache, under GRAM's name for it
        for stamp; do
            [ -f "$stamp/contact" ] && echo "contact $stamp $(cat "$stamp/contact")"
        done
        globus-gass-cache -list 2> /dev/null | sed 's/^/cache /'
        ;;
    taken)  # they are to be over: what has not started will not
        for stamp; do
            mkdir -p "$stamp"
            [ -f "$stamp/exit" ] || : > "$stamp/removed"
        done
        ;;
    over)  # what was killed could not clear up behind itself
        for stamp; do
            [ -f "$stamp/removed" ] && rm -rf "$stamp/work"
        done
        ;;
    words)
        [ -f "$1/err" ] && echo "words $(tail -c 4096 "$1/err" | base64 | tr -d '\n')"
        ;;
    fetch)  # stamp, most bytes
        if [ -f "$1/exit" ] || [ -f "$1/removed" ]; then
            size=$(cat "$1"/out "$1"/err "$1"/kept/* 2> /dev/null | head -c "$(($2 + 1))" | wc -c)
            if [ "$size" -gt "$2" ]; then
                echo "too much"
            else
                for file in "$1"/outputs "$1"/out "$1"/err "$1"/kept/*; do
                    [ -f "$file" ] && [ ! -L "$file" ] || continue
                    echo "file ${file#"$1"/}"
                    base64 < "$file"
                done
            fi
        fi
        ;;
    drop)
        for stamp; do
            if [ -f "$stamp/exit" ] || [ -f "$stamp/removed" ]; then rm -rf "$stamp"; fi
        done
        ;;
esac
echo end
