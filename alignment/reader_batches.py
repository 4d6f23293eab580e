"""Reader examples as batches of token ids, and the settings of the run that trains on them.

Knows nothing of optimisers. Differs from the usual collator: lengths come from a short list, so that each shape is compiled once
and little is padding; and there is no state, micro-batch number `i` of a seed is always the same examples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import structlog
import torch
from torch import Tensor

from alignment.errors import TrainingError
from alignment.reader_examples import ReaderExample
from alignment.token_training import TokenTrainingSettings
from chatbot.prompt import Message, render_prompt

_log = structlog.get_logger(__name__)
_ENCODED_TOGETHER = 512


@dataclass(frozen=True, kw_only=True)
class ReaderSettings(TokenTrainingSettings):
    """Everything a reader training run depends on, apart from the data."""

    start: Path
    """Folder of the pretrained model: a checkpoint of `alignment.pretrain`."""
    data_dir: Path
    """Folder that `ReaderDataSettings` describes."""
    total_steps: int = 600
    """Optimiser steps of the whole run."""
    warmup_steps: int = 20
    """Steps in which the learning rates rise linearly from 0."""
    decay_steps: int = 450
    """Last steps, in which they fall linearly."""
    muon_lr: float = 2e-3
    """Peak learning rate of the hidden matrices."""
    adamw_lr: float = 1e-3
    """Peak learning rate of embeddings and norms."""
    echo_share: float = 0.0
    """Share of training examples that quote all their evidence; raise it while the model does not copy yet."""
    unanswerable_share: float = 0.06
    """Share of examples whose evidence does not hold the answer; lower it while the model does not copy yet."""
    session_share: float = 0.5
    """Share of training examples that ask several questions about one evidence: most learned for the work, but in a session the right
    sentence stands anywhere. End a run with 0, so that the model learns what the order of the evidence says."""
    shuffled_share: float = 0.3
    """Share of examples whose evidence is in random order."""
    ranking_noise: float = 0.65
    """Spread of the noise in the order of the rest: at 0.45 with 0.05 shuffled, the first sentence is right 55 times in a hundred."""
    answer_words: Sequence[float] = (8, 50, 26)
    """Fewest, most and likeliest number of words up to which a short right sentence is followed by others."""
    page_share: Mapping[str, float] = field(
        default_factory=lambda: {"docs_biztalk": 0.3, "docs_powershell": 0.4, "docs_ax2012": 0.2}
    )
    """Share of a corpus's pages that is used; 1 where nothing is said."""
    asked_encoder: Path | None = None
    """Tuned weights of the evidence encoder: the run learns from the written questions it has not seen, with the evidence that it would choose,
    and from nothing else; what is said of the making of examples above and below is then not used. End a run with it."""
    asked_learned: int = 35_456
    """So many of the written questions that encoder was trained on; the default is the shipped one's."""
    ranked_share: float = 0.85
    """With `asked_encoder`: share of the answers that quote the evidence from its top (`ranked_answers`)."""
    traps: bool = True
    """With `asked_encoder`: a part of the examples is given traps (`trap_examples`)."""
    context_weight: float = 0.0
    """Weight of a prompt token's loss; a completion token's is 1. Above 0 the model also learns to read, at the cost of learning to answer."""
    decision_weight: float = 3.0
    """Weight of the token that begins an answer and of those that follow a citation: which sentence, and whether to go on. They are
    one token in twenty, and what is hardest to learn."""
    lengths: Sequence[int] = (160, 192, 224, 256, 288, 320, 352, 384, 448, 512, 576, 640)
    """Padded lengths in tokens; longer examples are left out."""
    micro_batch_tokens: int = 2560
    """Tokens in one forward pass, padding included."""
    micro_batches: int = 2
    """Forward passes in one optimiser step."""
    evaluation_examples: int = 256
    """Held-out examples whose loss is measured."""
    evaluate_every_steps: int = 200
    """Steps between held-out losses."""

    def __post_init__(self) -> None:
        """Reject settings that cannot work, by name."""
        TokenTrainingSettings.__post_init__(self)
        if not self.lengths or list(self.lengths) != sorted(self.lengths):
            raise ValueError(f"lengths={self.lengths} must rise")
        if self.micro_batch_tokens < max(self.lengths):
            raise ValueError(
                f"micro_batch_tokens={self.micro_batch_tokens} must hold one row of {max(self.lengths)}"
            )
        if not 0 <= self.ranked_share <= 1:
            raise ValueError(f"ranked_share={self.ranked_share} must be between 0 and 1")
        if not 0 <= self.context_weight <= 1:
            raise ValueError(f"context_weight={self.context_weight} must be between 0 and 1")
        if self.decision_weight <= 0:
            raise ValueError(f"decision_weight={self.decision_weight} must be above 0")
        if self.micro_batches < 1:
            raise ValueError(f"micro_batches={self.micro_batches} must be at least 1")


@dataclass(frozen=True, slots=True)
class _Encoded:
    ids: npt.NDArray[np.int32]
    weights: npt.NDArray[np.float32]


def _batched(items: Iterable[ReaderExample], size: int) -> Iterator[list[ReaderExample]]:
    """Groups of `size`, the last one shorter (itertools.batched comes with Python 3.12)."""
    remaining = iter(items)
    while group := list(islice(remaining, size)):
        yield group


