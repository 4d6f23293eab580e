"""Questions with the sentences that answer them, gathered from question sets and from the headings of documents.

Knows the file formats and nothing of prompts, numbering or targets (`alignment.reader_data` makes those). Differs from the usual
reading-comprehension set-up in its unit: the evidence is a sentence under its heading path, not a span in a paragraph.
"""

from __future__ import annotations

import gzip
import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from alignment.corpus import read_corpus
from alignment.page_sections import Section, can_answer, is_usable, read_sections, split_sentences
from alignment.question_phrasing import content_words, question_from_heading, question_from_statement

_SPACE = re.compile(r"\s+")
_FAQ_GROUP = 8
"""Questions of a FAQ that stand as one document."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSentence:
    """A sentence that may become evidence."""

    heading: str
    """Title and heading path, `Leave > Sick leave`."""
    text: str
    """White space folded, markup gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceQuestion:
    """A question with what answers it and what merely stands near."""

    document: str
    """What it was made from; the unit of the split."""
    kind: str
    """Where it comes from, `heading`, `statement`, `squad`, ...; figures are reported by kind."""
    question: str
    right: tuple[SourceSentence, ...]
    """One to three sentences, in document order, that answer it; empty when nothing does."""
    near: tuple[SourceSentence, ...]
    """Other sentences of the same document, in document order."""
    short_answer: str = ""
    """The bare answer phrase, where the set gives one."""
    n_needed: int = 1
    """How many of the right sentences, from the first, an answer needs; the others answer as well."""


