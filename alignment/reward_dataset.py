"""Judgements as batches for the reward model: each prompt once, all its judged completions behind it.

Knows nothing of training or files. Different from the usual collator, which repeats the prompt in front of every completion:
judgements of one prompt form one element, laid out as `prompt | completion 1 | completion 2 | ...`. A mask keeps completions from
seeing one another and positions restart after the prompt, so each completion is scored exactly as if it stood alone, while a
prompt of 350 tokens with four answers of 40 costs 510 tokens instead of 1,560. Models that do not take such a mask get the
completions one by one (`reward_scoring.py` finds out which).

Nothing is dropped in silence: a prompt that is too long loses its beginning, never its completion; a completion that alone does not
fit is counted.

Shapes: B elements, K completions (padded), T tokens, P judged pairs, R ratings, M members of the ensemble.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from alignment.length_effect import LengthEffect
from alignment.padding import encode_completion, encode_prompt
from alignment.records import RankedCompletions
from alignment.tie_likelihood import TIE, pairs_of_ranking
from alignment.trait_model import TraitModel, score_by_each
from chatbot.prompt import without_evidence

PromptContext = Literal["full", "question"]
MAX_COMPLETIONS = 8
"""Of one element; further ones of the same prompt start another."""


@dataclass(frozen=True, slots=True)
class Encoder:
    """Text to token ids for the reward model."""

    tokenizer: Any
    max_length: int
    """Prompt and one completion together, in tokens."""
    context: PromptContext
    traits: tuple[TraitModel, ...] = ()
    """Scored beside the model: one for each of its members, or none."""
    members: int = 1
    """Scores that the model gives each completion."""
    length: LengthEffect | None = None
    """Taken out of the scores, where there is one."""

    def offset(self, prompt: str, completion: str) -> tuple[float, ...]:
        """(M,) what a completion's traits are worth to each member, less what its length is, in nats."""
        worth = score_by_each(self.traits, prompt, completion) if self.traits else (0.0,) * self.members
        if self.length is None:
            return worth
        return tuple(a - b for a, b in zip(worth, self.length.of(completion), strict=True))

    def prompt(self, prompt: str, room: int) -> list[int]:
        """The prompt's last `room` tokens, after taking the evidence out where the context is the question alone."""
        text = without_evidence(prompt) if self.context == "question" else prompt
        ids = encode_prompt(self.tokenizer, text)
        return ids[-room:] if room > 0 else []

    def completion(self, completion: str) -> list[int] | None:
        """The completion and the end token; None when it alone does not fit."""
        ids = encode_completion(self.tokenizer, completion)
        return ids if len(ids) < self.max_length else None


@dataclass(slots=True)
class Element:
    """One prompt, its distinct completions, and what was said about them."""

    prompt: list[int]
    question_id: str = ""
    """Whose judgements every member weighs in its own way."""
    completions: list[list[int]] = field(default_factory=list)
    offsets: list[tuple[float, ...]] = field(default_factory=list)
    """(K, M) what each completion's traits are worth to each member, in nats; the model's score is added."""
    pairs: list[tuple[int, int, int, float]] = field(default_factory=list)
    """(first, second, outcome, weight)."""
    ratings: list[tuple[int, float, float]] = field(default_factory=list)
    """(completion, +1 or -1, weight)."""
    n_judgements: int = 0

    @property
    def n_tokens(self) -> int:
        """Length of the element laid out."""
        return len(self.prompt) + sum(map(len, self.completions))


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedJudgements:
    """What `encode_judgements` makes."""

    elements: Sequence[Element]
    n_dropped: int
    """Judgements with a completion longer than `max_length`."""
    n_cut: int
    """Judgements whose prompt lost its beginning."""
    tie_rate: float
    """Weighted share of ties among pairs; 0 without pairs."""
    up_rate: float
    """Weighted share of thumbs up among ratings; 0.5 without ratings."""


