"""Longer matches, written into a model that copies already."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaForCausalLM

from alignment.induction_graft import lengthen_match
from alignment.induction_init import initialise_induction
from tests.alignment.test_induction_init import fresh_model, repeat_accuracy


@pytest.fixture
def model() -> LlamaForCausalLM:
    """One that copies by matches of three tokens."""
    made = fresh_model()
    initialise_induction(made)
    return made


def test_where_three_tokens_do_not_tell_five_do(model: LlamaForCausalLM) -> None:
    """With eight words most stretches of three occur twice or more."""
    before = repeat_accuracy(model, n_words=8)
    lengthen_match(model)

    assert repeat_accuracy(model, n_words=8) > before + 0.05


def test_what_was_copied_well_still_is(model: LlamaForCausalLM) -> None:
    """Rare words need no long match."""
    before = repeat_accuracy(model)
    lengthen_match(model)

    assert repeat_accuracy(model) > before - 0.02


def test_the_rest_of_the_model_stays_as_it_was(model: LlamaForCausalLM) -> None:
    """Later layers are touched only where they would write to the new blocks."""
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    lengthen_match(model)

    assert {f"model.layers.{layer}.self_attn.{name}_proj.weight" for layer in (0, 1) for name in "qkvo"} == {
        name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])
    }


def test_a_model_of_another_shape_is_refused() -> None:
    """It says what is missing."""
    with pytest.raises(ValueError, match="heads"):
        lengthen_match(fresh_model(num_attention_heads=4, num_key_value_heads=4))
