"""An encoder of texts that can be trained, and the loss that brings questions near their answers.

Knows nothing of data or of a training loop. Different from sentence-transformers' own model: gradients flow, nothing else is loaded, and a text
that stands twice in a batch is not held against itself.

Shapes: B questions of a batch, N texts, T tokens, D the encoder's width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

_ENCODED_AT_ONCE = 64


class TextEncoder:
    """Texts to unit vectors with gradients: the mean of the last states, as the bundled embedder pools."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        """Wrap a Hugging Face encoder."""
        self.model = model
        self.tokenizer = tokenizer

    def __call__(self, texts: Sequence[str], max_tokens: int) -> Tensor:
        """(len(texts), D), of length 1."""
        batch = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=max_tokens, return_tensors="pt"
        )
        batch = batch.to(self.model.device)
        with torch.autocast("cuda", dtype=torch.bfloat16, enabled=self.model.device.type == "cuda"):
            states = self.model(**batch).last_hidden_state.float()  # (n, T, D)
        mask = batch["attention_mask"][..., None].to(states.dtype)
        return torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)

    @torch.no_grad()
    def encode(self, texts: Sequence[str], max_tokens: int) -> Tensor:
        """Many texts, without gradients, in the order given."""
        self.model.eval()
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        vectors = torch.empty(len(texts), self.model.config.hidden_size)
        for start in range(0, len(order), _ENCODED_AT_ONCE):
            batch = order[start : start + _ENCODED_AT_ONCE]
            vectors[batch] = self([texts[i] for i in batch], max_tokens).cpu()
        self.model.train()
        return vectors


def info_nce(questions: Tensor, texts: Tensor, same: Tensor, scale: float) -> Tensor:
    """Mean negative log-probability of each question's own text among all of the batch's.

    Args:
        questions: (B, D), unit length.
        texts: (N, D), unit length, N >= B; text i belongs to question i.
        same: (B, N), bool: texts that are neither right nor wrong for a question, its own text said elsewhere in the batch.
        scale: Inverse temperature.
    """
    logits = (scale * questions @ texts.T).masked_fill(same, float("-inf"))
    return torch.nn.functional.cross_entropy(logits, torch.arange(len(questions), device=logits.device))
