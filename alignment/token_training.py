"""What pretraining and reader training share: settings, learning-rate schedule, optimisers, the loss.

Knows nothing of corpora or examples: it sees batches of token ids with a weight for each token. Differs from the textbook:

1. Two optimisers: Muon (Jordan 2024, orthogonalised momentum) for the hidden matrices, AdamW for embeddings and norms.
2. Warm-up, stable, decay (WSD) instead of a cosine: the stable part has no planned end, so that a run can be stopped, prolonged
   or annealed from any checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import structlog
import torch
from torch import Tensor

from alignment.muon import Float32Muon

_log = structlog.get_logger(__name__)

LossFunction = Callable[[Tensor, Tensor], Tensor]
"""Token ids (B, T) and weights (B, T) to the weighted sum of losses in nats."""


@dataclass(frozen=True, kw_only=True)
class TokenTrainingSettings:
    """What every training run over tokens needs to know."""

    work_dir: Path
    """Folder for tokens and checkpoints; outside the repository."""
    total_steps: int = 2000
    """Optimiser steps of the whole run; raise it to prolong a run, lower it to anneal now."""
    warmup_steps: int = 50
    """Steps in which the learning rates rise linearly from 0."""
    decay_steps: int = 400
    """Last steps, in which they fall linearly to `final_lr_share`."""
    final_lr_share: float = 0.02
    """Share of the peak learning rate at the last step."""
    muon_lr: float = 3e-3
    """Peak learning rate of the hidden matrices (scaled to AdamW's update size)."""
    adamw_lr: float = 2e-3
    """Peak learning rate of embeddings and norms."""
    weight_decay: float = 0.1
    """Decoupled weight decay of the hidden matrices; embeddings and norms have none."""
    clip_norm: float = 1.0
    """Largest norm of the gradient over all parameters."""
    seed: int = 20
    """Decides initial weights and data order."""
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    """Of the matrix products; weights and optimiser state are always float32."""
    compile: bool = True
    """Use torch.compile; falls back to eager, with the reason logged, where no compiler works. A batch shape costs a minute or two of
    compiling on two cores, so it pays only for long runs."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes a GPU if there is one."""
    threads: int | None = None
    """CPU threads; none leaves torch's own choice."""
    checkpoint_minutes: float = 5.0
    """Minutes between checkpoints."""
    keep_checkpoints: int = 2
    """How many of the newest checkpoints stay on disk."""
    log_every_steps: int = 10
    """Steps between progress reports."""

    def __post_init__(self) -> None:
        """Reject settings that cannot work, by name."""
        for name in ("total_steps", "keep_checkpoints", "log_every_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        for name in ("warmup_steps", "decay_steps"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)} must not be negative")
        for name in ("muon_lr", "adamw_lr", "clip_norm", "checkpoint_minutes"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}={getattr(self, name)} must be above 0")
        if self.warmup_steps + self.decay_steps > self.total_steps:
            raise ValueError(
                f"warmup_steps={self.warmup_steps} and decay_steps={self.decay_steps} exceed total_steps={self.total_steps}"
            )
        if not 0 <= self.final_lr_share <= 1:
            raise ValueError(f"final_lr_share={self.final_lr_share} must be between 0 and 1")

    @property
    def decay_starts_at(self) -> int:
        """The step at which the learning rates begin to fall."""
        return self.total_steps - self.decay_steps


def wsd_factor(step: int, settings: TokenTrainingSettings) -> float:
    """Learning-rate factor of step `step` (from 0) in warm-up, stable, decay (Hu et al. 2024, MiniCPM, section 4).

    >>> s = TokenTrainingSettings(work_dir=Path(), total_steps=10, warmup_steps=2, decay_steps=4, final_lr_share=0.0)
    >>> [wsd_factor(step, s) for step in range(10)]
    [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25]
    """
    if step < settings.warmup_steps:
        return (step + 1) / settings.warmup_steps
    into_decay = step - settings.decay_starts_at
    if into_decay <= 0 or settings.decay_steps == 0:
        return 1.0
    done = min(1.0, into_decay / settings.decay_steps)
    return 1.0 - done * (1.0 - settings.final_lr_share)


class TwoOptimizers:
    """Muon for hidden matrices, AdamW for the rest, stepped as one."""

    def __init__(self, model: torch.nn.Module, settings: TokenTrainingSettings) -> None:
        """Split the parameters; tied embeddings count once, with the rest."""
        hidden, rest = list[torch.nn.Parameter](), list[torch.nn.Parameter]()
        for name, parameter in model.named_parameters():
            is_hidden = parameter.ndim == 2 and "embed" not in name and "lm_head" not in name
            (hidden if is_hidden else rest).append(parameter)
        self._settings = settings
        self._parameters = [*hidden, *rest]
        muon = torch.optim.Muon if settings.precision == "bfloat16" else Float32Muon
        self._muon = muon(
            hidden, lr=settings.muon_lr, weight_decay=settings.weight_decay, adjust_lr_fn="match_rms_adamw"
        )
        self._adamw = torch.optim.AdamW(rest, lr=settings.adamw_lr, betas=(0.9, 0.95), weight_decay=0.0)

    def step(self, step: int) -> float:
        """Clip, set the rates of this step, update, clear the gradients; returns the gradient's norm before clipping."""
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, self._settings.clip_norm)
        factor = wsd_factor(step, self._settings)
        peaks = (self._settings.muon_lr, self._settings.adamw_lr)
        for optimizer, peak in zip((self._muon, self._adamw), peaks, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = peak * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return float(norm)

    def state_dict(self) -> dict[str, Any]:
        """Both optimisers' states."""
        return {"muon": self._muon.state_dict(), "adamw": self._adamw.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self._muon.load_state_dict(state["muon"])
        self._adamw.load_state_dict(state["adamw"])


def choose_device(settings: TokenTrainingSettings) -> torch.device:
    """The device a run uses; sets the number of CPU threads as a side effect."""
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    if settings.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(settings.device)


def make_loss_function(
    model: Any, settings: TokenTrainingSettings, device: torch.device, *, mostly_unweighted: bool = False
) -> LossFunction:
    """The weighted next-token loss of a Llama-shaped model.

    Args:
        model: With the parts `model` (ids to hidden states) and `lm_head`.
        settings: Precision, and whether to compile.
        device: Where the batches are.
        mostly_unweighted: Most weights are 0: logits are then computed only where one is not, which saves a seventh of the work at 17M
            parameters. The loss is the same; such a function is never compiled, because the number of those places changes.

    Returns:
        Function of token ids (B, T) and weights (B, T), where `weights[:, t]` counts the prediction *of* token t (column 0 is
        never predicted), giving the weighted sum of cross-entropies in nats. Callers divide by what they normalise by.
        Padding belongs on the right with weight 0: causal attention never looks there.
    """
    precision = torch.bfloat16 if settings.precision == "bfloat16" else None

    def weighted_sum(input_ids: Tensor, weights: Tensor) -> Tensor:
        hidden = model.model(
            input_ids=input_ids[:, :-1], use_cache=False
        ).last_hidden_state  # (B, T-1, width)
        targets, counted = input_ids[:, 1:], weights[:, 1:]
        if mostly_unweighted:
            places = counted != 0
            hidden, targets, counted = hidden[places], targets[places], counted[places]
        logits = model.lm_head(hidden).float()  # (B, T-1, V), or (places, V)
        losses = torch.nn.functional.cross_entropy(
            logits.reshape(-1, logits.shape[-1]), targets.reshape(-1), reduction="none"
        )
        return (losses * counted.reshape(-1)).sum()

    compiles = settings.compile and not mostly_unweighted
    function = _compiled_or_eager(weighted_sum) if compiles else weighted_sum

    def call(input_ids: Tensor, weights: Tensor) -> Tensor:
        with torch.autocast(device.type, dtype=precision, enabled=precision is not None):
            return function(input_ids, weights)

    return call


def _compiled_or_eager(function: LossFunction) -> LossFunction:
    """Compile at the first call; if that fails, say why and go on without."""
    # Lengths come from a few buckets, so each gets its own fast static graph rather than one slow dynamic one.
    compiled = torch.compile(function, dynamic=False)
    chosen: list[LossFunction] = []

    def first_compiled(input_ids: Tensor, weights: Tensor) -> Tensor:
        if chosen:
            return chosen[0](input_ids, weights)
        from torch._dynamo.exc import TorchDynamoException
        from torch._inductor.exc import InductorError

        try:
            loss = compiled(input_ids, weights)
        except (TorchDynamoException, InductorError, RuntimeError, OSError) as error:
            _log.warning(
                "compile_unavailable", reason=str(error).splitlines()[0] if str(error) else repr(error)
            )
            chosen.append(function)
            return function(input_ids, weights)
        chosen.append(compiled)
        return loss

    return first_compiled
