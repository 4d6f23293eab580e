"""A tiny real model that has learned two sentences by heart, so that a whole product with it runs in seconds on any machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.chatbot.tiny_models import make_tiny_model

SENTENCES = (
    "Every employee gets 25 days of annual leave each year. [1]",
    "Up to 5 days of annual leave can be carried over into the next year. [2]",
)
_STEPS = 160
_BATCH = 4


def make_parrot(folder: Path, prompts: Sequence[str]) -> Path:
    """Train a two-layer model to answer any prompt with one of `SENTENCES`, each about half of the time.

    Args:
        folder: Where to write it.
        prompts: Rendered prompts to practise on.
    """
    import torch
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    make_tiny_model(folder, "qwen2", context=1536)  # for its tokenizer
    tokenizer = AutoTokenizer.from_pretrained(folder)
    torch.set_num_threads(1)  # matrices this small gain nothing from more, and lose much on a busy machine
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=96,
            intermediate_size=192,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=1536,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=_STEPS)
    encoded = [tokenizer(prompt, add_special_tokens=False)["input_ids"] for prompt in prompts]
    answers = [
        tokenizer(text, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
        for text in SENTENCES
    ]
    for step in range(_STEPS):
        rows = [(encoded[(step + i) % len(encoded)], answers[i % 2]) for i in range(_BATCH)]
        width = max(len(prompt) + len(answer) for prompt, answer in rows)
        ids = torch.full((_BATCH, width), tokenizer.pad_token_id)
        labels = torch.full((_BATCH, width), -100)
        for row, (prompt, answer) in enumerate(rows):
            end = len(prompt) + len(answer)
            ids[row, :end] = torch.tensor(prompt + answer)
            labels[row, len(prompt) : end] = torch.tensor(answer)
        loss = model(
            input_ids=ids, attention_mask=(labels != -100) | (ids != tokenizer.pad_token_id), labels=labels
        ).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.save_pretrained(folder)
    return folder
