"""Trains the embedded model's tokenizer: byte-level BPE with digits split singly.

Knows nothing of corpora or models: text comes in as an iterable, a Hugging Face fast tokenizer comes out. Differs from the
textbook in three ways. Each stretch of text between special tokens begins with a space, so that the first word of an answer is the same
token as in the evidence it is copied from. Digits are never merged, so that a model of this size copies "14 days" digit by digit instead of guessing
a rare token. And the chat template drops the system message: the embedded model has its instruction in the weights, and 90
tokens of instruction in front of each prompt would cost more than they tell.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

PAD, BEGIN, END = "<|pad|>", "<|begin|>", "<|end|>"
USER, ASSISTANT, SYSTEM = "<|user|>", "<|assistant|>", "<|system|>"
SPECIAL_TOKENS = (PAD, BEGIN, END, USER, ASSISTANT, SYSTEM)
"""In the order of their ids, from 0. Padding is never the end: else a model learns not to stop."""

CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}<|user|>{{ message['content'] }}"
    "{% elif message['role'] == 'assistant' %}<|assistant|>{% generation %}{{ message['content'] }}<|end|>{% endgeneration %}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
"""`<|begin|><|user|>question<|assistant|>answer<|end|>...`; system messages are dropped."""


def train_tokenizer(texts: Iterable[str], *, vocabulary_size: int = 8192, max_tokens: int = 2048) -> Any:
    """Train a byte-level BPE tokenizer and wrap it for transformers.

    Args:
        texts: Training text, read once.
        vocabulary_size: Number of tokens, special ones and the 256 bytes included.
        max_tokens: The model's context size in tokens, stored as `model_max_length`.

    Returns:
        A `PreTrainedTokenizerFast`, padding on the left, with `CHAT_TEMPLATE`.

    Raises:
        ValueError: If the vocabulary cannot even hold bytes and special tokens.
    """
    least = 256 + len(SPECIAL_TOKENS)
    if vocabulary_size < least:
        raise ValueError(
            f"vocabulary_size={vocabulary_size} must be at least {least}: 256 bytes and special tokens"
        )
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Prepend(" ")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer=trainer)
    return wrap_tokenizer(tokenizer, max_tokens=max_tokens)


def wrap_tokenizer(tokenizer: Any, *, max_tokens: int) -> Any:
    """A `tokenizers.Tokenizer` as the `PreTrainedTokenizerFast` that serving and training load."""
    from transformers import PreTrainedTokenizerFast

    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BEGIN,
        eos_token=END,
        additional_special_tokens=[USER, ASSISTANT, SYSTEM],
        padding_side="left",
        truncation_side="left",
        model_max_length=max_tokens,
        clean_up_tokenization_spaces=False,
    )
    wrapped.chat_template = CHAT_TEMPLATE
    return wrapped
