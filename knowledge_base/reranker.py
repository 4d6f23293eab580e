"""Judges question and passage together with a cross-encoder: slower than comparing two vectors, and better where a strong one is at hand.

None is embedded yet; a directory or hub id in the settings turns one on. Knows nothing of access or fusion: a question and texts in, a score
each out.

Different from the textbook: it reads only the first candidates of the fusion, and its name and weights are part of the retriever's version,
so that every stored answer tells which one ranked its passages.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from knowledge_base.errors import RerankerError
from knowledge_base.model_files import first_line, model_directory, weights_sha256

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankerSettings:
    """Which reranker, and how it runs."""

    model: str = ""
    """A sentence-transformers cross-encoder's directory or hub id; empty for none."""
    candidates: int = 20
    """Passages of the fusion that it reads; those after them keep their order."""
    max_tokens: int = 384
    """Question and passage together; the rest of a longer passage is not read."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:1`."""
    batch_size: int = 16
    """Passages a forward pass."""

    def __post_init__(self) -> None:
        for name in ("candidates", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be at least 1")
        if self.max_tokens < 16:
            raise ValueError(f"max_tokens is {self.max_tokens}: it must be at least 16")


class CrossEncoderReranker:
    """A `Reranker` over sentence-transformers. Safe to share between threads; loaded at the first use."""

    def __init__(self, settings: RerankerSettings) -> None:
        """Remember the settings, which must name a model."""
        self.settings = settings
        self._running = threading.Lock()

    @functools.cached_property
    def directory(self) -> Path:
        """Where the model lies.

        Raises:
            RerankerError: it is missing, or cannot be fetched.
        """
        return model_directory(self.settings.model, "reranker", RerankerError)

    @functools.cached_property
    def version(self) -> str:
        """Name, first eight digits of the weights' SHA-256, how many passages it reads."""
        name = self.settings.model.rstrip("/").rsplit("/", 1)[-1]
        return f"{name}/{weights_sha256(self.directory, RerankerError)[:8]}/{self.candidates}"

    @property
    def candidates(self) -> int:
        """How many passages it is to be given."""
        return self.settings.candidates

    def score(self, question: str, texts: Sequence[str]) -> list[float]:
        """How well each text answers the question; see `Reranker.score`.

        Raises:
            RerankerError: the model cannot be loaded.
        """
        if not texts:
            return []
        with self._running:
            scores = self._model.predict(
                [(question, text) for text in texts],
                batch_size=self.settings.batch_size,
                show_progress_bar=False,
            )
        return [float(score) for score in scores]

    @functools.cached_property
    def _model(self) -> Any:
        import torch
        from safetensors import SafetensorError
        from sentence_transformers import CrossEncoder

        device = self.settings.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        weights_sha256(self.directory, RerankerError)  # refuses a directory with pickled weights only
        try:
            model = CrossEncoder(
                str(self.directory),
                num_labels=1,
                max_length=self.settings.max_tokens,
                device=device,
                local_files_only=True,
                model_kwargs={"use_safetensors": True},
            )
        except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
            raise RerankerError(
                f"the reranker in {self.directory} cannot be loaded ({first_line(error)}): give a cross-encoder's directory"
            ) from error
        log.info("reranker loaded", reranker=self.version, device=device)
        return model
