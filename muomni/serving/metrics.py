"""Counters for Prometheus (`/metrics`): how many, how long, how full. Nothing of any content."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """A registry of its own, so that several applications in one process count apart."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "muomni_requests_total", "Requests answered.", ["route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "muomni_request_seconds", "From request to the end of its answer.", ["route"], buckets=SECONDS, registry=self.registry
        )  # fmt: skip
        self.first_token = Histogram(
            "muomni_first_token_seconds", "From request to the first text.", buckets=SECONDS, registry=self.registry
        )
        self.first_audio = Histogram(
            "muomni_first_audio_seconds", "From request to the first sound.", buckets=SECONDS, registry=self.registry
        )
        self.prompt_tokens = Counter("muomni_prompt_tokens_total", "Tokens of prompts.", registry=self.registry)
        self.cached_tokens = Counter(
            "muomni_cached_tokens_total", "Of them, taken over from earlier prompts.", registry=self.registry
        )
        self.new_tokens = Counter("muomni_generated_tokens_total", "Tokens of answers.", registry=self.registry)
        self.spoken = Counter("muomni_spoken_seconds_total", "Seconds of speech generated.", registry=self.registry)
        self.heard = Counter(
            "muomni_transcribed_seconds_total", "Seconds of audio written down.", registry=self.registry
        )
        self.cancelled = Counter(
            "muomni_cancelled_total", "Answers that were not sent to their end.", registry=self.registry
        )

    def gauge(self, name: str, description: str, value: Callable[[], float]) -> None:
        """A value that is read when `/metrics` is."""
        Gauge(name, description, registry=self.registry).set_function(value)

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self.registry)
