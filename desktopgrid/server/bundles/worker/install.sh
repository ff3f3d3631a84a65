#!/bin/sh
# Install the worker that lies beside this script, and start it:
#
#     sh install [--prefix DIR] [--no-start]
#
# An ordinary user gets a service of his own where systemd or launchd has such, else a worker that
# runs until the machine stops. Root gets a service of the system, which runs under the user
# `xwworker`. `sh DIR/uninstall` takes everything away again. PYTHON names another Python.
set -eu
umask 077

fail() {
    echo "install: $1" >&2
    exit 1
}

here=$(cd "$(dirname "$0")" && pwd)
prefix=
start=yes
while [ $# -gt 0 ]; do
    case "$1" in
        --prefix) [ $# -gt 1 ] || fail "--prefix wants a directory"; prefix=$2; shift ;;
        --no-start) start=no ;;
        -h | --help) echo "usage: sh install [--prefix DIR] [--no-start]"; exit 0 ;;
        *) fail "unknown option $1; usage: sh install [--prefix DIR] [--no-start]" ;;
    esac
    shift
done

user=$(id -un)
if [ "$(uname -s)" = Darwin ]; then
    how=launchd
    [ "$(id -u)" != 0 ] || fail "run as the user who shall own the worker, not as root"
elif [ "$(id -u)" = 0 ]; then
    how=system
    user=xwworker
    [ -d /run/systemd/system ] ||
        fail "as root this needs systemd, so that the worker runs under a user of its own; run it as an ordinary user"
elif systemctl --user show-environment >/dev/null 2>&1; then
    how=user
else
    how=plain
fi
if [ -z "$prefix" ]; then
    if [ $how = system ]; then prefix=/opt/glidebridge-worker; else prefix=$HOME/.local/lib/glidebridge-worker; fi
fi
case "$prefix" in
    /*) ;;
    *) prefix=$(pwd)/$prefix ;;
esac
case "$prefix" in
    *[!A-Za-z0-9._/@+-]*) fail "$prefix has a character that a service's definition would misread; choose --prefix" ;;
esac
[ ! -e "$prefix" ] || fail "$prefix is there already; sh $prefix/uninstall removes it"

python=
for name in "${PYTHON:-python3}" python3.14 python3.13 python3.12 python3.11 python3.10 python3.9; do
    path=$(command -v "$name" 2>/dev/null) || continue
    if "$path" -c 'import ssl, sys; sys.exit(sys.version_info < (3, 9))' 2>/dev/null; then
        python=$path
        break
    fi
done
[ -n "$python" ] || fail "no Python 3.9 or later with its ssl module is here; install one, or name it: PYTHON=... sh install"

fill() {
    sed -e "s|@PREFIX@|$prefix|g" -e "s|@PYTHON@|$python|g" "$here/$1"
}

mkdir -p "$prefix/state"
cp "$here/xwworker.pyz" "$here/worker.identity" "$prefix/"
fill worker.conf >"$prefix/worker.conf"
fill xwworker >"$prefix/xwworker"
cp "$here/uninstall" "$prefix/uninstall"
echo $how >"$prefix/how"
chmod 600 "$prefix/worker.identity"
chmod 755 "$prefix/xwworker" "$prefix/uninstall"

case $how in
    system)
        id xwworker >/dev/null 2>&1 ||
            useradd --system --home-dir "$prefix" --shell /usr/sbin/nologin xwworker
        chown -R xwworker: "$prefix"
        (umask 022 && fill systemd/system.service >/etc/systemd/system/xwworker.service)
        systemctl daemon-reload
        [ $start = no ] || systemctl enable --now xwworker.service
        ;;
    user)
        units=${XDG_CONFIG_HOME:-$HOME/.config}/systemd/user
        mkdir -p "$units"
        fill systemd/user.service >"$units/xwworker.service"
        systemctl --user daemon-reload
        [ $start = no ] || systemctl --user enable --now xwworker.service
        echo "It runs while you are logged in; \`loginctl enable-linger\` lets it run always."
        ;;
    launchd)
        mkdir -p "$HOME/Library/LaunchAgents"
        fill launchd/org.glidebridge.worker.plist >"$HOME/Library/LaunchAgents/org.glidebridge.worker.plist"
        [ $start = no ] ||
            launchctl bootstrap "gui/$(id -u)" "$HOME/Library/LaunchAgents/org.glidebridge.worker.plist"
        ;;
    plain)
        [ $start = no ] || "$prefix/xwworker" start
        echo "There is no systemd for you here: after a restart of the machine, $prefix/xwworker start."
        ;;
esac
echo "The worker is in $prefix, as user $user; $prefix/xwworker status|stop|start|restart, sh $prefix/uninstall."
