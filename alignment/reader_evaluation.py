"""How well a reader copies, chooses and refuses, measured by letting it write.

Knows nothing of training. Differs from usual question-answering scores: because answers are copied from numbered evidence, each
claim is checked by comparison, to the letter, with the very sentence it cites; nothing is judged by similarity.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from alignment.reader_examples import ReaderExample
from chatbot.prompt import cited_numbers, is_refusal, render_prompt

_CITED_PART = re.compile(r"(.*?)\s*((?:\[\d{1,2}\]\s*)+)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderFigures:
    """Rates from 0 to 1 over one set of examples; a rate over nothing is 0."""

    n: int
    """Examples."""
    exact_copy_rate: float
    """Of the answers given: each citation follows its evidence sentence, word for word."""
    right_citation_rate: float
    """Of the answerable examples: the first citation is one of the right ones; a refusal counts as wrong."""
    right_answer_rate: float
    """Of the answerable examples: exactly copied and rightly cited."""
    first_is_right_rate: float
    """Of the answerable examples: what always citing [1] would score."""
    refusal_precision: float
    """Of the refusals: the example was unanswerable."""
    refusal_recall: float
    """Of the unanswerable examples: the reader refused."""
    mean_words: float
    """Length of the answers given, citations left out."""


def is_exact_copy(completion: str, example: ReaderExample) -> bool:
    """Whether every citation of a completion follows the evidence sentence it names, word for word.

    Words around the sentence (a lead-in, a closing) are allowed; a completion without citations is no copy.
    """
    texts = {item.number: item.text for item in example.evidence}
    parts = _CITED_PART.findall(completion)
    if not parts:
        return False
    return all(
        number in texts and texts[number] in before
        for before, marks in parts
        for number in cited_numbers(marks)
    )


def evaluate_reader(
    model: Any,
    tokenizer: Any,
    examples: Sequence[ReaderExample],
    *,
    batch_size: int = 8,
    max_new_tokens: int = 128,
) -> ReaderFigures:
    """Let the model answer every example greedily and count.

    Args:
        model: A causal model, in any precision.
        tokenizer: Its tokenizer, padding on the left.
        examples: Held-out ones.
        batch_size: Examples generated together.
        max_new_tokens: Longest completion in tokens.
    """
    completions = write_answers(
        model, tokenizer, examples, batch_size=batch_size, max_new_tokens=max_new_tokens
    )
    return count_figures(examples, completions)


@torch.no_grad()
def write_answers(
    model: Any,
    tokenizer: Any,
    examples: Sequence[ReaderExample],
    *,
    batch_size: int = 8,
    max_new_tokens: int = 128,
) -> list[str]:
    """Greedy completions, in the order of the examples; sorted by length inside, so that little is padded."""
    prompts = [render_prompt(tokenizer, example.messages) for example in examples]
    order = sorted(range(len(prompts)), key=lambda n: len(prompts[n]))
    completions = [""] * len(prompts)
    model.eval()
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        batch = tokenizer(
            [prompts[n] for n in chosen],
            add_special_tokens=False,
            padding=True,
            padding_side="left",
            return_tensors="pt",
        )
        written = model.generate(
            input_ids=batch["input_ids"].to(model.device),
            attention_mask=batch["attention_mask"].to(model.device),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        texts = tokenizer.batch_decode(written[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
        for n, text in zip(chosen, texts, strict=True):
            completions[n] = text.strip()
    return completions


def count_figures(examples: Sequence[ReaderExample], completions: Sequence[str]) -> ReaderFigures:
    """The figures of given completions, one for each example in order."""
    pairs = list(zip(examples, completions, strict=True))
    answerable = [(example, text) for example, text in pairs if example.cited]
    unanswerable = [(example, text) for example, text in pairs if not example.cited]
    given = [(example, text) for example, text in pairs if not is_refusal(text)]
    n_refused = len(pairs) - len(given)
    rightly_refused = sum(is_refusal(text) for _, text in unanswerable)
    rightly_cited = [(example, text) for example, text in answerable if _cites_right(example, text)]
    return ReaderFigures(
        n=len(pairs),
        exact_copy_rate=_share(sum(is_exact_copy(text, example) for example, text in given), len(given)),
        right_citation_rate=_share(len(rightly_cited), len(answerable)),
        right_answer_rate=_share(sum(is_exact_copy(text, e) for e, text in rightly_cited), len(answerable)),
        first_is_right_rate=_share(sum(1 in example.right for example, _ in answerable), len(answerable)),
        refusal_precision=_share(rightly_refused, n_refused),
        refusal_recall=_share(rightly_refused, len(unanswerable)),
        mean_words=_share(sum(len(text.split()) - len(cited_numbers(text)) for _, text in given), len(given)),
    )


def _cites_right(example: ReaderExample, completion: str) -> bool:
    numbers = cited_numbers(completion)
    return bool(numbers) and numbers[0] in example.right and not is_refusal(completion)


def _share(part: float, whole: int) -> float:
    return part / whole if whole else 0.0
