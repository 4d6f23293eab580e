"""The model that pretraining starts from.

Knows nothing of text or of training. Different from a fresh model of transformers: it can begin with heads that copy (`induction_init`).
"""

from __future__ import annotations

from typing import Any

from alignment.induction_init import initialise_induction
from alignment.pretrain_settings import PretrainSettings


def new_model(settings: PretrainSettings, tokenizer: Any) -> Any:
    """A Llama of the wanted size with random weights, drawn from torch's global state.

    Args:
        settings: Sizes, and whether a pair of induction heads is put in.
        tokenizer: Its vocabulary and special tokens.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.width,
        intermediate_size=settings.intermediate,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.heads,
        max_position_embeddings=settings.max_position_tokens,
        rope_parameters={"rope_type": "default", "rope_theta": settings.rope_base},
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    if settings.induction_init:
        initialise_induction(model, seed=settings.seed)
    return model
