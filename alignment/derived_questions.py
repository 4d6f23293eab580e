"""Questions that a document's own structure asks: under headings, in FAQs, in table rows.

Knows nothing of retrieval, prompts or models: documents in, questions with the stretch of text that answers them out. Different from
neural question generation: patterns only, so that making a data set needs no model, gives the same result every time, and never asks
what the document does not say. All phrasings of one stretch share a key, so that a split never puts two of them on different sides.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from alignment.question_phrasing import question_from_heading
from knowledge_base.records import DocumentText, Section

QuestionKind = Literal["heading", "faq", "table"]

_WORD = re.compile(r"\w+")
_FAQ = re.compile(r"^(?:Q|Question)\s*\d*\s*[:.)]\s*(?P<question>.+)$", re.IGNORECASE)
_ANSWER_MARK = re.compile(r"^(?:A|Answer)\s*\d*\s*[:.)]\s*", re.IGNORECASE)
_ROW = re.compile(
    r"^(?P<first>[^:;|\n]{1,60}): (?P<subject>[^:;|\n]{1,60})(?P<rest>(?:; [^:;|\n]{1,60}: [^;|\n]{1,200})+)$"
)
_ASKED_AND_ANSWERED = re.compile(r"^(?:[-•*]\s+)?(?P<question>[A-Z][^.?!]{12,150}\?)\s+(?P<answer>\S.{19,})$")
_UNASKABLE = frozenset(
    "what yes no how also else remark remarks note notes example examples comment comments".split()  # noqa: SIM905 -- words read best as words
)
"""Column headers that name no property: nobody asks for the remarks."""
_LOOSE_END = re.compile(
    r"(?i)^(?:who|when|where)\b|\b(?:by|with|in|at|from|for|to|on|of|least|most|lasts|takes|needs|goes)$"
)
"""Headers that do not fit "what is the ... for"."""
_CELL = re.compile(r"; (?P<header>[^:;|\n]{1,60}): (?P<value>[^;|\n]{1,200})")
_FEWEST_WORDS, _MOST_WORDS = 4, 25
_LEAST_ANSWER_CHARACTERS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class DerivedQuestion:
    """A question and the stretch of its document that answers it."""

    key: str
    """Shared by all phrasings for the same stretch; splits are by it."""
    question: str
    kind: QuestionKind
    document_id: str
    start: int
    """Offset in the document's text."""
    end: int
    answer: str
    """The stretch itself."""


def question_id(question: str) -> str:
    """16 hexadecimal digits that name a question, ignoring case, white space and punctuation.

    >>> question_id("How many days?") == question_id("how many  days")
    True
    """
    words = " ".join(_WORD.findall(question.casefold()))
    return _digits(words)


def derive_questions(
    documents: Sequence[DocumentText], *, phrasings: int, seed: int
) -> list[DerivedQuestion]:
    """All questions that documents ask themselves.

    A question that two stretches would answer is nobody's: it is given up, because either answer alone would be wrong.

    Args:
        documents: In any order; the result does not depend on it.
        phrasings: How many ways to ask about a section under a heading.
        seed: Decides the phrasings.

    Returns:
        Sorted by key and question; no two have the same question.
    """
    found: dict[str, list[DerivedQuestion]] = {}
    for document in documents:
        for derived in _of_document(document, phrasings, seed):
            found.setdefault(question_id(derived.question), []).append(derived)
    unique = [
        group[0]
        for group in found.values()
        if len({(item.document_id, item.start, item.end) for item in group}) == 1
    ]
    return sorted(unique, key=lambda item: (item.key, item.question))


