"""Gives a tokenizer and its model a padding token that is not the end of text, and encodes rows as serving does.

Knows nothing of stages. Different from the usual recipe (`pad_token = eos_token`): with that one, collators and sequence
classifiers mask the real end of text away together with the padding, and the model never learns to stop.
"""

from __future__ import annotations

from typing import Any

from alignment.errors import TrainingError

_KNOWN_PADS = (
    "<|pad|>",
    "<pad>",
    "[PAD]",
    "<|finetune_right_pad_id|>",
    "<|endoftext|>",
    "<|reserved_special_token_0|>",
    "<unk>",
)
"""Tokens that vocabularies hold for padding or do not use, in the order tried."""
NEW_PAD = "<|pad|>"


def ensure_padding(tokenizer: Any, model: Any) -> bool:
    """Set a padding token distinct from the end token on a tokenizer and its model.

    Tried in this order: the tokenizer's own; a known unused one of the vocabulary; a new token on a spare row of the embedding
    (vocabularies are often padded to a multiple of 64); a new token with the embedding grown by one row.

    Args:
        tokenizer: A Hugging Face tokenizer; changed in place.
        model: The model it belongs to; changed in place.

    Returns:
        Whether the embedding was resized.

    Raises:
        TrainingError: the tokenizer has no end token.
    """
    if tokenizer.eos_token is None:
        raise TrainingError(
            "the model's tokenizer has no end token, so it could never stop; set eos_token in its config"
        )
    resized = False
    if tokenizer.pad_token is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        vocabulary = tokenizer.get_vocab()
        used = {tokenizer.eos_token, tokenizer.bos_token}
        known = next((pad for pad in _KNOWN_PADS if pad in vocabulary and pad not in used), None)
        tokenizer.add_special_tokens({"pad_token": known or NEW_PAD})
        if len(tokenizer) > model.get_input_embeddings().weight.shape[0]:
            model.resize_token_embeddings(len(tokenizer))
            resized = True
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    if getattr(model, "generation_config", None) is not None:
        model.generation_config.pad_token_id = tokenizer.pad_token_id
    return resized


def encode_prompt(tokenizer: Any, prompt: str) -> list[int]:
    """Token ids of a rendered prompt, as the local generator encodes it: a chat template writes the begin token itself."""
    has_template = bool(getattr(tokenizer, "chat_template", None))
    return list(tokenizer(prompt, add_special_tokens=not has_template)["input_ids"])


def encode_completion(tokenizer: Any, completion: str) -> list[int]:
    """Token ids of a completion with the end token behind it.

    Prompt and completion are encoded apart, because that is how a completion comes to be: tokens that merge across the boundary
    never occur in serving.
    """
    ids = list(tokenizer(completion, add_special_tokens=False)["input_ids"])
    return [*ids, tokenizer.eos_token_id]
