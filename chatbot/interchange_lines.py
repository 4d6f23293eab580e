"""One line of the feedback interchange, there and back. Knows nothing of files or the database.

Required keys: `kind`, `question`, `user`; `answer` and `label` (rating), `answers` and `ranking` (comparison), `answer` (demonstration).
Optional: `at` (ISO 8601 with zone), `reasons`, `comment`, `passages` (texts, or objects with `text`), `prompt`, `document_ids`, `all_open`,
`both_bad`, `displayed_order`, `subject`, `surface`. `ranking` as a kind is read as `comparison`. Other keys are refused: a misspelt one would be
lost in silence.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from chatbot.accounts import check_user_name
from chatbot.errors import FeedbackError
from chatbot.judgements import check_judgement, kind_of_ranking, text_hash
from chatbot.records import JudgedAnswer, Judgement, JudgementKind

IMPORT_SURFACE = "import"

_COMMON = {"kind", "question", "user", "at", "reasons", "comment", "passages", "prompt", "document_ids"}
_COMMON |= {"all_open", "subject", "surface"}
_OWN_KEYS = {
    "rating": {"answer", "label"},
    "comparison": {"answers", "ranking", "both_bad", "displayed_order"},
    "demonstration": {"answer"},
}
_MAX_SUBJECT_CHARACTERS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedLine:
    """A checked line: the judgement, still without an account."""

    user: str
    """User name."""
    judgement: Judgement
    """With an empty `id` and `user_id`."""


def parse_line(text: str) -> ImportedLine:
    """Read and check a line.

    Raises:
        FeedbackError: a key is missing, unknown or of the wrong type, or the judgement can not count.
        UsageError: the user's name breaks the rules.
    """
    value = _object(text)
    kind = _text(value, "kind")
    kind = "comparison" if kind == "ranking" else kind
    if kind not in _OWN_KEYS:
        raise FeedbackError(f"{kind!r} is not a kind: use one of {', '.join(_OWN_KEYS)}")
    if unknown := sorted(value.keys() - _COMMON - _OWN_KEYS[kind]):
        raise FeedbackError(f"unknown key {unknown[0]!r} in a {kind}")
    user = check_user_name(_text(value, "user"))
    judgement = _comparison(value) if kind == "comparison" else _single(value, kind)
    check_judgement(judgement)
    return ImportedLine(user=user, judgement=judgement)


def to_judgement(line: ImportedLine, user_id: str) -> Judgement:
    """The judgement of an account, named by its content: the same line gives the same id."""
    unnamed = line.judgement
    content = json.dumps(judgement_to_line(unnamed, line.user), sort_keys=True, ensure_ascii=False)
    digest = hashlib.sha256(f"{user_id}\n{content}".encode()).hexdigest()[:32]
    return replace(unnamed, id=digest, user_id=user_id)


def judgement_to_line(judgement: Judgement, user: str) -> dict[str, Any]:
    """A judgement as a line's object; optional keys only where they say something."""
    ranked = judgement.kind in ("comparison", "ranking")
    line: dict[str, Any] = {
        "kind": "comparison" if ranked else judgement.kind,
        "question": judgement.question,
    }
    texts = [answer.text for answer in judgement.answers]
    if ranked:
        line |= {"answers": texts, "ranking": [list(group) for group in judgement.ranking]}
    else:
        line["answer"] = texts[0]
    if judgement.kind == "rating":
        line["label"] = judgement.label
    line["user"] = user
    at = judgement.extra.get("at") or (judgement.created_at and judgement.created_at.isoformat())
    optional = {
        "at": at,
        "reasons": list(judgement.reasons),
        "comment": judgement.comment,
        "passages": judgement.extra.get("passages"),
        "prompt": judgement.prompt,
        "document_ids": list(judgement.document_ids),
        "both_bad": judgement.both_bad,
        "displayed_order": list(judgement.displayed_order),
        "subject": judgement.subject,
        "surface": judgement.surface,
    }
    line |= {name: value for name, value in optional.items() if value}
    if not judgement.all_open:
        line["all_open"] = False
    return line


