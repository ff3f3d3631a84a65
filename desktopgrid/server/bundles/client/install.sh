#!/bin/sh
# Install the client that lies beside this script:
#
#     sh install [--prefix DIR] [--bin DIR]
#
# The commands are linked into ~/.local/bin, unless --bin names another directory.
# `sh DIR/uninstall` takes everything away again. PYTHON names another Python.
set -eu
umask 022

fail() {
    echo "install: $1" >&2
    exit 1
}

here=$(cd "$(dirname "$0")" && pwd)
prefix=$HOME/.local/lib/glidebridge-client
bin=$HOME/.local/bin
while [ $# -gt 0 ]; do
    case "$1" in
        --prefix) [ $# -gt 1 ] || fail "--prefix wants a directory"; prefix=$2; shift ;;
        --bin) [ $# -gt 1 ] || fail "--bin wants a directory"; bin=$2; shift ;;
        -h | --help) echo "usage: sh install [--prefix DIR] [--bin DIR]"; exit 0 ;;
        *) fail "unknown option $1; usage: sh install [--prefix DIR] [--bin DIR]" ;;
    esac
    shift
done
case "$prefix" in
    /*) ;;
    *) prefix=$(pwd)/$prefix ;;
esac
case "$prefix" in
    *[!A-Za-z0-9._/@+-]*) fail "$prefix has a character that the scripts would misread; choose --prefix" ;;
esac
[ ! -e "$prefix" ] || fail "$prefix is there already; sh $prefix/uninstall removes it"
identity=${XDG_CONFIG_HOME:-$HOME/.config}/glidebridge/identity.json
if [ -f "$here/identity.json" ] && [ -e "$identity" ]; then
    fail "$identity is there already, and would be lost; put it aside first"
fi

python=
for name in "${PYTHON:-python3}" python3.14 python3.13 python3.12 python3.11; do
    path=$(command -v "$name" 2>/dev/null) || continue
    if "$path" -c 'import ssl, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$path
        break
    fi
done
[ -n "$python" ] || fail "no Python 3.11 or later with its ssl module is here; install one, or name it: PYTHON=... sh install"

mkdir -p "$prefix/bin" "$bin"
cp -R "$here/lib" "$here/ca.pem" "$here/uninstall" "$prefix/"
: >"$prefix/links"
names=$("$python" -c 'import sys; sys.path.insert(0, sys.argv[1])
from desktopgrid.client.legacy import CLIENT, SCRIPTS
print("xw", CLIENT, *SCRIPTS)' "$prefix/lib")
for name in $names; do
    module=desktopgrid.client.legacy_cli
    [ "$name" != xw ] || module=desktopgrid.client.cli
    sed -e "s|@PREFIX@|$prefix|g" -e "s|@PYTHON@|$python|g" -e "s|@MODULE@|$module|g" "$here/command" >"$prefix/bin/$name"
    chmod 755 "$prefix/bin/$name"
    if [ -e "$bin/$name" ]; then
        echo "install: $bin/$name is there already and stays; ours is $prefix/bin/$name" >&2
    else
        ln -s "$prefix/bin/$name" "$bin/$name"
        echo "$bin/$name" >>"$prefix/links"
    fi
done
if [ -f "$here/identity.json" ]; then
    (umask 077 && mkdir -p "$(dirname "$identity")" && cp "$here/identity.json" "$identity")
    chmod 600 "$identity"
    echo "$identity" >>"$prefix/links"
    echo "The client is in $prefix. Next: $bin/xw stats"
else
    echo "The client is in $prefix. Next: $bin/xw login LOGIN --server @SERVER@ --ca $prefix/ca.pem"
fi
