"""A tiny policy, a tiny reward model and a reward on text, for the tests of PPO."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from alignment.records import RolloutPrompt, StageProgress
from alignment.tokenizer import train_tokenizer
from chatbot.records import PreparedTurn


def tiny_tokenizer() -> Any:
    """Bytes and special tokens only: 262 tokens."""
    return train_tokenizer(["a b c"], vocabulary_size=262, max_tokens=128)


def tiny_config(kind: str = "llama", *, pad_token_id: int = 0) -> Any:
    """Two layers, width 64."""
    from transformers import GPT2Config, LlamaConfig, Qwen2Config

    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": pad_token_id}
    if kind == "gpt2":
        return GPT2Config(vocab_size=262, n_positions=128, n_embd=64, n_layer=2, n_head=2, **ids)
    make = {"llama": LlamaConfig, "qwen2": Qwen2Config}[kind]
    return make(
        vocab_size=262,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        **ids,
    )


def tiny_model(kind: str = "llama", *, seed: int = 0) -> Any:
    """A causal model with random weights of some size, so that positions and tokens matter."""
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(tiny_config(kind))
        for parameter in model.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


def save_tiny_models(directory: Path, kind: str = "llama") -> tuple[Path, Path]:
    """Directories of a policy and of a reward model."""
    from transformers import AutoModelForSequenceClassification

    policy_dir, reward_dir = directory / "policy", directory / "reward"
    tiny_model(kind).save_pretrained(policy_dir)
    config = tiny_config(kind)
    config.num_labels = 1
    with torch.random.fork_rng():
        torch.manual_seed(1)
        AutoModelForSequenceClassification.from_config(config).save_pretrained(reward_dir)
    for path in (policy_dir, reward_dir):
        tiny_tokenizer().save_pretrained(path)
    return policy_dir, reward_dir


def rollout_prompts(n: int = 8) -> list[RolloutPrompt]:
    """Prompts of different lengths."""
    prepared = PreparedTurn(
        question="",
        search_text="",
        passages=(),
        evidence=(),
        messages=(),
        answerable=True,
        support=1.0,
        versions={},
    )
    words = ["leave", "pay", "travel to Rome", "a badge", "my laptop is broken", "x"]
    return [
        RolloutPrompt(
            id=f"q{i}",
            question=words[i % len(words)],
            prompt=f"<|begin|><|user|>{words[i % len(words)]}{'?' * (i // len(words))}<|assistant|>",
            prepared=prepared,
        )
        for i in range(n)
    ]


class LetterReward:
    """The share of a completion's characters that are lower-case letters."""

    name = "letters"

    def score(self, prompts: Sequence[RolloutPrompt], completions: Sequence[str]) -> list[float]:
        """Between 0 and 1; 0 for an empty completion."""
        return [sum("a" <= c <= "z" for c in text) / max(len(text), 1) for text in completions]


class LengthReward:
    """Prefers short completions."""

    name = "short"

    def score(self, prompts: Sequence[RolloutPrompt], completions: Sequence[str]) -> list[float]:
        """Minus the number of characters over ten."""
        return [-len(text) / 10 for text in completions]


def ignore_progress(progress: StageProgress) -> None:
    """Listen to nothing."""