def encode_judgements(
    judgements: Sequence[RankedCompletions], encoder: Encoder, unit: float | None = None
) -> EncodedJudgements:
    """Tokenise judgements, grouped by prompt.

    Args:
        judgements: What was said.
        encoder: Text to tokens.
        unit: The weight that counts as 1; None takes the mean of these judgements. A part of a whole is given the mean of the whole, so that
            what counts little there counts little here.

    Raises:
        ValueError: a judgement with a ranking that does not name its completions, or a rating without a label.
    """
    open_elements: dict[str, tuple[Element, dict[str, int]]] = {}
    elements: list[Element] = []
    n_dropped = n_cut = 0
    unit = unit or mean_weight(judgements)
    for judgement in judgements:
        encoded = [encoder.completion(text) for text in judgement.completions]
        if any(ids is None for ids in encoded):
            n_dropped += 1
            continue
        completions = [ids for ids in encoded if ids is not None]
        room = encoder.max_length - max(map(len, completions))
        element, indices, was_cut = _find_element(open_elements, elements, judgement, encoder, room)
        n_cut += was_cut
        places = []
        for text, ids in zip(judgement.completions, completions, strict=True):
            if text not in indices:
                indices[text] = len(element.completions)
                element.completions.append(ids)
                element.offsets.append(encoder.offset(judgement.prompt, text))
            places.append(indices[text])
        _add_judgement(element, judgement, places, 1 / unit)
    return EncodedJudgements(elements=elements, n_dropped=n_dropped, n_cut=n_cut, **_rates(elements))


def mean_weight(judgements: Sequence[RankedCompletions]) -> float:
    """Of one of them; 1 where none weighs anything."""
    total = sum(judgement.weight for judgement in judgements)
    return total / len(judgements) if total > 0 else 1.0


def _find_element(
    open_elements: dict[str, tuple[Element, dict[str, int]]],
    elements: list[Element],
    judgement: RankedCompletions,
    encoder: Encoder,
    room: int,
) -> tuple[Element, dict[str, int], bool]:
    """The prompt's open element, or a new one where there is none, it is full, or its prompt would be cut differently."""
    whole = encoder.prompt(judgement.prompt, encoder.max_length + 1)
    prompt = encoder.prompt(judgement.prompt, room)
    was_cut = len(prompt) < len(whole)
    found = open_elements.get(judgement.prompt)
    if found is not None:
        element, indices = found
        new = sum(text not in indices for text in judgement.completions)
        if element.prompt == prompt and len(element.completions) + new <= MAX_COMPLETIONS:
            return element, indices, was_cut
    element, indices = Element(prompt=prompt, question_id=judgement.question_id), {}
    elements.append(element)
    open_elements[judgement.prompt] = (element, indices)
    return element, indices, was_cut


def _add_judgement(
    element: Element, judgement: RankedCompletions, places: Sequence[int], scale: float
) -> None:
    weight = judgement.weight * scale
    element.n_judgements += 1
    if judgement.ranking:
        for pair in pairs_of_ranking(judgement.ranking):
            first, second = places[pair.first], places[pair.second]
            # The same text twice says nothing: its difference is 0 whatever the model.
            if first != second:
                element.pairs.append((first, second, pair.outcome, weight * pair.weight))
        return
    if judgement.label is None or len(places) != 1:
        raise ValueError(
            f"a judgement of {judgement.question_id} is neither a ranking nor a rating with a label"
        )
    element.ratings.append((places[0], 1.0 if judgement.label else -1.0, weight))


def _rates(elements: Sequence[Element]) -> dict[str, float]:
    pairs = [pair for element in elements for pair in element.pairs]
    ratings = [rating for element in elements for rating in element.ratings]
    n_pairs, n_ratings = sum(p[3] for p in pairs), sum(r[2] for r in ratings)
    return {
        "tie_rate": sum(p[3] for p in pairs if p[2] == TIE) / n_pairs if n_pairs else 0.0,
        "up_rate": sum(r[2] for r in ratings if r[1] > 0) / n_ratings if n_ratings else 0.5,
    }


