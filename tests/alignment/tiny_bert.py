"""A BERT of a few thousand random weights that knows a few words, saved as a Hugging Face directory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def make_tiny_bert(folder: Path, words: Sequence[str]) -> Path:
    """Write it; it has no pooling layer."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    vocabulary = [*SPECIAL, *words]
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=64,
    )  # fmt: skip
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    BertTokenizerFast(vocab={word: n for n, word in enumerate(vocabulary)}).save_pretrained(folder)
    return folder