def questions_from_pages(
    path: Path, rng: random.Random, *, page_share: float, statements_per_page: int
) -> Iterator[SourceQuestion]:
    """Questions made from the headings and the statements of a corpus of Markdown pages.

    Args:
        path: A `*.jsonl.xz` corpus.
        rng: Draws pages, phrasings and sentences.
        page_share: Share of the pages that is used.
        statements_per_page: At most so many questions a page that are made from a single sentence.
    """
    for document in read_corpus(path):
        if rng.random() >= page_share:
            continue
        sections = read_sections(document)
        key = f"{document.source}/{document.path}"
        page = [SourceSentence(heading=s.path, text=t) for s in sections for t in s.sentences]
        if len(page) < 4:
            continue
        for section in sections:
            made = _from_section(section, key, page, rng)
            if made:
                yield made
        for sentence in rng.sample(page, min(statements_per_page, len(page) // 3)):
            asked = question_from_statement(sentence.text, rng) if can_answer(sentence.text) else None
            if asked:
                near = tuple(other for other in page if other.text != sentence.text)
                yield SourceQuestion(
                    document=key, kind="statement", question=asked, right=(sentence,), near=near
                )


def _from_section(
    section: Section, key: str, page: Sequence[SourceSentence], rng: random.Random
) -> SourceQuestion | None:
    heading = section.headings[-1] if section.headings else section.title
    question = question_from_heading(heading, section.title, rng)
    answers = tuple(takewhile(can_answer, section.sentences[:3]))
    if question is None or not answers:
        return None
    right = tuple(SourceSentence(heading=section.path, text=text) for text in answers)
    # Later sentences of the same section might answer too: they are neither right nor wrong, so they are left out.
    near = tuple(other for other in page if other.heading != section.path)
    return SourceQuestion(document=key, kind="heading", question=question, right=right, near=near)


def questions_from_sets(folder: Path) -> Iterator[SourceQuestion]:
    """Questions of the published sets found under a folder: those that are missing are left out."""
    readers = {
        "qa_squad2dev": _read_squad,
        "qa_nqoracle": _read_natural_questions,
        "qa_covidqa": _read_covid,
        "qa_feedback": _read_feedback,
    }
    for name, reader in readers.items():
        if (folder / name / "qa.jsonl.gz").exists():
            yield from reader(folder / name)
    for name in ("qa_covidqa", "qa_daifaq"):
        if (folder / name / "faq.jsonl.gz").exists():
            yield from _read_faq(folder / name / "faq.jsonl.gz")


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def _read_squad(folder: Path) -> Iterator[SourceQuestion]:
    for row in _rows(folder / "qa.jsonl.gz"):
        title = row["title"].replace("_", " ")
        sentences = _under(title, row["context"])
        answer = row["answers"][0] if row["answers"] else ""
        if row["answerable"]:
            yield from _with_answer("squad", f"wiki/{title}", row["question"], sentences, answer)
        else:
            yield SourceQuestion(
                document=f"wiki/{title}",
                kind="squad",
                question=row["question"].strip(),
                right=(),
                near=tuple(sentences),
            )


def _read_natural_questions(folder: Path) -> Iterator[SourceQuestion]:
    for row in _rows(folder / "qa.jsonl.gz"):
        sentences = _under(row["title"], row["context"])
        yield from _with_answer("nq", f"wiki/{row['title']}", row["question"], sentences, row["answers"][0])


def _read_covid(folder: Path) -> Iterator[SourceQuestion]:
    texts = {row["doc_id"]: row["text"] for row in _rows(folder / "docs.jsonl.gz")}
    for row in _rows(folder / "qa.jsonl.gz"):
        text, start = texts[row["doc_id"]], row["answer_starts"][0]
        title = text.split("\n", 1)[0][:90]
        around = text[max(0, start - 1800) : start + 1800]
        sentences = _under(title, around)[1:-1]  # the outermost are cut
        yield from _with_answer(
            "covid", f"covid/{row['doc_id']}", row["question"], sentences, row["answers"][0]
        )


def _read_feedback(folder: Path) -> Iterator[SourceQuestion]:
    for row in _rows(folder / "qa.jsonl.gz"):
        if not row["contexts"]:
            continue
        title = row["contexts"][0]["title"]
        # Passages of other pages stay out: those pages may belong to the other part of the split.
        texts = [context["text"] for context in row["contexts"] if context["title"] == title]
        sentences = [sentence for text in texts for sentence in _under(title, text)]
        answer_words = set(content_words(row["answers"][0]))
        overlaps = [_overlap(sentence.text, answer_words) for sentence in sentences]
        best = sorted(range(len(sentences)), key=lambda n: -overlaps[n])[:2]
        right = tuple(
            sentences[n] for n in sorted(best) if overlaps[n] >= 0.6 and can_answer(sentences[n].text)
        )
        if right:
            near = tuple(s for n, s in enumerate(sentences) if overlaps[n] < 0.4)
            yield SourceQuestion(
                document=f"wiki/{title}",
                kind="asqa",
                question=row["question"].strip(),
                right=right,
                near=near,
            )


def _overlap(text: str, words: set[str]) -> float:
    """Share of a sentence's content words that are among `words`; short sentences count nothing."""
    own = set(content_words(text))
    return len(own & words) / len(own) if len(own) >= 4 else 0.0


def _read_faq(path: Path) -> Iterator[SourceQuestion]:
    rows = list(_rows(path))
    # Neighbours give each other distractors, so they are one document: none of them is held out alone.
    for start in range(0, len(rows), _FAQ_GROUP):
        group = rows[start : start + _FAQ_GROUP]
        # The heading of a FAQ is the question itself; shown, it would teach nothing but matching.
        answers = [_under("FAQ", row["answer"])[:3] for row in group]
        for number, row in enumerate(group):
            right = tuple(takewhile(lambda sentence: can_answer(sentence.text), answers[number]))
            near = tuple(s for other, found in enumerate(answers) if other != number for s in found)
            if right:
                yield SourceQuestion(
                    document=f"{path.parent.name}/faq-{start}",
                    kind="faq",
                    question=row["question"].strip(),
                    right=right,
                    near=near,
                )


def _under(heading: str, text: str) -> list[SourceSentence]:
    sentences = [sentence for paragraph in text.split("\n") for sentence in split_sentences(paragraph)]
    return [SourceSentence(heading=heading, text=sentence) for sentence in sentences if is_usable(sentence)]


def _with_answer(
    kind: str, document: str, question: str, sentences: Sequence[SourceSentence], answer: str
) -> Iterator[SourceQuestion]:
    """The question with the sentence that holds the answer; nothing when no single sentence does."""
    wanted = _SPACE.sub(" ", answer).strip()
    holding = [sentence for sentence in sentences if wanted.lower() in sentence.text.lower()]
    answers = [sentence for sentence in holding if can_answer(sentence.text)]
    if not answers or len(wanted) < 2:
        return
    words = set(content_words(question))
    right = max(answers, key=lambda sentence: len(words & set(content_words(sentence.text))))
    near = tuple(sentence for sentence in sentences if sentence not in holding)
    short = wanted.rstrip(".") if len(wanted) <= 60 and wanted != right.text else ""
    yield SourceQuestion(
        document=document, kind=kind, question=question.strip(), right=(right,), near=near, short_answer=short
    )
