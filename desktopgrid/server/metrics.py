"""What Prometheus reads at GET /metrics: counters since the server started, and the grid at this
moment (https://prometheus.io/docs/practices/naming).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from desktopgrid.server.counting import Look
from desktopgrid.server.watching import Watcher

PREFIX = "glidebridge_"
Labels = tuple[str, ...]


@dataclass(frozen=True)
class ServerLook:
    """A server at one moment; ``look`` and what follows it are missing while it has no grid."""

    is_ready: bool
    look: Look | None = None
    sessions: Mapping[Labels, float] | None = None
    """By kind of peer, and `connected` or `away`."""
    backlog: int = 0
    writing_for: float = 0.0


class GridCollector(Collector):
    """Makes samples of what the watcher has counted, and of a look at the server."""

    def __init__(self, watcher: Watcher, look: Callable[[], ServerLook]) -> None:
        self._watcher, self._look = watcher, look

    def collect(self) -> Iterator[Metric]:
        """The samples of this moment."""
        server = self._look()
        yield _gauge("ready", "1 while the server can store what it is told.", server.is_ready)
        yield from _counted(self._watcher)
        yield from self._watcher.commits.collect()
        if server.look is not None:
            yield from _server(server)
            yield from _grid(server.look)


def _counted(watcher: Watcher) -> Iterator[Metric]:
    yield _counters(
        "requests", "Requests of clients answered.", ("verb", "outcome"), watcher.requests
    )
    served: dict[Labels, float] = {
        (method, str(status)): n for (method, status), n in watcher.served.items()
    }
    yield _counters("http_requests", "HTTP requests answered.", ("method", "status"), served)
    through: dict[Labels, float] = {
        ("in", "session"): watcher.received,
        ("out", "session"): watcher.sent,
        ("in", "http"): watcher.taken,
        ("out", "http"): watcher.given,
    }
    yield _counters("bytes", "Bytes that went through.", ("direction", "door"), through)
    yield _counters("journal_changes", "Changes put on disk.", (), {(): watcher.changes})
    dropped: dict[Labels, float] = {(log.path.name,): log.dropped for log in watcher.logs}
    yield _counters("log_lines_dropped", "Lines that no disk took.", ("log",), dropped)


def _server(server: ServerLook) -> Iterator[Metric]:
    yield _gauge("journal_backlog", "Changes that wait for the disk.", server.backlog)
    yield _gauge(
        "journal_commit_under_way_seconds",
        "For how long the commit under way has lasted.",
        server.writing_for,
    )
    yield _gauges("sessions", "Sessions of peers.", ("kind", "state"), server.sessions or {})


def _grid(look: Look) -> Iterator[Metric]:
    yield _gauge("incarnation", "How often the grid was opened.", look.incarnation)
    yield _gauges("works", "Open works.", ("status",), _by_word(look.works))
    ended = dict(look.ended)
    submitted, lost = ended.pop("submitted"), ended.pop("lost")
    yield _counters("works_submitted", "Works submitted.", (), {(): submitted})
    yield _counters("works_ended", "Works that are over.", ("outcome",), _by_word(ended))
    tasks = {"completed": ended["completed"], "failed": ended["failed"], "lost": lost}
    yield _counters("tasks_ended", "Tasks that are over.", ("outcome",), _by_word(tasks))
    hosts: Counter[Labels] = Counter(
        (host.facts.kind, "connected" if host.is_connected else "silent") for host in look.hosts
    )
    yield _gauges("hosts", "Hosts with a lease.", ("kind", "state"), hosts)
    yield _gauge("tasks", "Tasks that hosts have.", sum(host.tasks for host in look.hosts))
    yield _gauge("cores", "Cores of connected hosts.", look.cores)
    yield _gauge("cores_given", "Those of them that compute.", look.cores_given)
    yield _gauge("users", "Users that are not revoked.", look.users)
    yield _gauges("pilots", "Pilots that the server remembers.", ("status",), _by_word(look.pilots))


def _by_word(found: Mapping[str, float]) -> dict[Labels, float]:
    return {(word,): number for word, number in found.items()}


def _gauge(name: str, told: str, value: float) -> Metric:
    return GaugeMetricFamily(PREFIX + name, told, value=value)


def _gauges(name: str, told: str, labels: Iterable[str], found: Mapping[Labels, float]) -> Metric:
    return _family(GaugeMetricFamily(PREFIX + name, told, labels=tuple(labels)), found)


def _counters(name: str, told: str, labels: Iterable[str], found: Mapping[Labels, float]) -> Metric:
    return _family(CounterMetricFamily(PREFIX + name, told, labels=tuple(labels)), found)


def _family(
    family: GaugeMetricFamily | CounterMetricFamily, found: Mapping[Labels, float]
) -> Metric:
    for labels, value in sorted(found.items()):
        family.add_metric(labels, value)
    return family


def exposition(
    watcher: Watcher, look: Callable[[], ServerLook]
) -> Callable[[str], tuple[bytes, str]]:
    """What makes the text for who accepts such a form, and says its content type."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(GridCollector(watcher, look))
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    return partial(_text, registry)


def _text(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type
