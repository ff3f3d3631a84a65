#!/bin/sh
# Stop the worker that lies beside this script, and remove it with all it had.
set -eu

prefix=$(cd "$(dirname "$0")" && pwd)
if [ ! -f "$prefix/how" ] || [ ! -f "$prefix/xwworker.pyz" ]; then
    echo "uninstall: $prefix holds no worker that was installed" >&2
    exit 1
fi
case $(cat "$prefix/how") in
    system)
        systemctl disable --now xwworker.service || true
        rm -f /etc/systemd/system/xwworker.service
        systemctl daemon-reload
        ;;
    user)
        systemctl --user disable --now xwworker.service || true
        rm -f "${XDG_CONFIG_HOME:-$HOME/.config}/systemd/user/xwworker.service"
        systemctl --user daemon-reload || true
        ;;
    launchd)
        launchctl bootout "gui/$(id -u)/org.glidebridge.worker" || true
        rm -f "$HOME/Library/LaunchAgents/org.glidebridge.worker.plist"
        ;;
    plain)
        "$prefix/xwworker" stop
        ;;
esac
system=$(grep -c '^system$' "$prefix/how" || true)
rm -rf "$prefix"
if [ "$system" = 1 ]; then userdel xwworker || true; fi
echo "The worker in $prefix is gone."