def encode_examples(examples: Iterable[ReaderExample], tokenizer: Any) -> Iterator[list[list[int]]]:
    """Token ids of each example: prompt, completion, and those of its further questions in turn; completions end with the end token."""
    for group in _batched(examples, _ENCODED_TOGETHER):
        texts = [_stretches(example, tokenizer) for example in group]
        ids = iter(tokenizer([t for parts in texts for t in parts], add_special_tokens=False)["input_ids"])
        for parts in texts:
            encoded = [list(next(ids)) for _ in parts]
            yield [
                [*part, tokenizer.eos_token_id] if n % 2 else part  # every second stretch is a completion
                for n, part in enumerate(encoded)
            ]


def _stretches(example: ReaderExample, tokenizer: Any) -> list[str]:
    """The text that is given and the text that is to be written, in turn, without end tokens."""
    messages = example.messages
    parts = [render_prompt(tokenizer, messages), example.completion]
    for asked in example.further:
        messages = [
            *messages,
            Message(role="assistant", content=parts[-1]),
            Message(role="user", content=f"Question: {asked.question}"),
        ]
        given = render_prompt(tokenizer, messages)
        before = f"{tokenizer.eos_token}".join("".join(parts[n : n + 2]) for n in range(0, len(parts), 2))
        if not given.startswith(before + tokenizer.eos_token):
            raise TrainingError(
                "the chat template must end an answer with the end token for further questions"
            )
        parts += [given[len(before) + len(tokenizer.eos_token) :], asked.completion]
    return parts


class LengthBatches:
    """Examples as micro-batches of a few fixed shapes, in an order that depends on seed and number alone."""

    def __init__(self, examples: Iterable[ReaderExample], tokenizer: Any, settings: ReaderSettings) -> None:
        """Encode the examples; those longer than the longest length are left out."""
        self._settings, self._pad = settings, tokenizer.pad_token_id
        self._by_length: dict[int, list[_Encoded]] = {length: [] for length in settings.lengths}
        n_long = 0
        mark_end = tokenizer.convert_tokens_to_ids("]")
        for stretches in encode_examples(examples, tokenizer):
            encoded = self._weigh(stretches, mark_end)
            length = next((known for known in settings.lengths if known >= len(encoded.ids)), None)
            if length is None:
                n_long += 1
                continue
            self._by_length[length].append(encoded)
        if not any(self._by_length.values()):
            raise TrainingError(f"No example fits {settings.lengths[-1]} tokens.")
        self._epoch, self._order = -1, list[tuple[int, list[int]]]()
        _log.info(
            "reader_examples_encoded",
            too_long=n_long,
            **{f"up_to_{length}": len(encoded) for length, encoded in self._by_length.items()},
        )

    def _weigh(self, stretches: Sequence[list[int]], mark_end: int) -> _Encoded:
        weights: list[float] = []
        for n, ids in enumerate(stretches):
            if n % 2 == 0:
                weights += [self._settings.context_weight] * len(ids)
                continue
            decides = [True, *(previous == mark_end for previous in ids[:-1])]
            weights += [self._settings.decision_weight if decision else 1.0 for decision in decides]
        joined = np.asarray([token for part in stretches for token in part], dtype=np.int32)
        return _Encoded(joined, np.asarray(weights, dtype=np.float32))

    def micro_batch(self, index: int) -> tuple[Tensor, Tensor]:
        """Micro-batch `index`, counted over all epochs: token ids and weights, both (B, T), padded on the right."""
        self._open_epoch(0)
        epoch, place = divmod(index, len(self._order))
        self._open_epoch(epoch)
        length, chosen = self._order[place]
        return self._pad_rows(length, [self._by_length[length][n] for n in chosen])

    def all_micro_batches(self) -> Iterable[tuple[Tensor, Tensor]]:
        """Every example once (short of the last rows of each shape), for evaluation."""
        self._open_epoch(0)
        return (self.micro_batch(index) for index in range(len(self._order)))

    def _open_epoch(self, epoch: int) -> None:
        if epoch == self._epoch:
            return
        rng = np.random.default_rng([self._settings.seed, epoch])
        order: list[tuple[int, list[int]]] = []
        for length, encoded in self._by_length.items():
            n_rows = self._settings.micro_batch_tokens // length
            shuffled = rng.permutation(len(encoded)).tolist()
            # Rows that fill no micro-batch wait for another epoch's shuffle: one more shape would be compiled for them.
            starts = (
                range(0, len(shuffled) - n_rows + 1, n_rows)
                if len(shuffled) >= n_rows
                else range(min(1, len(shuffled)))
            )
            order += [(length, shuffled[start : start + n_rows]) for start in starts]
        self._order = [order[n] for n in rng.permutation(len(order))]
        self._epoch = epoch

    def _pad_rows(self, length: int, rows: Sequence[_Encoded]) -> tuple[Tensor, Tensor]:
        ids = np.full((len(rows), length), self._pad, dtype=np.int64)
        weights = np.zeros((len(rows), length), dtype=np.float32)
        for n, row in enumerate(rows):
            ids[n, : len(row.ids)] = row.ids
            weights[n, : len(row.ids)] = row.weights
        return torch.from_numpy(ids), torch.from_numpy(weights)
