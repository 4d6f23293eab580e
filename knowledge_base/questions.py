"""Question files: one JSON object a line, with the answer, the document, and the evidence that holds it.

Typed, with errors that name the line. Knows nothing of how answers are found or judged.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from knowledge_base.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationQuestion:
    """A question whose answer is known."""

    id: str
    question: str
    answerable: bool
    answer: str
    """A person's answer; empty when unanswerable."""
    document: str
    """Path of the document that holds the answer; empty when unanswerable."""
    evidence: str
    """The passage of the document that holds it, in the document's own markup; empty when unanswerable."""
    key_facts: tuple[str, ...]
    """Each `alternative|alternative`; an answer has the fact when it contains one of them, ignoring case."""


def load_questions(path: Path) -> list[EvaluationQuestion]:
    """Read a question file; blank lines are skipped.

    Raises:
        UsageError: the file cannot be read, holds no question, or a line is not one; the message names the line.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}): check the path") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 (byte {error.start}): save it as UTF-8") from error
    questions = [
        _question(line, f"{path}, line {n}") for n, line in enumerate(lines, start=1) if line.strip()
    ]
    if not questions:
        raise UsageError(f"{path} holds no questions: one JSON object a line is expected")
    seen: set[str] = set()
    for question in questions:
        if question.id in seen:
            raise UsageError(f"{path} has two questions of id {question.id!r}: ids must differ")
        seen.add(question.id)
    return questions


def _question(line: str, place: str) -> EvaluationQuestion:
    try:
        fields = json.loads(line)
    except ValueError as error:
        raise UsageError(f"{place}: not valid JSON ({error})") from error
    if not isinstance(fields, dict):
        raise UsageError(f"{place}: a JSON object is expected, not {type(fields).__name__}")
    answerable = fields.get("answerable", True)
    if not isinstance(answerable, bool):
        raise UsageError(f"{place}: `answerable` must be true or false")
    facts = fields.get("key_facts") or []
    if not isinstance(facts, list) or not all(isinstance(fact, str) and fact.strip() for fact in facts):
        raise UsageError(f"{place}: `key_facts` must be a list of texts")
    return EvaluationQuestion(
        id=_text(fields, "id", place), question=_text(fields, "question", place), answerable=answerable,
        answer=_text(fields, "answer", place, needed=answerable), document=_text(fields, "document", place, needed=answerable),
        evidence=_text(fields, "evidence", place, needed=answerable), key_facts=tuple(facts),
    )  # fmt: skip


def _text(fields: dict[str, Any], name: str, place: str, *, needed: bool = True) -> str:
    value = fields.get(name)
    if value is None and not needed:
        return ""
    if not isinstance(value, str) or (needed and not value.strip()):
        raise UsageError(f"{place}: `{name}` must be a text that is not empty")
    return value
