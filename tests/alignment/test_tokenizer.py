from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignment.tokenizer import SPECIAL_TOKENS, train_tokenizer
from chatbot.prompt import NumberedEvidence, build_messages, render_prompt

_TEXTS = ["You get 25 days of annual leave.", "The office opens at 9. Ask the desk about your badge."] * 20


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """A tokenizer of bytes and a few merges."""
    return train_tokenizer(_TEXTS, vocabulary_size=320, max_tokens=256)


@given(text=st.text(max_size=80))
@settings(max_examples=60, deadline=None)
def test_any_text_survives_the_round_trip(tokenizer: Any, text: str) -> None:
    """Bytes cover what was never seen in training; only the space that every stretch of text begins with comes along."""
    ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]

    assert (f" {text}" if text else "") == tokenizer.decode(ids, skip_special_tokens=False)


def test_each_digit_is_its_own_token(tokenizer: Any) -> None:
    """So that numbers are copied, not guessed."""
    assert ["2", "0", "2", "6"] == tokenizer.tokenize("In 2026")[-4:]


def test_an_answer_begins_with_the_token_that_stands_in_the_evidence(tokenizer: Any) -> None:
    """So that the first word can be copied like all others."""
    in_evidence = tokenizer.tokenize("1. You get 25 days. [1]")

    assert (
        tokenizer.tokenize("You get 25 days. [1]")
        == in_evidence[-len(tokenizer.tokenize("You get 25 days. [1]")) :]
    )


def test_padding_is_not_the_end(tokenizer: Any) -> None:
    """A model trained with the same token for both never stops."""
    assert len({tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id}) == 3
    assert tokenizer.padding_side == "left"


def test_the_template_drops_the_instruction_and_frames_the_turns(tokenizer: Any) -> None:
    """The embedded model has its instruction in the weights."""
    evidence = [NumberedEvidence(number=1, heading="Leave", text="You get 25 days.")]
    prompt = render_prompt(tokenizer, build_messages("How many days?", evidence))

    assert prompt == (
        "<|begin|><|user|>Question: How many days?\n\nEvidence:\nLeave\n1. You get 25 days. [1]\n\n"
        "Question: How many days?<|assistant|>"
    )


def test_an_answer_ends_with_the_end_token(tokenizer: Any) -> None:
    """Training and serving agree on where an answer ends."""
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]

    assert (
        tokenizer.apply_chat_template(chat, tokenize=False) == "<|begin|><|user|>Hi<|assistant|>Hello.<|end|>"
    )


def test_a_saved_tokenizer_loads_as_it_was(tokenizer: Any, tmp_path: Any) -> None:
    """Transformers finds template, special tokens and padding side again."""
    from transformers import AutoTokenizer

    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)

    assert loaded.chat_template == tokenizer.chat_template
    assert [loaded.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS] == list(
        range(len(SPECIAL_TOKENS))
    )
    assert loaded.padding_side == "left"


def test_a_vocabulary_without_room_for_bytes_is_refused() -> None:
    """256 bytes and the special tokens are the least."""
    with pytest.raises(ValueError, match="vocabulary_size=100"):
        train_tokenizer(_TEXTS, vocabulary_size=100)
