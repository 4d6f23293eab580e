"""Branches of a prompt attend as if each had the prompt to itself."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from alignment.branch_attention import attending_to_branches, branch, can_branch
from alignment.completion_forward import pad_prompts, prompt_positions

PROMPTS = [[5, 9, 30, 12, 8], [7], [3, 4, 60]]
WRITTEN = torch.randint(1, 90, (6, 4), generator=torch.Generator().manual_seed(1))
"""Four tokens of two branches of each prompt."""


def model(key_heads: int) -> LlamaForCausalLM:
    """Random weights, four query heads."""
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=100,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=key_heads,
            max_position_embeddings=64,
        )
    ).eval()


@pytest.mark.parametrize("key_heads", [4, 2, 1])
@torch.no_grad()
def test_branches_attend_as_if_each_had_its_own_prompt(key_heads: int) -> None:
    """Logits of every token, with grouped queries too, and after branches have left, a whole prompt's among them."""
    policy = model(key_heads)
    ids, mask = pad_prompts(PROMPTS, torch.device("cpu"))
    read = policy(
        input_ids=ids, attention_mask=mask.long(), position_ids=prompt_positions(mask), use_cache=True
    )
    cache = branch(read.past_key_values, mask, branches=2, room=4, dtype=torch.float32)
    rows = torch.arange(6)
    with attending_to_branches(policy):
        for t in range(4):
            if t == 2:
                going = torch.tensor([True, False, False, False, True, True])
                cache.batch_select_indices(going)
                rows = rows[going]
            lengths = torch.tensor([len(PROMPTS[int(row) // 2]) for row in rows])
            found = policy(
                input_ids=WRITTEN[rows, t : t + 1],
                position_ids=(lengths + t).unsqueeze(1),
                past_key_values=cache,
                use_cache=True,
            ).logits[:, 0]
            for row, logits in zip(rows.tolist(), found, strict=True):
                whole = torch.tensor([[*PROMPTS[row // 2], *WRITTEN[row, : t + 1].tolist()]])
                assert torch.allclose(policy_outside(policy, whole), logits, atol=1e-5)


def policy_outside(policy: LlamaForCausalLM, ids: torch.Tensor) -> torch.Tensor:
    """Logits after a text, by plain attention."""
    inside = policy.config._attn_implementation
    policy.config._attn_implementation = "eager"
    try:
        return policy(input_ids=ids).logits[0, -1]
    finally:
        policy.config._attn_implementation = inside


def test_attention_is_plain_again_afterwards() -> None:
    """Even when writing broke off."""
    policy = model(4)
    before = policy.config._attn_implementation
    with pytest.raises(KeyError), attending_to_branches(policy):
        raise KeyError
    assert policy.config._attn_implementation == before


def test_other_models_are_left_to_the_cache_of_transformers() -> None:
    """What is not known to pass on what its cache returns must not be given anything but tensors."""
    from transformers import GPT2Config, GPT2LMHeadModel

    assert can_branch(model(4))
    assert not can_branch(GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=10)))
