"""Copying by construction."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from alignment.induction_init import initialise_induction


def fresh_model(**changes: object) -> LlamaForCausalLM:
    """An untrained Llama with room for the circuit."""
    torch.manual_seed(0)
    shape = {
        "vocab_size": 2000,
        "hidden_size": 384,
        "num_hidden_layers": 2,
        "num_attention_heads": 6,
        "num_key_value_heads": 6,
        "intermediate_size": 64,
        "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
    }
    return LlamaForCausalLM(LlamaConfig(**(shape | changes))).eval()


def repeat_accuracy(model: LlamaForCausalLM, n_words: int = 2000) -> float:
    """Share of the second half of a repeated random sequence of so many words that greedy prediction gets right."""
    torch.manual_seed(1)
    half = torch.randint(n_words, (4, 100))
    tokens = torch.cat([half, half], dim=1)
    with torch.no_grad():
        guesses = model(tokens).logits[:, :-1].argmax(-1)
    return float((guesses == tokens[:, 1:])[:, 100:].float().mean())


def test_an_untrained_model_copies() -> None:
    """The constructed circuit repeats what it has seen; ordinary first weights do not."""
    model = fresh_model()
    assert repeat_accuracy(model) < 0.05

    initialise_induction(model)

    assert repeat_accuracy(model) > 0.6


def test_common_words_do_not_lead_astray() -> None:
    """With thirty words every word has several continuations, and only the longer match tells the right one."""
    model = fresh_model()
    initialise_induction(model)

    assert repeat_accuracy(model, n_words=30) > 0.6


def test_the_same_seed_gives_the_same_weights() -> None:
    """The construction is reproducible."""
    first, second = fresh_model(), fresh_model()
    initialise_induction(first, seed=3)
    initialise_induction(second, seed=3)

    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_a_model_without_room_is_refused_by_name() -> None:
    """The error says what is missing."""
    with pytest.raises(ValueError, match="rope_theta 10000"):
        initialise_induction(fresh_model(rope_parameters={"rope_type": "default", "rope_theta": 1e4}))
