"""Grounded-reader data: all examples that a folder of question sets and pages gives, split by document.

Knows nothing of models or tokens; `alignment.example_maker` makes the single example. Differs from a random split: the part is decided
by a hash of the document's name before anything is made, so neither a question nor a distractor crosses it.
"""

from __future__ import annotations

import random
from collections import defaultdict
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
            replace(settings, echo_share=0.0, session_share=0.0) if held_out else settings,
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
    if settings.session_share:
        sessions = _make_sessions(list(dict.fromkeys(repeated)), settings, maker, rng)
        n_wanted = round(len(examples) * settings.session_share / (1 - settings.session_share))
        examples += rng.sample(sessions, min(n_wanted, len(sessions)))
    rng.shuffle(examples)
    return examples


def _make_sessions(
    questions: Sequence[SourceQuestion], settings: ReaderDataSettings, maker: ExampleMaker, rng: random.Random
) -> list[ReaderExample]:
    """Every answerable question of every document about twice, in groups that share their evidence."""
    by_document: dict[str, list[SourceQuestion]] = defaultdict(list)
    for question in questions:
        if question.right:
            by_document[question.document].append(question)
    made: list[ReaderExample] = []
    for group in by_document.values():
        for _ in range(2):
            rng.shuffle(group)
            size = rng.randint(3, max(3, settings.session_questions))
            parts = [group[start : start + size] for start in range(0, len(group), size)]
            made += [e for part in parts if len(part) > 1 and (e := maker.make_session(part)) is not None]
    return made


def _draw_copies(copies: float, rng: random.Random) -> int:
    whole = int(copies)
    return whole + (rng.random() < copies - whole)