def _digits(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _of_document(document: DocumentText, phrasings: int, seed: int) -> Iterator[DerivedQuestion]:
    places: Counter[tuple[str, ...]] = Counter()
    for section in document.sections:
        yield from _from_faq(document, section)
        yield from _from_table(document, section, phrasings)
        path = tuple(section.heading_path)
        # To the letter ("C++" and "C#" are two headings), and by its headings and not by where it begins: an edit above changes neither how a section is asked for nor on which side of a split it is.
        place = f"{document.document.path}\n{path}\n{places[path]}"
        places[path] += 1
        yield from _from_heading(document, section, phrasings, f"{seed}:{place}", _digits(place))


def _from_heading(
    document: DocumentText, section: Section, phrasings: int, seed: str, key: str
) -> Iterator[DerivedQuestion]:
    if not section.heading_path:
        return
    start = _body_start(document.text, section)
    body = document.text[start : section.end]
    if len(body.strip()) < _LEAST_ANSWER_CHARACTERS:
        return
    heading = section.heading_path[-1]
    rng = random.Random(seed)  # noqa: S311 -- a choice
    asked: dict[str, str] = {}
    for _ in range(4 * phrasings):
        question = question_from_heading(heading, document.document.title, rng)
        if question and len(asked) < phrasings:
            asked.setdefault(question_id(question), question)
    for question in asked.values():
        yield _derive(document, key, question, "heading", start, section.end)


def _body_start(text: str, section: Section) -> int:
    """Where a section's text begins after its own heading line."""
    start = section.start
    for line in text[section.start : section.end].splitlines(keepends=True):
        bare = line.strip().lstrip("#").strip()
        if bare and bare not in section.heading_path:
            break
        start += len(line)
    return min(start, section.end)


def _from_faq(document: DocumentText, section: Section) -> Iterator[DerivedQuestion]:
    lines = _lines(document.text, section)
    for at, (_, _, line) in enumerate(lines):
        match = _FAQ.match(line)
        if match is None and (both := _ASKED_AND_ANSWERED.match(line)):
            question, begin = both["question"], lines[at][0] + both.start("answer")
            yield _derive(document, question_id(question), question, "faq", begin, lines[at][1])
            continue
        question = match["question"].strip() if match else line
        is_asked = question.endswith("?") and _FEWEST_WORDS <= len(question.split()) <= _MOST_WORDS
        if not is_asked or question in section.heading_path:
            continue
        answer = _faq_answer(lines[at + 1 :])
        if answer is not None:
            start, end = answer
            yield _derive(document, question_id(question), question, "faq", start, end)


def _faq_answer(following: Sequence[tuple[int, int, str]]) -> tuple[int, int] | None:
    """The lines up to the next question; None when there are none."""
    start = end = None
    for line_start, line_end, line in following:
        if line.endswith("?") or _FAQ.match(line):
            break
        if start is None:
            mark = _ANSWER_MARK.match(line)
            start = line_start + (mark.end() if mark else 0)
        end = line_end
        if end - start > 600:  # an answer, not the rest of the document
            break
    return (
        (start, end)
        if start is not None and end is not None and end - start >= _LEAST_ANSWER_CHARACTERS
        else None
    )


def _from_table(document: DocumentText, section: Section, most: int) -> Iterator[DerivedQuestion]:
    """At most `most` questions a row: a wide table is not worth more than a section."""
    for start, end, line in _lines(document.text, section):
        row = _ROW.match(line)
        if row is None:
            continue
        subject = row["subject"].strip()
        key = question_id(f"{row['first']} {subject} {document.document.path}")
        headers = [cell["header"].strip() for cell in _CELL.finditer(row["rest"])]
        askable = [header for header in headers if header.lower() not in _UNASKABLE]
        for number, header in enumerate(askable[:most]):
            yield _derive(document, key, _ask_cell(subject, header, number), "table", start, end)


def _ask_cell(subject: str, header: str, number: int) -> str:
    topic = header if header.isupper() else header[0].lower() + header[1:]
    if number % 2 or _LOOSE_END.search(header):
        return f"{subject}: {topic}?"
    verb = "are" if topic.endswith("s") and not topic.endswith("ss") else "is"
    return f"What {verb} the {topic} for {subject}?"


def _lines(text: str, section: Section) -> list[tuple[int, int, str]]:
    """(start, end, text) of the section's lines that hold something."""
    found, at = [], section.start
    for line in text[section.start : section.end].splitlines(keepends=True):
        bare = line.strip()
        if bare:
            start = at + line.index(bare)
            found.append((start, start + len(bare), bare))
        at += len(line)
    return found


def _derive(
    document: DocumentText, key: str, question: str, kind: QuestionKind, start: int, end: int
) -> DerivedQuestion:
    return DerivedQuestion(
        key=key,
        question=question,
        kind=kind,
        document_id=document.document.id,
        start=start,
        end=end,
        answer=document.text[start:end].strip(),
    )
