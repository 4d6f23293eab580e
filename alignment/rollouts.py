"""Samples completions for prompts in batches, and turns them into text for the reward function.

Knows nothing of rewards or updates. Differs from `generate` of transformers: each prompt is processed once and its key/value
cache shared by its samples, which have room for all tokens to come, finished rows leave the batch, nothing of vocabulary size is kept, and the draws come from a
generator of their own. Log-probabilities are deliberately not taken here but from the forward pass that training uses: the
sampler's differ in the last bits, and then the first ratio is not 1.

A completion ends at its first end-of-text token, which belongs to it. Shapes as in `completion_forward`, A rows still being
written.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from alignment.completion_forward import TokenBatch, TokenForward, pad_prompts, prompt_positions
from alignment.records import RolloutPrompt

NO_CHOICE = -1
"""Where there are fewer tokens to choose among than elsewhere."""


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
    min_p: float = 0.0


class SamplingForward(TokenForward, Protocol):
    """A transformer that completions can be sampled from."""

    def continue_prompts(
        self, cache: Any, prompt_mask: Tensor, *, samples: int, room: int
    ) -> tuple[Any, AbstractContextManager[None]]:
        """Make a freshly filled cache ready for sampling where prompts can be shared.

        Args:
            cache: Of P prompts; not to be used afterwards.
            prompt_mask: (P, L), bool.
            samples: Completions of each prompt.
            room: Tokens that each may write.

        Returns:
            A cache of N rows, one for each completion, and what to be inside of while they are written, a token of each row at a time.
        """


def sample_rollouts(
    forward: SamplingForward,
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
    completion_ids, completion_mask, ended = (
        torch.cat(tensors) for tensors in zip(*(part[:3] for part in parts), strict=True)
    )
    width = int(completion_mask.sum(dim=1).max())
    tokens = TokenBatch(
        prompt_ids=prompt_ids,
        prompt_mask=prompt_mask,
        completion_ids=completion_ids[:, :width],
        completion_mask=completion_mask[:, :width],
        choices=_joined([part[3] for part in parts], width),
    )
    return Rollouts(
        prompts=[prompt for prompt, _ in prompts for _ in range(rule.samples_per_prompt)],
        tokens=tokens,
        texts=completion_texts(tokenizer, tokens.completion_ids, tokens.completion_mask, rule.end_ids),
        ended=ended,
    )


def _joined(parts: Sequence[Tensor | None], width: int) -> Tensor | None:
    """The choices of several batches, padded to the most there are."""
    found = [part[:, :width] for part in parts if part is not None]
    if not found:
        return None
    most = max(part.shape[-1] for part in found)
    return torch.cat(
        [torch.nn.functional.pad(part, (0, most - part.shape[-1]), value=NO_CHOICE) for part in found]
    )


def completion_texts(tokenizer: Any, ids: Tensor, mask: Tensor, end_ids: frozenset[int]) -> list[str]:
    """Texts of N completions (N, T), special tokens and the end of text left out."""
    written = [row[kept].tolist() for row, kept in zip(ids, mask, strict=True)]
    return [_decode(tokenizer, row, end_ids) for row in written]


def _decode(tokenizer: Any, ids: Sequence[int], end_ids: frozenset[int]) -> str:
    # An end of text is not always a special token of the tokenizer, and is never text.
    kept = ids[:-1] if ids[-1] in end_ids else ids
    return str(tokenizer.decode(kept, skip_special_tokens=True))


@torch.no_grad()
def sample_completions(
    forward: SamplingForward,
    prompt_ids: Tensor,
    prompt_mask: Tensor,
    rule: SamplingRule,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Sample K completions for each prompt.

    Args:
        forward: The policy.
        prompt_ids: (P, L), padding on the left.
        prompt_mask: (P, L), bool.
        rule: How to draw.
        generator: On the prompts' device.

    Returns:
        Token ids (N, max_new_tokens) with zeros after the end, their mask, which ended by themselves (N,), and the tokens that each was
        drawn from (N, max_new_tokens, C), None when that is the whole vocabulary.
    """
    logits, cache, mask, writing = _read_prompts(
        forward, prompt_ids, prompt_mask, samples=rule.samples_per_prompt, room=rule.max_new_tokens
    )
    with writing:
        return _write(forward, logits, cache, mask, rule, generator)


