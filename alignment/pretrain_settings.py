"""What a pretraining run depends on, apart from the corpora themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from alignment.token_training import TokenTrainingSettings

SOURCE_WEIGHTS = {
    "hb_gitlab": 2.0,
    "docs_d365bc": 2.0,
    "docs_ax2012": 1.0,
    "docs_powershell": 1.0,
    "docs_biztalk": 0.7,
    "txt_eltec": 0.5,
}
"""Passes over each source in one epoch: handbooks and how-tos count most."""


@dataclass(frozen=True, kw_only=True)
class PretrainSettings(TokenTrainingSettings):
    """Everything a pretraining run depends on, apart from the corpora themselves."""

    data_dir: Path
    """Folder of `*.jsonl.xz` corpora."""
    weights: Mapping[str, float] = field(default_factory=lambda: dict(SOURCE_WEIGHTS))
    """Passes over each source in one epoch; sources not named count once, names without a source are ignored."""
    late_data_dir: Path | None = None
    """Folder of corpora mixed in later in the run, rows starting at document starts."""
    late_share: float = 0.4
    """Share of rows then taken from `late_data_dir`."""
    late_from_step: int | None = None
    """First step of the mix; none is the start of the decay."""
    vocabulary_size: int = 8192
    """Tokens, special ones included."""
    tokenizer_mib: float = 48.0
    """MiB of text, spread over the sources, that the tokenizer learns from."""
    layers: int = 8
    """Transformer blocks."""
    width: int = 384
    """Size of the residual stream."""
    heads: int = 6
    """Attention heads; must divide the width."""
    intermediate: int = 1024
    """Size of the gated feed-forward layer."""
    max_position_tokens: int = 2048
    """Context size in tokens."""
    rope_base: float = 1e6
    """Base of the rotary position frequencies."""
    induction_init: bool = False
    """Start from a model that copies by construction (`alignment.induction_init`); wants a width of 384 or more, heads of 64."""
    sequence_tokens: int = 512
    """Tokens predicted in one row."""
    batch_sequences: int = 16
    """Rows in one optimiser step."""
    micro_batch_sequences: int = 4
    """Rows in one forward pass; must divide batch_sequences."""
    held_out_share: float = 0.01
    """Share of each source's documents that is never trained on."""
    evaluate_every_steps: int = 200
    """Steps between held-out losses."""
    evaluation_rows: int = 24
    """Held-out rows of each source."""

    def __post_init__(self) -> None:
        """Reject settings that cannot work, by name."""
        TokenTrainingSettings.__post_init__(self)
        if self.width % self.heads:
            raise ValueError(f"heads={self.heads} must divide width={self.width}")
        if self.micro_batch_sequences < 1 or self.batch_sequences % self.micro_batch_sequences:
            raise ValueError(
                f"micro_batch_sequences={self.micro_batch_sequences} must divide batch_sequences={self.batch_sequences}"
            )
        if not 1 <= self.sequence_tokens <= self.max_position_tokens:
            raise ValueError(
                f"sequence_tokens={self.sequence_tokens} must be 1 to {self.max_position_tokens}"
            )
        if not 0 <= self.late_share < 1 or not 0 < self.held_out_share < 1:
            raise ValueError("late_share must be in [0, 1) and held_out_share in (0, 1)")
        if any(weight <= 0 for weight in self.weights.values()):
            raise ValueError(f"weights must be above 0: {dict(self.weights)}")
