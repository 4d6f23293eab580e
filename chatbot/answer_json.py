"""The parts of an answer that are stored as JSON, there and back. Knows nothing of the database.

Different from dumping dataclasses: reading ignores keys it does not know and fills in ones that an older version did not write, so
that answers stay readable after the records grow.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from chatbot.records import Citation, EvidenceSentence, GroundingReport, Sampling

R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvidence:
    """An evidence sentence as shown to the model, without the rest of its passage."""

    number: int
    text: str
    heading: str
    similarity: float
    """Cosine of question and sentence."""
    start: int
    end: int
    chunk_id: int
    document_id: str
    document: str
    title: str
    collection: str
    collection_is_open: bool
    page: int | None


def citation_to_json(citation: Citation) -> dict[str, Any]:
    """A citation as JSON."""
    return dataclasses.asdict(citation)


def citations_from_json(values: Sequence[Mapping[str, Any]]) -> tuple[Citation, ...]:
    """Citations as they were saved, in order."""
    return tuple(_known(Citation, value) for value in values)


def evidence_to_json(sentence: EvidenceSentence) -> dict[str, Any]:
    """An evidence sentence as JSON; of its passage only what names it."""
    passage = sentence.passage
    return dataclasses.asdict(
        StoredEvidence(
            number=sentence.number,
            text=sentence.text,
            heading=sentence.heading,
            similarity=float(sentence.similarity),
            start=sentence.start,
            end=sentence.end,
            chunk_id=passage.chunk_id,
            document_id=passage.document_id,
            document=passage.document,
            title=passage.title,
            collection=passage.collection,
            collection_is_open=passage.collection_is_open,
            page=passage.page,
        )
    )


def evidence_from_json(values: Sequence[Mapping[str, Any]]) -> tuple[StoredEvidence, ...]:
    """Evidence sentences as they were saved, in the order shown."""
    return tuple(_known(StoredEvidence, value) for value in values)


def sampling_to_json(sampling: Sampling) -> dict[str, Any]:
    """Sampling settings as JSON."""
    return dataclasses.asdict(sampling)


def sampling_from_json(value: Mapping[str, Any]) -> Sampling:
    """Sampling settings as they were saved."""
    return _known(Sampling, value)


def grounding_to_json(report: GroundingReport) -> dict[str, Any]:
    """A grounding report as JSON."""
    return {**dataclasses.asdict(report), "dropped": list(report.dropped)}


def grounding_from_json(value: Mapping[str, Any]) -> GroundingReport:
    """A grounding report as it was saved."""
    return _known(GroundingReport, {**value, "dropped": tuple(value.get("dropped", ()))})


def _known(record: type[R], value: Mapping[str, Any]) -> R:
    names = {field.name for field in dataclasses.fields(record)}  # type: ignore[arg-type]  # only dataclasses come here
    return record(**{name: item for name, item in value.items() if name in names})
