"""What Prometheus may count about this process. Its own registry: two apps in one process never mix."""

from collections.abc import Mapping
from time import perf_counter

from prometheus_client import CollectorRegistry, Gauge, Histogram, ProcessCollector, generate_latest

from klepaas import __version__
from klepaas.domain.status import Status
from klepaas.operations.health import HealthReport

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

NO_ROUTE = "none"
"""The route label of requests that match none: a path from outside must not become a label."""


class Metrics:
    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        info = Gauge("klepaas_info", "Which klepaas this is.", ["version"], registry=self._registry)
        info.labels(__version__).set(1)
        self._deployments = Gauge(
            "klepaas_deployments", "Deployments in the database by status.", ["status"], registry=self._registry
        )
        self._requests = Histogram(
            "klepaas_http_request_seconds",
            "Time to answer a request; of a stream, the time until it began.",
            ["method", "route", "status"],
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
            registry=self._registry,
        )
        self._up = Gauge(
            "klepaas_part_up", "Whether a part klepaas needs answers (1) or not (0).", ["part"], registry=self._registry
        )
        self.streams = Gauge("klepaas_streams", "Event and log streams open now.", registry=self._registry)

    def answered(self, *, method: str, route: str, status: int, since: float) -> None:
        """Count one request; `since` is the perf_counter at its start."""
        self._requests.labels(method, route, str(status)).observe(perf_counter() - since)

    def render(self, counts: Mapping[Status, int], health: HealthReport) -> bytes:
        """The page of numbers. A status nobody is in counts 0."""
        for status in Status:
            self._deployments.labels(status.value).set(counts.get(status, 0))
        for part, state in (("database", health.database), ("engine", health.engine)):
            if state == "unknown":
                self._up.remove(part)
            else:
                self._up.labels(part).set(1 if state == "ok" else 0)
        return generate_latest(self._registry)
