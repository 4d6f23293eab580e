"""What PPO is given by a cycle: the prompts it samples for, and rows of the text that SFT learned from.

Knows nothing of training loops, or of the reward (`reward_mix`). Different from taking the snapshot's rows: prompts stand in the learned
order of their evidence, and those that no policy would be asked are left out.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from alignment.errors import TrainingError
from alignment.ppo_settings import PpoSettings
from alignment.records import PromptCompletion, RolloutPrompt
from chatbot.evidence_order import EvidenceOrder
from chatbot.prompt import Message
from chatbot.turn_preparation import in_order

if TYPE_CHECKING:  # loads torch
    from alignment.ppo_update import PtxRows

log = structlog.get_logger(__name__)


def asked(prompts: Sequence[RolloutPrompt]) -> list[RolloutPrompt]:
    """Those that a model would be asked: where the evidence is too weak, no policy writes."""
    return [prompt for prompt in prompts if prompt.prepared.answerable]


def in_learned_order(
    prompts: Sequence[RolloutPrompt],
    order: EvidenceOrder | None,
    render: Callable[[Sequence[Message]], str],
) -> list[RolloutPrompt]:
    """The prompts as the policy will read them when it serves.

    Args:
        prompts: Their evidence in any order.
        order: Learned; None leaves them as they are.
        render: Messages to the prompt in the policy's template.
    """
    if order is None:
        return list(prompts)
    turns = [in_order(prompt.prepared, order) for prompt in prompts]
    return [
        dataclasses.replace(prompt, prepared=turn, prompt=render(turn.messages))
        for prompt, turn in zip(prompts, turns, strict=True)
    ]


def make_ptx_rows(
    pairs: Sequence[PromptCompletion], policy_dir: Path, settings: PpoSettings
) -> PtxRows | None:
    """Rows of demonstrations and derived pairs, for PPO-ptx; None where the settings want none.

    Args:
        pairs: Those of the snapshot, also where SFT left derived ones out.
        policy_dir: Whose tokenizer encodes.
        settings: `ptx_coef`, `ptx_rows` and the seed; rows longer than prompt and completion may be are left out, and counted in the log.

    Raises:
        TrainingError: none fits.
    """
    if not settings.ptx_coef:
        return None
    from alignment.model_directory import load_tokenizer
    from alignment.padding import encode_completion, encode_prompt

    tokenizer = load_tokenizer(policy_dir)
    encoded = [
        [*encode_prompt(tokenizer, pair.prompt), *encode_completion(tokenizer, pair.completion)]
        for pair in pairs
    ]
    fitting = [row for row in encoded if 1 < len(row) <= settings.max_prompt_tokens + settings.max_new_tokens]
    if not fitting:
        raise TrainingError(
            "ptx_coef is above 0 but no demonstration and no derived pair fits: raise ppo.max_prompt_tokens, or set ptx_coef=0."
        )
    log.info("ptx_rows_chosen", rows=len(fitting), too_long=len(encoded) - len(fitting))

    def rows(update: int) -> list[list[int]]:
        # A function of the update alone: a resumed run gets the rows that the uninterrupted one would have got.
        rng = random.Random(f"{settings.seed}:{update}")  # noqa: S311 -- reproducible, not secret
        return rng.sample(fitting, min(settings.ptx_rows, len(fitting)))

    return rows
