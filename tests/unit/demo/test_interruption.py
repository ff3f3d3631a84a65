"""A signal that comes while the demo starts a process."""

import signal

import pytest

from demo.parts import Interruption


def test_it_interrupts_at_once_while_nothing_is_started():
    with pytest.raises(SystemExit) as left:
        Interruption().hear(signal.SIGTERM, None)
    assert left.value.code == 128 + signal.SIGTERM


def test_while_a_process_is_started_it_waits():
    interruption, started = Interruption(), []
    with interruption.held():
        interruption.hear(signal.SIGTERM, None)
        started.append("worker")
    assert started == ["worker"]
    with pytest.raises(SystemExit):
        interruption.check()


def test_where_none_came_nobody_leaves():
    interruption = Interruption()
    with interruption.held():
        pass
    interruption.check()