def _write(
    forward: SamplingForward,
    logits: Tensor,
    cache: Any,
    mask: Tensor,
    rule: SamplingRule,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """See `sample_completions`; logits (N, 1, V) of the first tokens, the cache, and the mask (N, L) of what was read."""
    n_rows, device = mask.shape[0], mask.device
    ids = torch.zeros(n_rows, rule.max_new_tokens, dtype=torch.long, device=device)
    written = torch.zeros_like(ids, dtype=torch.bool)
    ended = torch.zeros(n_rows, dtype=torch.bool, device=device)
    ends = torch.tensor(sorted(rule.end_ids), device=device)
    lengths = mask.sum(dim=1, keepdim=True)
    rows = torch.arange(n_rows, device=device)  # (A,): which completion each row of the cache writes
    choices: list[tuple[Tensor, Tensor]] = []
    for t in range(rule.max_new_tokens):
        drawn, among = draw_tokens(logits[:, -1], rule, generator)  # (A,), (A, C)
        going = ~ended[rows]
        if among is not None:
            choices.append((rows[going], among[going]))
        ids[rows[going], t] = drawn[going]
        written[rows[going], t] = True
        ended[rows] |= torch.isin(drawn, ends)
        going = ~ended[rows]
        if t + 1 == rule.max_new_tokens or not going.any():
            break
        # Copying the cache costs about as much as a token: worth it when a quarter of the rows is done.
        # The state of a recurrent model cannot be taken apart.
        if forward.can_share and int(going.sum()) <= 0.75 * len(rows):
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
    return ids, written, ended, _by_place(choices, ids)


def _by_place(choices: Sequence[tuple[Tensor, Tensor]], ids: Tensor) -> Tensor | None:
    """Choices of each step (rows, tokens) as one tensor (N, T, C)."""
    if not choices:
        return None
    most = max(among.shape[1] for _, among in choices)
    placed = torch.full((*ids.shape, most), NO_CHOICE, dtype=torch.long, device=ids.device)
    for t, (rows, among) in enumerate(choices):
        placed[rows, t, : among.shape[1]] = among
    return placed


def _read_prompts(
    forward: SamplingForward, prompt_ids: Tensor, prompt_mask: Tensor, *, samples: int, room: int
) -> tuple[Tensor, Any, Tensor, AbstractContextManager[None]]:
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
    if not forward.can_share:
        return logits, cache, repeated_mask, nullcontext()
    cache, writing = forward.continue_prompts(cache, prompt_mask, samples=samples, room=room)
    return logits.repeat_interleave(samples, dim=0), cache, repeated_mask, writing


def draw_tokens(
    logits: Tensor, rule: SamplingRule, generator: torch.Generator
) -> tuple[Tensor, Tensor | None]:
    """Draw one token (A,) from each row of logits (A, V), and say among which it was drawn: (A, C), the likeliest first.

    `min_p` keeps the tokens at least so likely, for the share of the likeliest, as the model itself finds them (Nguyen et al. 2024, arXiv
    2407.01082); `top_p` the smallest set with that probability after the temperature (Holtzman et al. 2020, arXiv 1904.09751, equation 2).
    """
    probabilities = (logits.float() / rule.temperature).softmax(dim=-1)
    if rule.top_p == 1.0 and rule.min_p == 0.0:
        return torch.multinomial(probabilities, 1, generator=generator).squeeze(1), None
    # Temperature keeps the order, so a share of the likeliest is that share to the power of 1/T afterwards.
    least = probabilities.amax(dim=-1, keepdim=True) * rule.min_p ** (1 / rule.temperature)
    # Few tokens are so likely; sorting all others would take as long as the model.
    likely = int((probabilities >= least).sum(dim=1).max())
    ordered, order = probabilities.topk(likely, dim=-1)
    before = ordered.cumsum(dim=-1) - ordered  # probability of everything likelier
    dropped = (before >= rule.top_p) | (ordered < least)
    dropped[:, 0] = False
    most = int((~dropped).sum(dim=1).max())
    kept = ordered[:, :most].masked_fill(dropped[:, :most], 0.0)
    place = torch.multinomial(kept, 1, generator=generator)
    choices = order[:, :most].masked_fill(dropped[:, :most], NO_CHOICE)
    return order.gather(1, place).squeeze(1), choices