def lay_out(
    elements: Sequence[tuple[Sequence[int], Sequence[Sequence[int]]]], pad_id: int
) -> dict[str, Tensor]:
    """Prompts and completions as one padded batch with shared prompts.

    Args:
        elements: (prompt ids, completions' ids) of each.
        pad_id: Fills the right end.

    Returns:
        `input_ids` (B, T), `position_ids` (B, T), `attention_mask` (B, 1, T, T) bool, True where a token may look,
        `ends` (B, K) index of each completion's last token, -1 where there is no such completion.
    """
    width = max(len(prompt) + sum(map(len, completions)) for prompt, completions in elements)
    most = max(len(completions) for _, completions in elements)
    shape = (len(elements), width)
    input_ids = torch.full(shape, pad_id)
    position_ids = torch.zeros(shape, dtype=torch.long)
    segments = torch.full(shape, -1)  # 0 the prompt, k the k-th completion, -1 padding
    ends = torch.full((len(elements), most), -1)
    for row, (prompt, completions) in enumerate(elements):
        at = _place(row, 0, prompt, 0, 0, input_ids, position_ids, segments)
        for number, completion in enumerate(completions, start=1):
            at = _place(row, at, completion, len(prompt), number, input_ids, position_ids, segments)
            ends[row, number - 1] = at - 1
    causal = torch.ones(width, width, dtype=torch.bool).tril()
    same = segments[:, :, None] == segments[:, None, :]
    to_prompt = (segments == 0)[:, None, :] & (segments >= 0)[:, :, None]
    mask = (same | to_prompt) & causal
    return {
        "input_ids": input_ids,
        "position_ids": position_ids,
        "attention_mask": mask[:, None],
        "ends": ends,
    }


def _place(row: int, at: int, ids: Sequence[int], position: int, segment: int, *targets: Tensor) -> int:
    """Write one stretch of tokens into a row; returns where it ends."""
    input_ids, position_ids, segments = targets
    end = at + len(ids)
    input_ids[row, at:end] = torch.tensor(list(ids), dtype=torch.long)
    position_ids[row, at:end] = torch.arange(position, position + len(ids))
    segments[row, at:end] = segment
    return end


@dataclass(frozen=True, slots=True)
class JudgementCollator:
    """Elements, as dictionaries from a dataset, to a batch with shared prompts and flat judgement tensors.

    Adds to `lay_out`: `offsets` (B, K, M), 0 where there is no completion; `member_weights` (B, M); `pairs` (P, 4) int64 of element, first, second, outcome; `pair_weights` (P,); `ratings` (R, 2) int64 of element,
    completion; `rating_labels` (R,); `rating_weights` (R,).
    """

    pad_id: int

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """Collate."""
        batch = lay_out([(row["prompt"], row["completions"]) for row in rows], self.pad_id)
        weights = torch.tensor([row["member_weights"] for row in rows], dtype=torch.float32)
        offsets = torch.zeros(*batch["ends"].shape, weights.shape[1], dtype=torch.float32)
        for at, row in enumerate(rows):
            offsets[at, : len(row["offsets"])] = torch.tensor(row["offsets"], dtype=torch.float32)
        pairs = [(at, *map(int, pair[:3])) for at, row in enumerate(rows) for pair in row["pairs"]]
        ratings = [(at, int(rating[0])) for at, row in enumerate(rows) for rating in row["ratings"]]
        return batch | {
            "offsets": offsets,
            "member_weights": weights,
            "pairs": torch.tensor(pairs, dtype=torch.long).reshape(-1, 4),
            "pair_weights": torch.tensor(
                [pair[3] for row in rows for pair in row["pairs"]], dtype=torch.float32
            ),
            "ratings": torch.tensor(ratings, dtype=torch.long).reshape(-1, 2),
            "rating_labels": torch.tensor(
                [r[1] for row in rows for r in row["ratings"]], dtype=torch.float32
            ),
            "rating_weights": torch.tensor(
                [r[2] for row in rows for r in row["ratings"]], dtype=torch.float32
            ),
        }
