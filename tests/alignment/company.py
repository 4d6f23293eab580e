"""A company of a few generated documents, a retriever by shared words, and judgements, for tests of data sets."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from alignment.datasets import Permissions
from chatbot.prompt import Message
from chatbot.records import JudgedAnswer, Judgement, JudgementKind, PreparedTurn
from knowledge_base.records import Document, DocumentText, Passage, Section
from knowledge_base.sentences import split_sentences
from tests.alignment.answers import make_evidence, make_passage, make_prepared

TOPICS = (
    "Sick leave",
    "Parking permits",
    "Laptop repair",
    "Travel insurance",
    "Parental leave",
    "Meeting rooms",
    "Badge loss",
    "Fire drills",
)
START = datetime(2026, 1, 1, tzinfo=UTC)


def make_document(title: str, sections: Sequence[tuple[str, str]]) -> DocumentText:
    """A document; each section is (heading, body), and its text opens with the heading line as loaders write it."""
    text, spans = "", []
    for heading, body in sections:
        start = len(text)
        text += f"{heading}\n{body}\n"
        spans.append(Section(start=start, end=len(text), heading_path=(heading,)))
    path = f"{title.lower().replace(' ', '-')}.md"
    document = Document(
        id=path,
        collection_id="1",
        collection="company",
        path=path,
        title=title,
        media_type="text/markdown",
        content_hash="",
        size_bytes=len(text),
        n_chunks=1,
        created_at=START,
        updated_at=START,
    )
    return DocumentText(document=document, text=text, sections=tuple(spans))


def make_company(topics: Sequence[str] = TOPICS) -> list[DocumentText]:
    """One document a topic, with a section of two sentences."""
    return [
        make_document(
            f"{topic} guide",
            [(topic, f"{topic} is arranged by office {n}. Write to desk {n} about {topic.lower()} early.")],
        )
        for n, topic in enumerate(topics, start=1)
    ]


class WordRetrieval:
    """Prepares a turn with the sentences that share most words with the question, from all given documents."""

    def __init__(self, documents: Sequence[DocumentText], *, is_open: bool = True) -> None:
        self._sentences: list[tuple[Passage, str]] = []
        for number, document in enumerate(documents, start=1):
            passage = make_passage(document.text, document=document.document.id, chunk_id=number)
            if not is_open:
                passage = make_closed(passage)
            headings = {section.heading_path[-1] for section in document.sections}
            spans = [span.text for span in split_sentences(document.text)]
            self._sentences += [(passage, text) for text in spans if text not in headings]

    def __call__(self, question: str) -> PreparedTurn:
        """Four sentences at most, best first."""
        words = set(re.findall(r"\w+", question.lower()))
        ranked = sorted(
            self._sentences, key=lambda item: -len(words & set(re.findall(r"\w+", item[1].lower())))
        )
        return make_prepared(question, make_evidence(ranked[:4]))


def make_closed(passage: Passage) -> Passage:
    """The same passage in a restricted collection."""
    import dataclasses

    return dataclasses.replace(passage, collection_is_open=False)


def render(messages: Sequence[Message]) -> str:
    """The user message as it stands."""
    return f"{messages[-1].content}\nAnswer:"


def allow(documents: Sequence[DocumentText], users: Sequence[str] = ("ana", "bo")) -> Permissions:
    """Everything given may be used."""
    ids = {document.document.id for document in documents}
    return Permissions(open_document_ids=ids, known_document_ids=ids, active_user_ids=set(users))


def make_judgement(
    question: str, kind: JudgementKind = "rating", *texts: str, n: int = 1, **changes: Any
) -> Judgement:
    """A judgement of Ana's; the answers are `texts`."""
    fields: dict[str, Any] = {
        "id": f"{n:04d}",
        "kind": kind,
        "user_id": "ana",
        "subject": str(n),
        "question": question,
        "prompt": f"prompt of {question}",
        "document_ids": (),
        "all_open": True,
        "answers": tuple(JudgedAnswer(text=text) for text in texts or ("Yes [1].",)),
        "created_at": START + timedelta(minutes=n),
    }
    if kind == "rating":
        fields["label"] = True
    if kind in {"comparison", "ranking"}:
        fields["ranking"] = tuple((i,) for i in range(len(texts)))
    return Judgement(**(fields | changes))
