"""Sampling: where completions end, what they are drawn from, and that draws repeat."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import MambaConfig, MambaForCausalLM

from alignment.completion_forward import TokenBatch, completion_outputs, pad_prompts
from alignment.errors import TrainingError
from alignment.models import CausalForward
from alignment.rollouts import (
    NO_CHOICE,
    Rollouts,
    SamplingRule,
    draw_tokens,
    sample_completions,
    sample_rollouts,
)
from tests.alignment.ppo_fakes import rollout_prompts, tiny_model, tiny_tokenizer

CPU = torch.device("cpu")
END = frozenset({2, 50})


def rule(**changes: Any) -> SamplingRule:
    """Three samples of at most six tokens."""
    chosen = {"samples_per_prompt": 3, "max_new_tokens": 6, "temperature": 1.0, "top_p": 1.0, "end_ids": END}
    return SamplingRule(**(chosen | changes))


def sample(seed: int = 0, **changes: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Completions of two prompts of different lengths."""
    ids, mask = pad_prompts([[5, 9, 30], [7]], CPU)
    generator = torch.Generator().manual_seed(seed)
    return sample_completions(CausalForward(tiny_model()), ids, mask, rule(**changes), generator)[:3]


def test_a_completion_ends_with_its_first_end_of_text() -> None:
    """The end of text belongs to the completion, and nothing follows it."""
    # Half of the vocabulary ends a completion: most do, at different lengths.
    ends = frozenset(range(131))
    ids, mask, ended = sample(end_ids=ends)

    for row_ids, row_mask, row_ended in zip(ids.tolist(), mask.tolist(), ended.tolist(), strict=True):
        length = sum(row_mask)
        assert row_mask == [t < length for t in range(6)]
        assert not any(token in ends for token in row_ids[: length - 1])
        assert row_ended == (row_ids[length - 1] in ends)
        assert row_ended or length == 6
    assert ended.any()


def test_rows_that_leave_the_batch_do_not_change_the_others() -> None:
    """At almost no temperature every completion is the likeliest one, whoever finished before."""
    forward = CausalForward(tiny_model())
    ids, mask, _ = sample(temperature=1e-4, samples_per_prompt=1)
    # End the second prompt's completion at its first token.
    early = frozenset({int(ids[1, 0])}) - {int(i) for i in ids[0]}

    again, again_mask, ended = sample(temperature=1e-4, samples_per_prompt=1, end_ids=early or END)

    assert torch.equal(ids[0][mask[0]], again[0][again_mask[0]])
    assert forward.can_share
    assert ended.tolist()[1] == bool(early)


def test_the_same_generator_draws_the_same_completions() -> None:
    """And another seed draws others; the global generator is not touched."""
    before = torch.get_rng_state()
    first, second, other = sample(1)[0], sample(1)[0], sample(2)[0]

    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


def test_the_likeliest_completion_is_the_one_training_finds_likeliest() -> None:
    """Sampling with the cache step by step and the training forward pass agree on every position."""
    model = tiny_model()
    prompt_ids, prompt_mask = pad_prompts([[5, 9, 30], [7]], CPU)
    ids, mask, _ = sample(temperature=1e-4)

    tokens = TokenBatch(
        prompt_ids=prompt_ids, prompt_mask=prompt_mask, completion_ids=ids, completion_mask=mask
    )
    with torch.no_grad():
        logits = completion_outputs(CausalForward(model), tokens, share_prompts=True)

    assert torch.equal(ids[mask], logits.argmax(dim=-1)[mask])


def test_sharing_prompts_does_not_change_the_draws() -> None:
    """A model whose cache cannot be repeated reads every prompt once for each sample, with the same result."""
    ids, mask = pad_prompts([[5, 9, 30], [7]], CPU)
    forward = CausalForward(tiny_model())
    results = []
    for can_share in (True, False):
        forward.can_share = can_share
        results.append(sample_completions(forward, ids, mask, rule(), torch.Generator().manual_seed(3))[0])

    assert torch.equal(results[0], results[1])


LOGITS = torch.tensor([0.15, 0.5, 0.05, 0.3]).log().repeat(500, 1)


def draw(**changes: Any) -> tuple[set[int], list[int]]:
    """What is drawn 500 times from probabilities 0.15, 0.5, 0.05, 0.3, and from what."""
    drawn, choices = draw_tokens(LOGITS, rule(**changes), torch.Generator().manual_seed(0))
    assert choices is not None
    assert torch.equal(choices, choices[:1].expand_as(choices))
    return set(drawn.tolist()), choices[0].tolist()


