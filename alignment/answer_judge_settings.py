"""What a training run of the answer judge depends on. Knows nothing of models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from alignment.evidence_encoder_settings import HELD_OUT_PERCENT


@dataclass(frozen=True, kw_only=True)
class JudgeSettings:
    """A training run. Defaults want a GPU: a step reads 512 pairs."""

    data_dir: Path
    """Folder with `text/hb_gitlab.jsonl.xz` and the `qa_*` sets."""
    work_dir: Path
    """Gets checkpoints and the result; the same one resumes."""
    encoder: Path | None = None
    """Tuned weights of an evidence encoder that finds the wrong sentences; None takes the bundled embedder. One that has learned from these
    very questions finds fewer than serving will."""
    epochs: float = 5.0
    """Passes over the questions."""
    batch_questions: int = 32
    """Questions of a step."""
    sentences: int = 16
    """N: sentences that each question is read with."""
    of_own_page: int = 7
    """Most wrong sentences of the question's own page among them."""
    dropped_share: float = 0.06
    """Share of the answerable questions that are read without their answer, and so have none."""
    learning_rate: float = 2e-4
    """Peak of AdamW's learning rate."""
    warmup_steps: int = 150
    """Steps in which it rises; afterwards it falls linearly to zero."""
    weight_decay: float = 0.01
    """AdamW's decoupled weight decay."""
    pair_tokens: int = 175
    """Longer pairs are cut."""
    set_questions: int = 7500
    """Questions of the public sets beside those written for training."""
    held_out_percent: int = HELD_OUT_PERCENT
    """Of the pages: nothing is learned from them."""
    measured_questions: int = 1000
    """Held-out questions that the judge is measured on."""
    save_every_steps: int = 200
    """Steps between checkpoints."""
    threads: int = 0
    """Of torch; 0 leaves its own choice."""
    seed: int = 0
    """Decides lists and their order."""

    def __post_init__(self) -> None:
        """Reject what could not run."""
        for name in ("epochs", "learning_rate"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}={getattr(self, name)} must be above 0")
        for name in ("batch_questions", "pair_tokens", "save_every_steps", "measured_questions"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.sentences < 2:
            raise ValueError(f"sentences={self.sentences} must be at least 2")
        if not 0 <= self.dropped_share < 1:
            raise ValueError(f"dropped_share={self.dropped_share} must be in [0, 1)")
