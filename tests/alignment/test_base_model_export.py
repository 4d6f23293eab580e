from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from alignment.base_model_export import ModelCard, export_base_model, main
from alignment.tokenizer import train_tokenizer
from tests.alignment.tiny_corpora import page

CARD = ModelCard(
    name="Tiny",
    summary="For tests.",
    architecture="Llama, 1 layer.",
    data=["pages: made up, CC0"],
    licences="None asked.",
    tokens_seen=1234567,
    figures={"answer loss, nats a token": 0.5, "examples": 300},
    seed=20,
    machine="2 cores",
    commands=["python -m alignment.pretrain"],
    limits=["Everything."],
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float32 model with its tokenizer."""
    folder = tmp_path_factory.mktemp("checkpoint")
    tokenizer = train_tokenizer([page(1)], vocabulary_size=300, max_tokens=64)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_an_export_loads_and_knows_where_to_stop(checkpoint: Path, tmp_path: Path) -> None:
    """Transformers finds bfloat16 weights, tokenizer and end token."""
    out = export_base_model(checkpoint, tmp_path / "out", CARD)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(out), AutoTokenizer.from_pretrained(out)

    assert model.dtype == torch.bfloat16
    assert model.generation_config.eos_token_id == tokenizer.convert_tokens_to_ids("<|end|>")
    assert model.generation_config.pad_token_id == tokenizer.convert_tokens_to_ids("<|pad|>")
    assert tokenizer.chat_template


def test_the_card_tells_data_licences_tokens_and_figures(checkpoint: Path, tmp_path: Path) -> None:
    """A reader of the folder needs nothing else."""
    text = (export_base_model(checkpoint, tmp_path, CARD) / "README.md").read_text()

    assert all(
        part in text for part in ("CC0", "1,234,567", "| answer loss, nats a token | 0.500 |", "seed 20")
    )


def test_a_tokenizer_whose_padding_is_its_end_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    """Such a model never learns to stop."""
    AutoModelForCausalLM.from_pretrained(checkpoint).save_pretrained(tmp_path / "bad")
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(tmp_path / "bad")
    with pytest.raises(ValueError, match="pad token"):
        export_base_model(tmp_path / "bad", tmp_path / "out", CARD)


def test_the_command_takes_the_card_as_json(checkpoint: Path, tmp_path: Path) -> None:
    """The card's fields, no more and no less."""
    card = tmp_path / "card.json"
    card.write_text(json.dumps(dataclasses.asdict(CARD)))
    given = ["--checkpoint", str(checkpoint), "--out", str(tmp_path / "out"), "--card", str(card)]

    assert main(given) == 0
    card.write_text("{}")
    assert main(given) == 2
