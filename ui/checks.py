"""`tacit doctor`: what this machine and this home are, and what would keep them from working."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from knowledge_base.errors import TacitError
from knowledge_base.model_files import is_at_hand
from ui.profile import with_embedded_where_missing
from ui.settings import load_settings
from ui.wiring import Services, open_services

LOW_DISK_BYTES = 2_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing looked at."""

    name: str
    passed: bool
    detail: str


def run_checks(home: Path) -> list[Check]:
    """All checks; a home that cannot be opened ends them early."""
    checks = [_python(), _processor(), _disk(home)]
    try:
        with open_services(home) as services:
            checks.extend(_home_checks(services))
    except TacitError as error:
        checks.append(Check(name="home", passed=False, detail=str(error)))
    return checks


def _python() -> Check:
    version = ".".join(str(part) for part in sys.version_info[:3])
    return Check(name="python", passed=sys.version_info >= (3, 11), detail=version)


def _processor() -> Check:
    import torch

    cores = os.cpu_count() or 1
    accelerator = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no GPU"
    return Check(
        name="processor",
        passed=True,
        detail=f"{cores} cores, {torch.get_num_threads()} torch threads, {accelerator}",
    )


def _disk(home: Path) -> Check:
    existing = next(p for p in [home, *home.resolve().parents] if p.exists())
    free = shutil.disk_usage(existing).free
    return Check(name="disk", passed=free > LOW_DISK_BYTES, detail=f"{free / 1e9:.0f} GB free at {existing}")


def _home_checks(services: Services) -> Iterator[Check]:
    steps: list[tuple[str, Callable[[], str]]] = [
        ("home", lambda: f"{services.home.path}, {'SQLite' if services.db.is_sqlite else 'PostgreSQL'}"),
        (
            "documents",
            lambda: (
                f"{sum(c.n_documents for c in services.knowledge.list_collections())} in {len(services.knowledge.list_collections())} collections"
            ),
        ),
        ("profile", lambda: _profile(services)),
        ("embedder", lambda: _embedder(services)),
        ("reranker", lambda: _reranker(services)),
        ("policy", lambda: _policy(services)),
        ("training", lambda: _training(services)),
    ]
    for name, step in steps:
        try:
            yield Check(name=name, passed=True, detail=step())
        except (TacitError, OSError) as error:
            yield Check(name=name, passed=False, detail=str(error))


def _profile(services: Services) -> str:
    settings = load_settings(services.home)
    _, parts = with_embedded_where_missing(settings, is_at_hand)
    return "; ".join([settings.profile.name, *parts])


def _embedder(services: Services) -> str:
    services.embedder.encode(["hello"])
    return f"{services.embedder.version}, {services.embedder.dimension} dimensions, weights verified"


def _reranker(services: Services) -> str:
    if services.reranker is None:
        return "none: passages are ranked by meaning and words alone"
    services.reranker.score("hello", ["hello"])
    return f"{services.reranker.version.rsplit('/', 1)[0]}, reads {services.reranker.candidates} passages a question"


def _policy(services: Services) -> str:
    serving = services.registry.serving()
    generator = services.serving.generator()
    return f"{serving.id} from {serving.path}, context {generator.context_tokens} tokens"


def _training(services: Services) -> str:
    run = services.runs.active()
    schedule = services.schedule.get()
    state = f"run {run.id} is {run.state}" if run else "no run"
    return f"{state}; {services.new_feedback()} new judgements; cron {schedule.cron or 'none'}, min feedback {schedule.min_feedback or 'none'}"
