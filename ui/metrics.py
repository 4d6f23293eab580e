"""Prometheus metrics, computed from the database when asked for: every process sees the same truth, and a restart loses nothing.

Knows nothing of who may see them (the gate does). Names follow Prometheus: base units, `_total` for counters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Gauge, generate_latest

if TYPE_CHECKING:
    from ui.wiring import Services

MOST_JOBS = 100_000
"""More than this are not counted."""


def render_metrics(services: Services) -> str:
    """All metrics in Prometheus' text format."""
    registry = CollectorRegistry()

    def gauge(name: str, text: str, value: float, **labels: str) -> None:
        known = registry._names_to_collectors.get(name)  # noqa: SLF001 -- one gauge, several label values
        metric = known if isinstance(known, Gauge) else Gauge(name, text, list(labels), registry=registry)
        (metric.labels(**labels) if labels else metric).set(value)

    figures = services.answers.figures()
    gauge("tacit_answers", "Answers given.", figures.n)
    gauge(
        "tacit_answers_abstained_ratio",
        "Share of answers that said they don't know.",
        figures.abstention_rate or 0,
    )
    gauge(
        "tacit_answers_fallback_ratio",
        "Share of answers that fell back to quoting.",
        figures.fallback_rate or 0,
    )
    gauge(
        "tacit_new_feedback", "Judgements that no finished cycle has learned from.", services.new_feedback()
    )
    for collection in services.knowledge.list_collections():
        gauge("tacit_documents", "Documents.", collection.n_documents, collection=collection.name)
        gauge("tacit_chunks", "Chunks.", collection.n_chunks, collection=collection.name)
    for state in ("queued", "running", "failed"):
        count = len(services.jobs.list_jobs(states=[state], limit=MOST_JOBS))
        gauge("tacit_jobs", "Background jobs.", count, state=state)
    serving = services.registry.serving()
    gauge("tacit_policy_serving", "1 for the policy that serves.", 1, policy=serving.id, stage=serving.stage)
    return generate_latest(registry).decode("utf-8")
