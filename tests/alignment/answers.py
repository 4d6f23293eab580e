"""Makes passages, evidence, prepared turns and answers for tests, with everything that does not matter filled in."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from chatbot.prompt import REFUSAL, NumberedEvidence, build_messages
from chatbot.records import Answer, Citation, EvidenceSentence, GroundingReport, PreparedTurn, Sampling
from knowledge_base.records import Passage


def make_passage(text: str, *, document: str = "leave.md", start: int = 0, chunk_id: int = 1) -> Passage:
    """A passage at the top of the ranking."""
    return Passage(
        chunk_id=chunk_id,
        document_id=document,
        document=document,
        title=document.removesuffix(".md").title(),
        collection="company",
        collection_is_open=True,
        heading="",
        page=None,
        text=text,
        start=start,
        end=start + len(text),
        score=1.0,
        similarity=0.7,
        rank=1,
    )


def make_evidence(sentences: Sequence[tuple[Passage, str]]) -> list[EvidenceSentence]:
    """Numbered evidence; each sentence must stand in its passage."""
    return [
        EvidenceSentence(
            number=number,
            text=text,
            heading=passage.title,
            similarity=0.6,
            start=passage.start + passage.text.index(text),
            end=passage.start + passage.text.index(text) + len(text),
            passage=passage,
        )
        for number, (passage, text) in enumerate(sentences, start=1)
    ]


def make_prepared(
    question: str, evidence: Sequence[EvidenceSentence] = (), *, answerable: bool = True
) -> PreparedTurn:
    """A turn before the model writes."""
    passages = {item.passage.chunk_id: item.passage for item in evidence}
    numbered = [NumberedEvidence(number=e.number, heading=e.heading, text=e.text) for e in evidence]
    return PreparedTurn(
        question=question,
        search_text=question,
        passages=tuple(passages.values()),
        evidence=tuple(evidence),
        messages=tuple(build_messages(question, numbered)),
        answerable=answerable,
        support=0.6,
        versions={"index": "1", "retriever": "1", "prompt": "1"},
    )


def make_answer(
    question: str,
    text: str = REFUSAL,
    *,
    cited: Sequence[str] = (),
    passages: Sequence[str] = (),
    grounding: tuple[int, int] = (1, 1),
    seconds: float = 1.0,
) -> Answer:
    """An answer; `cited` sentences become citations and evidence, `passages` further retrieved text, `grounding` (n, supported)."""
    body = make_passage("\n".join([*cited, *passages]) or "Nothing.")
    evidence = make_evidence([(body, sentence) for sentence in cited])
    prepared = make_prepared(question, evidence)
    if passages and not cited:
        prepared = make_prepared(question, make_evidence([(body, passages[0])]))
    return Answer(
        id=question,
        question=question,
        text=text,
        abstained=text == REFUSAL,
        citations=tuple(
            Citation(
                number=item.number,
                document_id=body.document_id,
                document=body.document,
                title=body.title,
                heading="",
                page=None,
                text=item.text,
                start=item.start,
                end=item.end,
                chunk_id=body.chunk_id,
            )
            for item in evidence
        ),
        policy_id="base",
        completion=text,
        prompt="",
        logprob=None,
        sampling=Sampling(),
        grounding=GroundingReport(n_sentences=grounding[0], n_supported=grounding[1]),
        prepared=prepared,
        seconds_to_first_token=None,
        seconds=seconds,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
