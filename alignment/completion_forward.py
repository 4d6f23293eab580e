"""Runs a causal transformer over prompts and their sampled completions, each prompt once.

Knows nothing of rewards or losses: token batches in, one output per completion token out, with gradient where it is wanted.
What an output is (logits, a value) is the business of the `TokenForward` given.

Different from the textbook: prompt and completion are not one sequence. The prompt's key/value cache is computed once, shared
by its samples (`branch_attention`), and the completions continue from it, in training as in sampling; autograd goes through the cache. With prompts
of 350 tokens and four samples of 48 that is a third of the work, and the result is the same. And padding is known by masks only:
no token id means padding, so that a tokenizer whose padding token is its end of text cannot hide an end of text from the loss.

Shapes: P prompts, K samples per prompt, N = P * K rollouts with the samples of a prompt together, L prompt tokens (padding on
the left), T completion tokens (padding on the right), D outputs per token.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor


class TokenForward(Protocol):
    """A transformer with an output for every token."""

    def __call__(
        self,
        *,
        input_ids: Tensor,
        attention_mask: Tensor,
        position_ids: Tensor,
        keep: int,
        cache: Any = None,
        use_cache: bool,
    ) -> tuple[Tensor, Any]:
        """Outputs of the last `keep` tokens (B, keep, D), and the key/value cache that now holds the input (None without)."""

    def branch_off(
        self, cache: Any, prompt_mask: Tensor, samples: int
    ) -> tuple[Any, AbstractContextManager[None]]:
        """Make a freshly filled cache ready for the completions of each prompt, all their tokens at once and with gradient, where prompts can be shared.

        Args:
            cache: Of P prompts; not to be used afterwards.
            prompt_mask: (P, L), bool.
            samples: Completions of each prompt.

        Returns:
            A cache of N rows, one for each completion, and what to be inside of while they are read.
        """

    @property
    def can_share(self) -> bool:
        """Whether the cache can be repeated for several continuations: attention everywhere, no recurrent state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenBatch:
    """Prompts with their completions, as padded tensors."""

    prompt_ids: Tensor
    """(P, L), padding on the left."""
    prompt_mask: Tensor
    """(P, L), bool."""
    completion_ids: Tensor
    """(N, T), padding on the right."""
    completion_mask: Tensor
    """(N, T), bool, ones on each completion including its end-of-text token."""
    choices: Tensor | None = None
    """(N, T, C), the token ids that each token was drawn from, -1 beyond them; None for the whole vocabulary."""

    @property
    def samples_per_prompt(self) -> int:
        """K."""
        return self.completion_ids.shape[0] // self.prompt_ids.shape[0]

    def rows_of(self, prompts: Tensor) -> Tensor:
        """Rollout rows (len(prompts) * K,) that belong to the prompts with these indices."""
        k = self.samples_per_prompt
        return (prompts.unsqueeze(1) * k + torch.arange(k, device=prompts.device)).flatten()

    def select(self, prompts: Tensor) -> TokenBatch:
        """The batch of some prompts, without columns that are padding for all of them."""
        rows = self.rows_of(prompts)
        length = int(self.prompt_mask[prompts].sum(dim=1).max())
        width = int(self.completion_mask[rows].sum(dim=1).max())
        return TokenBatch(
            prompt_ids=self.prompt_ids[prompts, -length:],
            prompt_mask=self.prompt_mask[prompts, -length:],
            completion_ids=self.completion_ids[rows, :width],
            completion_mask=self.completion_mask[rows, :width],
            choices=None if self.choices is None else self.choices[rows, :width],
        )


