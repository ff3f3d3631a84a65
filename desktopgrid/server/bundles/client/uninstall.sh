#!/bin/sh
# Remove the client that lies beside this script, its links, and the identity that came with it.
set -eu

prefix=$(cd "$(dirname "$0")" && pwd)
if [ ! -f "$prefix/links" ] || [ ! -d "$prefix/lib/desktopgrid" ]; then
    echo "uninstall: $prefix holds no client that was installed" >&2
    exit 1
fi
while read -r link; do
    rm -f "$link"
done <"$prefix/links"
rm -rf "$prefix"
echo "The client in $prefix is gone."
