"""Grounded-reader data: all examples that a folder of question sets and pages gives, split by document.

Knows nothing of models or tokens; `alignment.example_maker` makes the single example. Differs from a random split: the part is decided
by a hash of the document's name before anything is made, so neither a question nor a distractor crosses it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import structlog

from alignment.corpus import is_held_out
from alignment.errors import TrainingError
from alignment.example_maker import ExampleMaker
from alignment.reader_examples import ReaderData, ReaderDataSettings, ReaderExample
from alignment.reader_sources import SourceQuestion, questions_from_pages, questions_from_sets

_log = structlog.get_logger(__name__)


def build_reader_data(settings: ReaderDataSettings) -> ReaderData:
    """All examples, split by document; the same settings give the same examples.

    Raises:
        TrainingError: If the folder holds neither question sets nor page corpora.
    """
    questions = _collect(settings)
    if not questions:
        raise TrainingError(
            f"No qa_*/qa.jsonl.gz and no text/*.jsonl.xz under {settings.data_dir}. Set data_dir."
        )
    parts: dict[bool, list[SourceQuestion]] = {True: [], False: []}
    for question in questions:
        parts[is_held_out(question.document, settings.held_out_share)].append(question)
    made = {
        held_out: _make_part(
            part,
            replace(settings, echo_share=0.0) if held_out else settings,
            random.Random(f"{settings.seed} {held_out}"),  # noqa: S311 - data, not secrets
        )
        for held_out, part in parts.items()
    }
    _log.info("reader_data_built", train=len(made[False]), held_out=len(made[True]))
    return ReaderData(train=made[False], held_out=made[True])


def _collect(settings: ReaderDataSettings) -> list[SourceQuestion]:
    questions = list(questions_from_sets(settings.data_dir))
    for name in settings.page_corpora:
        path = settings.data_dir / "text" / f"{name}.jsonl.xz"
        if not path.exists():
            continue
        rng = random.Random(f"{settings.seed} {name}")  # noqa: S311 - data, not secrets
        share = settings.page_share.get(name, 1.0)
        questions += questions_from_pages(
            path, rng, page_share=share, statements_per_page=settings.statements_per_page
        )
    return questions


def _make_part(
    questions: Sequence[SourceQuestion], settings: ReaderDataSettings, rng: random.Random
) -> list[ReaderExample]:
    repeated = [
        question
        for question in questions
        for _ in range(_draw_copies(settings.copies.get(question.kind, 1.0), rng))
    ]
    maker = ExampleMaker(repeated, settings, rng)
    examples = [example for question in repeated if (example := maker.make(question)) is not None]
    rng.shuffle(examples)
    return examples


def _draw_copies(copies: float, rng: random.Random) -> int:
    whole = int(copies)
    return whole + (rng.random() < copies - whole)
