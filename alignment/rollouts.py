"""Samples completions for prompts in batches, and turns them into text for the reward function.

Knows nothing of rewards or updates. Differs from `generate` of transformers: each prompt is processed once and its key/value
cache repeated for its samples and given room for all tokens to come, finished rows leave the batch, nothing of vocabulary size is kept, and the draws come from a
generator of their own. Log-probabilities are deliberately not taken here but from the forward pass that training uses: the
sampler's differ in the last bits, and then the first ratio is not 1.

A completion ends at its first end-of-text token, which belongs to it. Shapes as in `completion_forward`, A rows still being
written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from alignment.completion_forward import TokenBatch, TokenForward, pad_prompts, prompt_positions
from alignment.records import RolloutPrompt
from alignment.sampling_cache import make_room


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollouts:
    """Sampled completions; lists and rows are in the order of `tokens`, samples of a prompt together."""

    prompts: Sequence[RolloutPrompt]
    """One for each rollout (N): a prompt appears as often as it was sampled."""
    tokens: TokenBatch
    texts: Sequence[str]
    """Without special tokens."""
    ended: Tensor
    """(N,), bool: an end-of-text token was sampled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingRule:
    """How tokens are drawn and when a completion ends."""

    samples_per_prompt: int
    max_new_tokens: int
    temperature: float
    top_p: float
    end_ids: frozenset[int]


def sample_rollouts(
    forward: TokenForward,
    tokenizer: Any,
    prompts: Sequence[tuple[RolloutPrompt, Sequence[int]]],
    rule: SamplingRule,
    *,
    batch_prompts: int,
    generator: torch.Generator,
) -> Rollouts:
    """Sample completions of every prompt.

    Args:
        forward: The policy.
        tokenizer: Turns tokens into text.
        prompts: Prompts with their token ids.
        rule: How to draw.
        batch_prompts: Prompts sampled at once; the draws depend on it.
        generator: Source of randomness, on the policy's device.
    """
    parts = []
    for start in range(0, len(prompts), batch_prompts):
        ids, mask = pad_prompts(
            [tokens for _, tokens in prompts[start : start + batch_prompts]], generator.device
        )
        parts.append(sample_completions(forward, ids, mask, rule, generator))
    prompt_ids, prompt_mask = pad_prompts([tokens for _, tokens in prompts], generator.device)
    completion_ids, completion_mask, ended = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    width = int(completion_mask.sum(dim=1).max())
    tokens = TokenBatch(
        prompt_ids=prompt_ids,
        prompt_mask=prompt_mask,
        completion_ids=completion_ids[:, :width],
        completion_mask=completion_mask[:, :width],
    )
    written = [
        row[kept].tolist() for row, kept in zip(tokens.completion_ids, tokens.completion_mask, strict=True)
    ]
    return Rollouts(
        prompts=[prompt for prompt, _ in prompts for _ in range(rule.samples_per_prompt)],
        tokens=tokens,
        texts=[_decode(tokenizer, ids, rule.end_ids) for ids in written],
        ended=ended,
    )


def _decode(tokenizer: Any, ids: Sequence[int], end_ids: frozenset[int]) -> str:
    # An end of text is not always a special token of the tokenizer, and is never text.
    kept = ids[:-1] if ids[-1] in end_ids else ids
    return str(tokenizer.decode(kept, skip_special_tokens=True))


@torch.no_grad()
def sample_completions(
    forward: TokenForward,
    prompt_ids: Tensor,
    prompt_mask: Tensor,
    rule: SamplingRule,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """Sample K completions for each prompt.

    Args:
        forward: The policy.
        prompt_ids: (P, L), padding on the left.
        prompt_mask: (P, L), bool.
        rule: How to draw.
        generator: On the prompts' device.

    Returns:
        Token ids (N, max_new_tokens) with zeros after the end, their mask, and which ended by themselves (N,).
    """
    logits, cache, mask = _read_prompts(
        forward, prompt_ids, prompt_mask, samples=rule.samples_per_prompt, room=rule.max_new_tokens
    )
    n_rows, device = mask.shape[0], mask.device
    ids = torch.zeros(n_rows, rule.max_new_tokens, dtype=torch.long, device=device)
    written = torch.zeros_like(ids, dtype=torch.bool)
    ended = torch.zeros(n_rows, dtype=torch.bool, device=device)
    ends = torch.tensor(sorted(rule.end_ids), device=device)
    lengths = mask.sum(dim=1, keepdim=True)
    rows = torch.arange(n_rows, device=device)  # (A,): which completion each row of the cache writes
    for t in range(rule.max_new_tokens):
        drawn = draw_tokens(logits[:, -1], rule.temperature, rule.top_p, generator)  # (A,)
        going = ~ended[rows]
        ids[rows[going], t] = drawn[going]
        written[rows[going], t] = True
        ended[rows] |= torch.isin(drawn, ends)
        going = ~ended[rows]
        if t + 1 == rule.max_new_tokens or not going.any():
            break
        # Copying the cache costs about as much as a token: worth it when a quarter of the rows is done.
        if int(going.sum()) <= 0.75 * len(rows):
            cache.batch_select_indices(going)
            rows, mask, lengths, drawn = rows[going], mask[going], lengths[going], drawn[going]
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
        logits, cache = forward(
            input_ids=drawn.unsqueeze(1),
            attention_mask=mask.long(),
            position_ids=lengths + t,
            keep=1,
            cache=cache,
            use_cache=True,
        )  # (A, 1, V)
    return ids, written, ended


def _read_prompts(
    forward: TokenForward, prompt_ids: Tensor, prompt_mask: Tensor, *, samples: int, room: int
) -> tuple[Tensor, Any, Tensor]:
    repeated_mask = prompt_mask.repeat_interleave(samples, dim=0)
    if not forward.can_share:
        prompt_ids, prompt_mask = prompt_ids.repeat_interleave(samples, dim=0), repeated_mask
    logits, cache = forward(
        input_ids=prompt_ids,
        attention_mask=prompt_mask.long(),
        position_ids=prompt_positions(prompt_mask),
        keep=1,
        use_cache=True,
    )
    if forward.can_share:
        logits = logits.repeat_interleave(samples, dim=0)
        cache = make_room(cache, repeats=samples, room=room)
    return logits, cache, repeated_mask


def draw_tokens(logits: Tensor, temperature: float, top_p: float, generator: torch.Generator) -> Tensor:
    """Draw one token (A,) from each row of logits (A, V), from the smallest set of tokens with probability `top_p` or more.

    Nucleus sampling: Holtzman et al. 2020 (arXiv 1904.09751), equation 2.
    """
    probabilities = (logits.float() / temperature).softmax(dim=-1)
    if top_p < 1.0:
        ordered, order = probabilities.sort(dim=-1, descending=True)
        before = ordered.cumsum(dim=-1) - ordered  # probability of everything likelier
        ordered = ordered.masked_fill(before >= top_p, 0.0)
        probabilities = torch.zeros_like(probabilities).scatter(-1, order, ordered)
    return torch.multinomial(probabilities, 1, generator=generator).squeeze(1)
