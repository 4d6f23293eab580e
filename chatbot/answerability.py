"""Whether the evidence answers the question, by a model that reads both together.

Question and sentence go through one small encoder as a pair; each pair gets a logit s_i, and the evidence answers with probability

    P = sum_i exp(s_i) / (1 + sum_i exp(s_i)),

the softmax over the sentences and "none of them" (logit 0) that the model was trained with. Knows nothing of retrieval, prompts or thresholds.

Different from the textbook (a cosine and a threshold): a question next to the topic has as high a cosine as one that is answered, and on two
handbooks that nothing was trained on cosine told the two apart no better than a coin. Weights are laid over the bundled embedder's
model, so that word embeddings, half of it, are stored once. It runs in float32: sums of exponentials are compared with a threshold.
"""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import structlog

from chatbot.errors import JudgeError
from knowledge_base.model_files import file_sha256, first_line

log = structlog.get_logger(__name__)

_HEAD = "head."
_HEAD_WEIGHTS = {"dense.weight", "dense.bias", "out.weight", "out.bias"}
_WORD_EMBEDDINGS = "embeddings.word_embeddings.weight"
_MAX_TOKENS = 175
_PAIRS_AT_ONCE = 32


class AnswerJudge(Protocol):
    """Says how likely evidence answers a question."""

    @property
    def version(self) -> str:
        """Changes whenever judgements may."""

    def probability(self, question: str, sentences: Sequence[str]) -> float:
        """How likely at least one sentence, each with its heading before it, answers; in [0, 1], and 0 without sentences."""


class PairJudge:
    """An `AnswerJudge` over a BERT encoder. Safe to share between threads; loaded at the first use."""

    def __init__(self, encoder: Path, weights: Path) -> None:
        """Remember where things lie.

        Args:
            encoder: Directory of the bundled embedder: architecture, tokenizer and word embeddings.
            weights: A safetensors file with the encoder's tuned weights and, under `head.`, what turns a pair into a logit.
        """
        self._encoder = encoder
        self._weights = weights
        self._loading = threading.Lock()
        self._running = threading.Lock()

    @functools.cached_property
    def version(self) -> str:
        """First eight digits of the weights' SHA-256."""
        return f"pair-judge/{file_sha256(self._weights, JudgeError)[:8]}"

    def probability(self, question: str, sentences: Sequence[str]) -> float:
        """See `AnswerJudge.probability`.

        Raises:
            JudgeError: the weights are missing or damaged.
        """
        logits = self.logits(question, sentences)
        return sigmoid(log_sum_exp(logits)) if logits else 0.0

    def logits(self, question: str, sentences: Sequence[str]) -> list[float]:
        """One logit a sentence, in the order given; 0 is as likely as "none of them"."""
        import torch

        model, head, tokenizer = self._loaded()
        found: list[float] = []
        for start in range(0, len(sentences), _PAIRS_AT_ONCE):
            texts = list(sentences[start : start + _PAIRS_AT_ONCE])
            batch = tokenizer(
                [question] * len(texts),
                texts,
                padding=True,
                truncation="longest_first",
                max_length=_MAX_TOKENS,
                return_tensors="pt",
            )
            with self._running, torch.inference_mode():
                states = model(**batch).last_hidden_state
                found += pair_logits(states, batch["attention_mask"], head).tolist()
        return found

    def _loaded(self) -> Any:
        with self._loading:
            return self._parts

    @functools.cached_property
    def _parts(self) -> Any:
        from safetensors import SafetensorError, safe_open
        from safetensors.torch import load_file
        from transformers import AutoConfig, AutoModel, AutoTokenizer

        try:
            weights = {name: value.float() for name, value in load_file(self._weights).items()}
            head = {
                name.removeprefix(_HEAD): weights.pop(name)
                for name in sorted(weights)
                if name.startswith(_HEAD)
            }
            if set(head) != _HEAD_WEIGHTS:
                raise JudgeError(f"{self._weights} holds other weights than a judge has: install Tacit again")
            with safe_open(self._encoder / "model.safetensors", "pt") as bundled:
                weights[_WORD_EMBEDDINGS] = bundled.get_tensor(_WORD_EMBEDDINGS).float()
            config = AutoConfig.from_pretrained(self._encoder, local_files_only=True)
            model = AutoModel.from_config(config, add_pooling_layer=False).float()
            model.load_state_dict(weights)  # all of them: half a model would judge at random
            tokenizer = AutoTokenizer.from_pretrained(self._encoder, local_files_only=True)
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise JudgeError(
                f"the answer judge in {self._weights} cannot be loaded ({first_line(error)}): install Tacit again"
            ) from error
        log.info("answer judge loaded", judge=self.version)
        return model.eval(), head, tokenizer


def pair_logits(states: Any, mask: Any, head: Mapping[str, Any]) -> Any:
    """From an encoder's last states to a logit a pair: the mean of all tokens plus the first, one hidden layer.

    Args:
        states: (n, T, D).
        mask: (n, T), 1 where a token is.
        head: `dense.weight` (D, D), `dense.bias` (D,), `out.weight` (1, D), `out.bias` (1,).

    Returns:
        (n,).
    """
    mask = mask[..., None].to(states.dtype)
    pooled = (states * mask).sum(1) / mask.sum(1) + states[:, 0]
    hidden = (pooled @ head["dense.weight"].T + head["dense.bias"]).tanh()
    return (hidden @ head["out.weight"].T + head["out.bias"])[:, 0]


def log_sum_exp(logits: Sequence[float]) -> float:
    """The logarithm of the sum of exponentials, without overflow; minus infinity for none.

    >>> round(log_sum_exp([0.0, 0.0]), 4)
    0.6931
    """
    if not logits:
        return -math.inf
    top = max(logits)
    return top + math.log(sum(math.exp(logit - top) for logit in logits))


def sigmoid(logit: float) -> float:
    """1 / (1 + exp(-logit)), without overflow.

    >>> sigmoid(0.0)
    0.5
    """
    return 0.5 + 0.5 * math.tanh(logit / 2)
