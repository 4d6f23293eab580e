"""A padding token that is never the end token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from alignment.errors import TrainingError
from alignment.padding import encode_completion, encode_prompt, ensure_padding
from tests.chatbot.tiny_models import load_tiny_model, make_tiny_model


def _load(folder: Path, architecture: str, **options: Any) -> tuple[Any, Any]:
    return load_tiny_model(make_tiny_model(folder, architecture, **options))


def test_a_given_padding_token_is_kept(tmp_path: Path) -> None:
    """And told to the model."""
    model, tokenizer = _load(tmp_path, "llama")

    assert not ensure_padding(tokenizer, model)
    assert "<|pad|>" == tokenizer.pad_token
    assert tokenizer.pad_token_id == model.config.pad_token_id == model.generation_config.pad_token_id


def test_a_padding_token_that_is_the_end_token_is_replaced(tmp_path: Path) -> None:
    """By an unused one of the vocabulary, without growing the embedding."""
    model, tokenizer = _load(tmp_path, "qwen2")
    tokenizer.pad_token = tokenizer.eos_token

    assert not ensure_padding(tokenizer, model)
    assert "<|endoftext|>" == tokenizer.pad_token != tokenizer.eos_token


def test_a_spare_row_of_the_embedding_is_used_before_growing_it(tmp_path: Path) -> None:
    """Vocabularies are padded to multiples of 64."""
    model, tokenizer = _load(tmp_path, "gpt2")
    model.resize_token_embeddings(len(tokenizer) + 10)
    before = model.get_input_embeddings().weight.shape[0]

    assert not ensure_padding(tokenizer, model)
    assert before == model.get_input_embeddings().weight.shape[0]
    assert tokenizer.pad_token_id < before


def test_without_a_spare_row_the_embedding_grows_by_one(tmp_path: Path) -> None:
    """GPT-2's case."""
    model, tokenizer = _load(tmp_path, "gpt2")
    before = model.get_input_embeddings().weight.shape[0]

    assert ensure_padding(tokenizer, model)
    assert before + 1 == model.get_input_embeddings().weight.shape[0]


def test_a_tokenizer_without_an_end_token_is_refused(tmp_path: Path) -> None:
    """Such a policy could never stop."""
    model, tokenizer = _load(tmp_path, "llama")
    tokenizer.eos_token = None

    with pytest.raises(TrainingError, match="no end token"):
        ensure_padding(tokenizer, model)


def test_completions_end_with_exactly_one_end_token(tmp_path: Path) -> None:
    """And a templated prompt gets no second begin token."""
    _, tokenizer = _load(tmp_path, "llama")
    ids = encode_completion(tokenizer, "25 days [1].")
    prompt = encode_prompt(tokenizer, "<|begin|><|user|>Why?<|assistant|>")

    assert [tokenizer.eos_token_id] == [token for token in ids if token == tokenizer.eos_token_id]
    assert 1 == prompt.count(tokenizer.bos_token_id)