def _single(value: Mapping[str, Any], kind: str) -> Judgement:
    answer = _text(value, "answer")
    if kind == "rating":
        label = _flag(value, "label", None)
        subject = text_hash(_text(value, "question"), answer)
        return _judgement(value, "rating", [answer], subject, label=label)
    return _judgement(value, "demonstration", [answer], text_hash(_text(value, "question")))


def _comparison(value: Mapping[str, Any]) -> Judgement:
    answers = _texts(value, "answers")
    both_bad = _flag(value, "both_bad", False)
    ranking = value.get("ranking")
    if not isinstance(ranking, list) or not all(_is_list(group, int) for group in ranking):
        raise FeedbackError("'ranking' must be a list of lists of indices, best first, like [[2], [0, 1]]")
    order = value.get("displayed_order", [])
    if not _is_list(order, int):
        raise FeedbackError("'displayed_order' must be a list of indices")
    subject = "+".join(sorted(text_hash(_text(value, "question"), answer) for answer in answers))
    return _judgement(
        value,
        kind_of_ranking(len(answers)),
        answers,
        subject,
        ranking=tuple(tuple(group) for group in ranking),
        both_bad=both_bad,
        displayed_order=tuple(order),
    )


def _judgement(
    value: Mapping[str, Any], kind: JudgementKind, answers: Sequence[str], subject: str, **verdict: Any
) -> Judgement:
    given = _text(value, "subject", subject)
    return Judgement(
        id="",
        kind=kind,
        user_id="",
        subject=given if len(given) <= _MAX_SUBJECT_CHARACTERS else text_hash(given),
        question=_text(value, "question"),
        prompt=_text(value, "prompt", ""),
        document_ids=tuple(_texts(value, "document_ids")),
        all_open=bool(_flag(value, "all_open", True)),
        answers=tuple(JudgedAnswer(text=text) for text in answers),
        reasons=tuple(_texts(value, "reasons")),
        comment=_text(value, "comment", ""),
        surface=_text(value, "surface", IMPORT_SURFACE)[:16],
        extra=_extra(value),
        **verdict,
    )


def _extra(value: Mapping[str, Any]) -> dict[str, Any]:
    extra: dict[str, Any] = {}
    if "at" in value:
        extra["at"] = _time(_text(value, "at"))
    passages = value.get("passages", [])
    if not isinstance(passages, list) or not all(_is_passage(passage) for passage in passages):
        raise FeedbackError("'passages' must be a list of texts or of objects with a 'text'")
    if passages:
        extra["passages"] = passages
    return extra


def _is_passage(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, dict) and isinstance(value.get("text"), str))


def _time(text: str) -> str:
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise FeedbackError(f"'at' is {text[:40]!r}: write it like 2026-01-31T09:30:00+00:00") from error
    if at.tzinfo is None:
        raise FeedbackError(f"'at' is {text[:40]!r} without a time zone: add +00:00 for UTC")
    return at.astimezone(UTC).isoformat()


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FeedbackError("this is not JSON: write one object a line") from error
    if not isinstance(value, dict):
        raise FeedbackError("this is not a JSON object")
    return value


def _text(value: Mapping[str, Any], name: str, default: str | None = None) -> str:
    if name not in value and default is not None:
        return default
    text = value.get(name)
    if not isinstance(text, str):
        raise FeedbackError(f"{name!r} is missing or is not text")
    return text


def _texts(value: Mapping[str, Any], name: str) -> list[str]:
    texts = value.get(name, [])
    if not _is_list(texts, str):
        raise FeedbackError(f"{name!r} must be a list of texts")
    return list(texts)


def _flag(value: Mapping[str, Any], name: str, default: bool | None) -> bool:
    flag = value.get(name, default)
    if not isinstance(flag, bool):
        raise FeedbackError(f"{name!r} must be true or false")
    return flag


def _is_list(value: object, kind: type) -> bool:
    # bool is an int to Python, never an index to us.
    return isinstance(value, list) and all(type(item) is kind for item in value)
