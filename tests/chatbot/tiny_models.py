"""Freshly made models of a few thousand random weights in three architectures, saved as Hugging Face directories."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_TEXT = [
    "Question: How many days of annual leave do I have? Evidence: [1] You get 25 days of leave each year.",
    "I don't know. The documents I can read don't answer this. Ask the office — naïve café, 日本語, emoji 🙂.",
]
_CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_LLAMA = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "<|{{ m['role'] }}|>{{ m['content'] }}{% if m['role'] == 'assistant' %}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
ARCHITECTURES = ("qwen2", "llama", "gpt2")


def make_tiny_model(
    folder: Path, architecture: str, *, chat_template: bool = True, seed: int = 0, context: int = 512
) -> Path:
    """Write a tiny random model: Qwen2 (pad given), Llama (template refuses the system role), GPT-2 (no pad token at all)."""
    import torch

    tokenizer = _make_tokenizer(architecture, chat_template=chat_template)
    torch.manual_seed(seed)
    model = _make_model(architecture, len(tokenizer), tokenizer.eos_token_id, context)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def load_tiny_model(folder: Path) -> tuple[Any, Any]:
    """A saved model and its tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return (
        AutoModelForCausalLM.from_pretrained(folder, local_files_only=True),
        AutoTokenizer.from_pretrained(folder, local_files_only=True),
    )


def _make_tokenizer(architecture: str, *, chat_template: bool) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    special = {
        "qwen2": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        "llama": ["<|pad|>", "<|begin|>", "<|end|>", "<|user|>", "<|assistant|>"],
        "gpt2": ["<|endoftext|>"],
    }[architecture]
    names = {
        "qwen2": {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
        "llama": {"bos_token": "<|begin|>", "eos_token": "<|end|>", "pad_token": "<|pad|>"},
        "gpt2": {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"},
    }[architecture]
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(_TEXT, trainer=trainer)
    extra = [token for token in special if token not in names.values()]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, extra_special_tokens=extra, **names)
    if chat_template and architecture != "gpt2":
        tokenizer.chat_template = _CHATML if architecture == "qwen2" else _LLAMA
    return tokenizer


def _make_model(architecture: str, vocabulary: int, end_id: int, context: int) -> Any:
    from transformers import (
        GPT2Config,
        GPT2LMHeadModel,
        LlamaConfig,
        LlamaForCausalLM,
        Qwen2Config,
        Qwen2ForCausalLM,
    )

    if architecture == "gpt2":
        shape = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": context}
        # Large weights make random models opinionated: a wrong mask or position then changes what they write.
        return GPT2LMHeadModel(
            GPT2Config(
                vocab_size=vocabulary,
                eos_token_id=end_id,
                bos_token_id=end_id,
                initializer_range=0.4,
                **shape,
            )
        )
    common = {
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": context,
        "eos_token_id": end_id,
        "initializer_range": 0.4,
    }
    if architecture == "qwen2":
        return Qwen2ForCausalLM(Qwen2Config(**common))
    return LlamaForCausalLM(LlamaConfig(**common))
