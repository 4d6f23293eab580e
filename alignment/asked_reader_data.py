"""Reader data of the written questions whose pages the shipped evidence encoder never learned from, split by page.

Knows nothing of models that write; `alignment.asked_examples` makes the single example. Differs from `reader_data` in where the evidence comes from:
it is what serving would show, wrong sentences and all, so only questions whose evidence is no better ranked than an employee's will be are used.
"""

from __future__ import annotations

from pathlib import Path

import structlog

from alignment.asked_examples import AskedExampleSettings, make_asked_examples
from alignment.asked_questions import CORPUS, HANDBOOK_QUESTIONS, asked_questions, pages_of_first
from alignment.corpus import is_held_out
from alignment.errors import TrainingError
from alignment.evidence_encoder_settings import is_held_out_page
from alignment.reader_examples import ReaderData
from alignment.reader_sources import SourceQuestion
from knowledge_base.protocols import Embedder

_log = structlog.get_logger(__name__)


def asked_reader_data(
    data_dir: Path,
    encoder: Embedder,
    *,
    learned: int,
    settings: AskedExampleSettings | None = None,
    held_out_share: float = 0.05,
    questions: Path = HANDBOOK_QUESTIONS,
) -> ReaderData:
    """Examples of all questions that the encoder has not learned from.

    Args:
        data_dir: Folder with `text/hb_gitlab.jsonl.xz`.
        encoder: Ranks the evidence.
        learned: So many questions at the beginning of the file were there when the encoder was trained; those of pages held out then are used too.
        settings: Of the examples.
        held_out_share: Share of the pages that the reader does not learn from.
        questions: The file.

    Raises:
        TrainingError: the corpus is not there, or no question is left.
    """
    corpus = data_dir / "text" / f"{CORPUS}.jsonl.xz"
    if not corpus.exists():
        raise TrainingError(f"{corpus} is missing: set data_dir to the folder of the training corpora")
    known = pages_of_first(learned, questions)
    parts: dict[bool, list[SourceQuestion]] = {False: [], True: []}
    for question in asked_questions(corpus, questions):
        if question.document not in known or is_held_out_page(question.document):
            parts[is_held_out(question.document, held_out_share)].append(question)
    made = {
        part: make_asked_examples(own, encoder, settings or AskedExampleSettings())
        for part, own in parts.items()
    }
    if not made[False]:
        raise TrainingError(f"no question of {questions} is left beside the {learned:,} learned: lower that")
    _log.info("asked_reader_data_built", train=len(made[False]), held_out=len(made[True]))
    return ReaderData(train=made[False], held_out=made[True])
