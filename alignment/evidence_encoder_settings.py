"""What a training run of the evidence encoder depends on, and which pages it may not learn from.

Knows nothing of models or of how pairs are made. Differs from `alignment.corpus.is_held_out` in the hash: the shipped weights were trained with this split.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

HELD_OUT_PERCENT = 12
"""Of the pages were held out of the shipped weights."""


def is_held_out_page(document: str, percent: int = HELD_OUT_PERCENT) -> bool:
    """Whether nothing is learned from a page; by its name alone, so that the shipped weights can be judged on pages they never saw."""
    return int(hashlib.sha256(document.encode()).hexdigest()[:8], 16) % 100 < percent


@dataclass(frozen=True, kw_only=True)
class EncoderSettings:
    """A training run."""

    data_dir: Path
    """Folder with `text/hb_gitlab.jsonl.xz` and the `qa_*` sets."""
    work_dir: Path
    """Gets checkpoints and the result; the same one resumes."""
    start: Path | None = None
    """Tuned weights to go on from, which also find the look-alikes then; None starts from the bundled embedder."""
    learned: int = 0
    """So many questions at the beginning of the file are known to `start`."""
    replay_share: float = 1.0
    """Share of those that are repeated, so that they are not forgotten."""
    epochs: float = 6.0
    """Passes over the pairs."""
    batch_questions: int = 128
    """B: each is compared with 3 B texts."""
    learning_rate: float = 3e-4
    """Peak of AdamW's learning rate."""
    warmup_steps: int = 30
    """Steps in which it rises; afterwards it falls linearly to zero."""
    weight_decay: float = 0.01
    """AdamW's decoupled weight decay."""
    scale: float = 20.0
    """Cosines are multiplied by it before the softmax: the inverse of the temperature."""
    question_tokens: int = 64
    """Longer questions are cut."""
    text_tokens: int = 128
    """Longer texts are cut."""
    stretch_share: float = 0.35
    """Share of the positives that are a stretch of the page around the answer instead of the sentence alone."""
    set_questions: int = 2500
    """Questions of the public sets beside those written for training."""
    held_out_percent: int = HELD_OUT_PERCENT
    """Of the pages: nothing is learned from them."""
    measured_questions: int = 400
    """Held-out questions that the encoder is measured on."""
    save_every_steps: int = 50
    """Steps between checkpoints."""
    threads: int = 0
    """Of torch; 0 leaves its own choice."""
    seed: int = 0
    """Decides pairs and their order."""

    def __post_init__(self) -> None:
        """Reject what could not run."""
        for name in ("epochs", "learning_rate", "scale"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}={getattr(self, name)} must be above 0")
        for name in ("batch_questions", "question_tokens", "text_tokens", "save_every_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        for name in ("stretch_share", "replay_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} must be in [0, 1]")
        if self.learned < 0:
            raise ValueError(f"learned={self.learned} must be 0 or more")
        if not 0 < self.held_out_percent < 100:
            raise ValueError(f"held_out_percent={self.held_out_percent} must be between 0 and 100")