def test_nucleus_sampling_draws_only_from_the_likeliest_tokens() -> None:
    """The first two have a probability of 0.7 or more; the likeliest comes first."""
    assert draw(top_p=0.7) == ({1, 3}, [1, 3])


def test_tokens_that_the_model_finds_unlikely_are_not_drawn_at_any_temperature() -> None:
    """0.15 is less than 0.4 times 0.5, whatever the temperature makes of both."""
    assert draw(min_p=0.4, temperature=4.0) == ({1, 3}, [1, 3])
    assert draw(min_p=0.2, temperature=0.7)[1] == [1, 3, 0]


def test_of_many_equally_likely_tokens_none_is_left_out() -> None:
    """However many there are: the bound is on how likely a token is, not on how many."""
    _, choices = draw_tokens(torch.zeros(2, 300), rule(min_p=0.5), torch.Generator().manual_seed(0))
    assert choices is not None
    assert sorted(choices[0].tolist()) == list(range(300))


def test_both_restrictions_hold_at_once() -> None:
    """Three tokens are likely enough, and two of them are 0.7 of everything."""
    assert draw(min_p=0.2, top_p=0.7) == ({1, 3}, [1, 3])


def three_prompts_in_two_batches(**changes: Any) -> Rollouts:
    """Three samples of each."""
    return sample_rollouts(
        CausalForward(tiny_model()),
        tiny_tokenizer(),
        [(prompt, [5, 9 + i]) for i, prompt in enumerate(rollout_prompts(3))],
        rule(**changes),
        batch_prompts=2,
        generator=torch.Generator().manual_seed(0),
    )


def test_what_a_token_was_drawn_from_stands_at_its_place() -> None:
    """Also for rows that ended before others, and for prompts sampled in several batches; beyond the end there is nothing."""
    rollouts = three_prompts_in_two_batches(end_ids=frozenset(range(131)), min_p=0.8)

    tokens = rollouts.tokens
    assert tokens.choices is not None
    is_a_choice = (tokens.choices == tokens.completion_ids.unsqueeze(-1)).any(dim=-1)
    assert torch.equal(is_a_choice, tokens.completion_mask)
    assert (tokens.choices[~tokens.completion_mask] == NO_CHOICE).all()
    chosen = tokens.select(torch.tensor([2])).choices
    assert chosen is not None
    assert torch.equal(chosen, tokens.choices[6:9, : chosen.shape[1]])


def test_draws_follow_the_tempered_distribution() -> None:
    """Frequencies of 20,000 draws within two points."""
    logits = torch.tensor([0.0, 1.0, 2.0])
    drawn, choices = draw_tokens(
        logits.repeat(20_000, 1), rule(temperature=0.5), torch.Generator().manual_seed(0)
    )
    assert choices is None
    frequencies = torch.bincount(drawn, minlength=3) / 20_000
    assert torch.allclose((logits / 0.5).softmax(0), frequencies, atol=0.02)


def test_texts_hold_neither_prompt_nor_end_of_text() -> None:
    """Samples of a prompt stand together, each with its prompt."""
    rollouts = three_prompts_in_two_batches(end_ids=frozenset(range(200)))
    tokenizer = tiny_tokenizer()

    assert [p.id for p in rollouts.prompts] == ["q0"] * 3 + ["q1"] * 3 + ["q2"] * 3
    for row, text in enumerate(rollouts.texts):
        ids = rollouts.tokens.completion_ids[row][rollouts.tokens.completion_mask[row]].tolist()
        kept = ids[:-1] if rollouts.ended[row] else ids
        assert text == tokenizer.decode(kept, skip_special_tokens=True)


def test_a_model_without_a_cache_to_go_on_from_is_refused() -> None:
    """Mamba keeps its state under another name: every token after the first would be drawn without the prompt."""
    config = MambaConfig(vocab_size=60, hidden_size=16, state_size=4, num_hidden_layers=1)
    ids, mask = pad_prompts([[5, 9, 30]], CPU)

    with pytest.raises(TrainingError, match="MambaForCausalLM gives back no key-value cache"):
        sample_completions(
            CausalForward(MambaForCausalLM(config)), ids, mask, rule(), torch.Generator().manual_seed(0)
        )
