#!/bin/sh
# The worker of this directory: xwworker console|start|stop|restart|status
exec @PYTHON@ @PREFIX@/xwworker.pyz "$@" --config @PREFIX@/worker.conf
