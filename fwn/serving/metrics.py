"""What the server counts, as Prometheus reads it."""

from collections.abc import Callable, Hashable
from typing import Any

from fwn.serving.engine import SPEECH

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """Counters of one server, in a registry of its own. Names and meanings: docs/serve.md."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter("fwn_requests", "Requests", ["route", "method", "status"], registry=registry)
        self.latency = Histogram(
            "fwn_request_seconds",
            "From the head of a request to the end of its response",
            ["route"],
            buckets=SECONDS,
            registry=registry,
        )
        self.batches = Histogram(
            "fwn_batch_size",
            "Requests computed together",
            buckets=[1, 2, 4, 8, 16, 32, 64, 128, 256],
            registry=registry,
        )
        self.audio = Counter("fwn_audio_seconds", "Audio that was computed for requests", registry=registry)
        self.saturated = Counter("fwn_saturated_samples", "Samples beyond full scale", registry=registry)
        self.compute = Counter("fwn_compute_seconds", "Time in the model", ["work"], registry=registry)
        self._gauge: Any = Gauge
        self._heard = self._computed = 0.0  # seconds of speech, and of computing it
        factor = "Seconds of audio in a second of computing, since the start"
        self.show("fwn_real_time_factor", factor, lambda: self._heard / self._computed if self._computed else 0.0)

    def show(self, name: str, what: str, value: Callable[[], float]) -> None:
        """A gauge whose value is asked for when the metrics are."""
        self._gauge(name, what, registry=self.registry).set_function(value)

    def turn(self, kind: Hashable, size: int, seconds: float) -> None:
        """fwn.serving.turns.Observe. It is called in one thread."""
        assert isinstance(kind, tuple)
        self.compute.labels(kind[0]).inc(seconds)
        if kind[0] == SPEECH:
            self.batches.observe(size)
            self._computed += seconds

    def speech(self, seconds: float, saturated: int) -> None:
        """Audio that was computed. saturated: number of its samples beyond full scale."""
        self.audio.inc(seconds)
        self.saturated.inc(saturated)
        self._heard += seconds

    def text(self) -> bytes:
        """The text format of Prometheus."""
        from prometheus_client import generate_latest

        return generate_latest(self.registry)