def pad_prompts(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids and bool mask, both (P, L), padded on the left; padding holds id 0, which the mask hides."""
    longest = max(len(ids) for ids in prompts)
    ids = torch.zeros(len(prompts), longest, dtype=torch.long)
    mask = torch.zeros(len(prompts), longest, dtype=torch.bool)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.tensor(list(prompt), dtype=torch.long)
        mask[row, longest - len(prompt) :] = True
    return ids.to(device), mask.to(device)


def prompt_positions(prompt_mask: Tensor) -> Tensor:
    """Positions (P, L) counted from each prompt's first real token."""
    return (prompt_mask.long().cumsum(dim=1) - 1).clamp(min=0)


def completion_outputs(forward: TokenForward, batch: TokenBatch, *, share_prompts: bool) -> Tensor:
    """The outputs that precede each completion token: (N, T, D).

    Output t is that of the token before completion token t, the prompt's last one for t = 0: the logits that token was drawn
    from, or the value before it was written.

    Args:
        forward: The transformer.
        batch: Prompts and completions.
        share_prompts: Process each prompt once for its K samples where the transformer can.
    """
    if share_prompts and forward.can_share and batch.samples_per_prompt > 1:
        return _shared(forward, batch)
    return _joined(forward, batch)


def _shared(forward: TokenForward, batch: TokenBatch) -> Tensor:
    k = batch.samples_per_prompt
    n_tokens = batch.completion_ids.shape[1]
    first, cache = forward(
        input_ids=batch.prompt_ids,
        attention_mask=batch.prompt_mask.long(),
        position_ids=prompt_positions(batch.prompt_mask),
        keep=1,
        use_cache=True,
    )  # (P, 1, D)
    first = first.repeat_interleave(k, dim=0)
    if n_tokens == 1:
        return first
    cache, reading = forward.branch_off(cache, batch.prompt_mask, k)
    prompt_mask = batch.prompt_mask.repeat_interleave(k, dim=0)
    lengths = prompt_mask.sum(dim=1, keepdim=True)  # (N, 1)
    with reading:
        rest, _ = forward(
            input_ids=batch.completion_ids[:, :-1],
            attention_mask=torch.cat([prompt_mask, batch.completion_mask[:, :-1]], dim=1).long(),
            position_ids=lengths + torch.arange(n_tokens - 1, device=lengths.device),
            keep=n_tokens - 1,
            cache=cache,
            use_cache=True,
        )  # (N, T - 1, D)
    return torch.cat([first, rest], dim=1)


def _joined(forward: TokenForward, batch: TokenBatch) -> Tensor:
    k = batch.samples_per_prompt
    n_tokens = batch.completion_ids.shape[1]
    prompt_mask = batch.prompt_mask.repeat_interleave(k, dim=0)
    mask = torch.cat([prompt_mask, batch.completion_mask[:, :-1]], dim=1)
    lengths = prompt_mask.sum(dim=1, keepdim=True)
    after = lengths + torch.arange(n_tokens - 1, device=lengths.device)
    outputs, _ = forward(
        input_ids=torch.cat(
            [batch.prompt_ids.repeat_interleave(k, dim=0), batch.completion_ids[:, :-1]], dim=1
        ),
        attention_mask=mask.long(),
        position_ids=torch.cat([prompt_positions(prompt_mask), after], dim=1),
        keep=n_tokens,
        use_cache=False,
    )
    return outputs


def token_logprobs(
    logits: Tensor, token_ids: Tensor, temperature: float, choices: Tensor | None = None
) -> Tensor:
    """Log-probabilities (N, T) of the tokens under logits (N, T, V) divided by the temperature, in float32 or wider.

    With `choices` (N, T, C) the distribution is that over these tokens alone. Every token with a gradient must be one of its choices.
    """
    scaled = _widened(logits) / temperature
    chosen = scaled.gather(-1, token_ids.unsqueeze(-1)).squeeze(-1)
    return chosen - (scaled if choices is None else _among(scaled, choices)).logsumexp(dim=-1)


def token_entropies(logits: Tensor, temperature: float, choices: Tensor | None = None) -> Tensor:
    """Entropy (N, T), in nats, of the distributions with these logits (N, T, V) divided by the temperature, over `choices` alone if given."""
    scaled = _widened(logits) / temperature
    logprobs = (scaled if choices is None else _among(scaled, choices)).log_softmax(dim=-1)
    probabilities = logprobs.exp()
    return -torch.xlogy(probabilities, probabilities).sum(dim=-1)


def vocabulary_kl(logits: Tensor, reference_logits: Tensor, temperature: float) -> Tensor:
    """KL (N, T), in nats, of the distributions with logits (N, T, V) from those with the reference's, both divided by the temperature.

    Summed over the whole vocabulary, so never below 0 and the same whichever token was drawn.

    >>> vocabulary_kl(torch.tensor([[[0.0, 0.0]]]), torch.tensor([[[0.0, 0.0]]]), 1.0)
    tensor([[0.]])
    """
    # Row by row: of a large vocabulary the copies would take several times the memory of the logits.
    rows = zip(logits, reference_logits, strict=True)
    return torch.stack([_row_kl(row, expected, temperature) for row, expected in rows])


def _row_kl(logits: Tensor, reference_logits: Tensor, temperature: float) -> Tensor:
    logprobs, expected = (
        (_widened(found) / temperature).log_softmax(dim=-1) for found in (logits, reference_logits)
    )
    probabilities = logprobs.exp()
    # Where the policy puts nothing there is nothing to count, also where the reference puts nothing either.
    gained = (logprobs - expected).masked_fill(probabilities == 0, 0.0)
    return (probabilities * gained).sum(dim=-1).clamp(min=0.0)


def choice_surprise(logits: Tensor, choices: Tensor) -> Tensor:
    """Minus the log of the probability (N, T) that all `choices` (N, T, C) of a token have together, at temperature 1, in nats."""
    wide = _widened(logits)
    return wide.logsumexp(dim=-1) - _among(wide, choices).logsumexp(dim=-1)


def _among(scaled: Tensor, choices: Tensor) -> Tensor:
    """Logits (N, T, C) of the choices, minus infinity where there is none; where a row has none at all, as padding has, of anything."""
    there = (choices >= 0) | (choices < 0).all(dim=-1, keepdim=True)
    return scaled.gather(-1, choices.clamp(min=0)).masked_fill(~there, float("-inf"))


def _widened(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()
