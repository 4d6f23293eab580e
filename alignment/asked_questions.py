"""Questions that were written for training, put together with the pages they were asked of.

Knows the file's form (`training_data/README.md`) and nothing of prompts, candidates or models. Differs from questions made of headings and
statements (`reader_sources`): they are asked in other words than the page's, as people do who have not read it, and some ask for what the
page does not say.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import structlog

from alignment.corpus import read_corpus
from alignment.page_sections import read_sections
from alignment.reader_sources import SourceQuestion, SourceSentence

_log = structlog.get_logger(__name__)

HANDBOOK_QUESTIONS = Path(__file__).resolve().parent / "training_data" / "handbook_questions.jsonl.gz"
"""Asked of the pages of `text/hb_gitlab.jsonl.xz`."""
CORPUS = "hb_gitlab"
KIND = "asked"
_NAME_DIGITS = 12


def sentence_name(text: str) -> str:
    """What the file calls a sentence.

    >>> sentence_name("You get 25 days.")
    '68f7df7c5f9f'
    """
    return hashlib.sha256(text.encode()).hexdigest()[:_NAME_DIGITS]


def asked_questions(corpus: Path, questions: Path = HANDBOOK_QUESTIONS) -> Iterator[SourceQuestion]:
    """Every question whose page and sentences are in the corpus; what is left out is counted in the log.

    Args:
        corpus: A `*.jsonl.xz` corpus of pages.
        questions: The file.
    """
    by_page = _read(questions)
    n_made = n_lost = 0
    for document in read_corpus(corpus):
        rows = by_page.pop(document.path, ())
        if not rows:
            continue
        page = [
            SourceSentence(heading=section.path, text=text)
            for section in read_sections(document)
            for text in (*section.sentences, *section.rows)
        ]
        for row in rows:
            question = _put_together(row, page, f"{document.source}/{document.path}")
            n_made, n_lost = n_made + (question is not None), n_lost + (question is None)
            if question is not None:
                yield question
    n_lost += sum(map(len, by_page.values()))
    _log.info("asked_questions_read", questions=n_made, left_out=n_lost)


def _read(path: Path) -> dict[str, list[Mapping[str, Any]]]:
    by_page: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            by_page[row["page"]].append(row)
    return by_page


def _put_together(
    row: Mapping[str, Any], page: Sequence[SourceSentence], document: str
) -> SourceQuestion | None:
    places = {sentence_name(sentence.text): sentence for sentence in reversed(page)}
    # `also` answers as well: neither wrong nor needed, so it is among the right ones and comes last.
    names = [*row["right"], *row.get("also", ())]
    if any(name not in places for name in names):
        return None  # the page has changed since it was asked about
    right = tuple(places[name] for name in dict.fromkeys(names))
    hidden = {sentence.text for sentence in right}
    return SourceQuestion(
        document=document,
        kind=KIND,
        question=row["question"],
        right=right,
        n_needed=len(dict.fromkeys(row["right"])),
        near=tuple(sentence for sentence in page if sentence.text not in hidden),
    )


def pages_of_first(n: int, questions: Path) -> set[str]:
    """Documents asked about by the first n questions of a file: it grows at its end, and models know how far they have learned."""
    with gzip.open(questions, "rt", encoding="utf-8") as lines:
        return {f"{CORPUS}/{json.loads(line)['page']}" for line in islice(lines, n)}
