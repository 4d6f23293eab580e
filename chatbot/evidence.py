"""Chooses the sentences of the retrieved passages that the model is shown.

A passage is split into sentences; each is ranked by its cosine to the question plus a share of its passage's own; near-duplicates
and bare headings are dropped. Knows nothing of prompts, models or access rules: passages in, numbered sentences out.

Different from the textbook (whole chunks in the prompt): sentences, because a small model reads eight sentences better than five
chunks, and because a citation then points at the very sentence. A sentence that ends in a colon or a question mark takes what follows
with it: "You can do this by:" and "Do I lose the days?" answer nothing alone.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from chatbot.records import EvidenceSentence
from chatbot.settings import EvidenceSettings
from knowledge_base.protocols import Embedder, Vectors
from knowledge_base.records import Passage
from knowledge_base.sentences import SentenceSpan, split_sentences

_LEAST_WORDS = 4
_WORD = re.compile(r"\w+")
_ITEM_MARK = re.compile(r"(?:[-*•–]|\(?\d{1,3}[.)])\s+")


@dataclass(frozen=True, slots=True)
class _Candidate:
    passage: Passage
    start: int
    end: int
    text: str
    """`passage.text` between `start` and `end`, which count in the passage."""


@dataclass(frozen=True, slots=True)
class _Read:
    """A passage taken apart: its candidates and their vectors, (n, dimension)."""

    text: str
    candidates: tuple[_Candidate, ...]
    vectors: Vectors


class EvidenceSelector:
    """Passages to numbered evidence. Thread-safe; remembers the sentence vectors of recent chunks."""

    def __init__(self, embedder: Embedder, settings: EvidenceSettings | None = None) -> None:
        self._embedder = embedder
        self._settings = settings or EvidenceSettings()
        self._guard = threading.Lock()
        self._read: OrderedDict[int, _Read] = OrderedDict()

    @property
    def version(self) -> str:
        """Of the embedder that compares sentences."""
        return self._embedder.version

    def select(
        self,
        question: str,
        passages: Sequence[Passage],
        fits: Callable[[Sequence[EvidenceSentence]], bool] = lambda _: True,
    ) -> list[EvidenceSentence]:
        """Choose and number evidence, best first.

        Args:
            question: What was searched for.
            passages: Best first.
            fits: Whether a prompt with this evidence fits the model's context; sentences that do not fit are passed over.

        Returns:
            At most `max_sentences`, numbered from 1; `text` is the passage's text between `start` and `end`.
        """
        vector, read = self._embed(question, passages[: self._settings.max_passages])
        ranked = self._rank(vector, read)
        chosen: list[EvidenceSentence] = []
        vectors: list[Vectors] = []
        for similarity, candidate, sentence_vector in ranked:
            if len(chosen) == self._settings.max_sentences:
                break
            if self._repeats(candidate, sentence_vector, chosen, vectors):
                continue
            item = _as_evidence(candidate, similarity, len(chosen) + 1)
            if fits([*chosen, item]):
                chosen.append(item)
                vectors.append(sentence_vector)
        return chosen

    def _rank(self, vector: Vectors, read: Sequence[_Read]) -> list[tuple[float, _Candidate, Vectors]]:
        ranked = []
        for part in read:
            for candidate, sentence_vector in zip(part.candidates, part.vectors, strict=True):
                similarity = float(vector @ sentence_vector)
                score = similarity + self._settings.passage_weight * candidate.passage.similarity
                ranked.append((score, similarity, candidate, sentence_vector))
        # Ties go to the better passage and the earlier sentence, so that equal questions get equal evidence.
        ranked.sort(key=lambda entry: (-entry[0], entry[2].passage.rank, entry[2].start))
        return [(similarity, candidate, own) for _, similarity, candidate, own in ranked]

    def _repeats(
        self,
        candidate: _Candidate,
        vector: Vectors,
        chosen: Sequence[EvidenceSentence],
        vectors: Sequence[Vectors],
    ) -> bool:
        words = _words(candidate.text)
        return any(
            _words(item.text) == words
            or (item.passage.chunk_id == candidate.passage.chunk_id and candidate.text in item.text)
            # Vectors barely see numbers: "5 days" and "10 days" are no duplicates however close they lie.
            or (
                float(vector @ other) >= self._settings.duplicate_cosine
                and _numbers(item.text) == _numbers(candidate.text)
            )
            for item, other in zip(chosen, vectors, strict=True)
        )

    def _embed(self, question: str, passages: Sequence[Passage]) -> tuple[Vectors, list[_Read]]:
        """The question's vector (dimension,) and every passage read; sentences that are not remembered in one batch."""
        known = self._recall(passages)
        missing = [passage for passage in passages if passage.chunk_id not in known]
        candidates = {p.chunk_id: self._split(p) for p in missing}
        texts = [with_heading(_heading(c.passage), c.text) for p in missing for c in candidates[p.chunk_id]]
        # The question is encoded alone: what shares its batch moves its last digits, and with them the hash of a dataset.
        asked = self._embedder.encode([question])[0]
        vectors = self._embedder.encode(texts) if texts else None
        place = 0
        for passage in missing:
            own = candidates[passage.chunk_id]
            read = vectors[place : place + len(own)].copy() if vectors is not None else asked[None][:0]
            known[passage.chunk_id] = _Read(passage.text, own, read)
            place += len(own)
        self._remember({p.chunk_id: known[p.chunk_id] for p in missing})
        return asked, [_for_passage(known[p.chunk_id], p) for p in passages]

    def _recall(self, passages: Sequence[Passage]) -> dict[int, _Read]:
        found = {}
        with self._guard:
            for passage in passages:
                read = self._read.get(passage.chunk_id)
                # A chunk id may be given again after a document was replaced: the text decides.
                if read is not None and read.text == passage.text:
                    self._read.move_to_end(passage.chunk_id)
                    found[passage.chunk_id] = read
        return found

    def _remember(self, read: dict[int, _Read]) -> None:
        with self._guard:
            self._read.update(read)
            while len(self._read) > self._settings.cached_chunks:
                self._read.popitem(last=False)

    def _split(self, passage: Passage) -> tuple[_Candidate, ...]:
        spans = split_sentences(passage.text)
        headings = {_words(part) for part in (passage.title, *passage.heading.split(" > "))}
        found = []
        for place, span in enumerate(spans):
            end = self._end_with_what_follows(passage.text, spans[place:])
            if end == span.end and span.text.endswith("?"):
                continue
            # A list item is quoted without its mark: "3." means nothing away from its list.
            mark = _ITEM_MARK.match(span.text)
            start = span.start + (mark.end() if mark and mark.end() < len(span.text) else 0)
            candidate = _Candidate(passage, start, end, passage.text[start:end])
            words = _words(candidate.text)
            says_enough = len(words) >= _LEAST_WORDS or any(c.isdigit() for c in candidate.text)
            if says_enough and words not in headings:
                found.append(candidate)
        return tuple(found)

    def _end_with_what_follows(self, text: str, spans: Sequence[SentenceSpan]) -> int:
        """Where a sentence ends: its own end, or, when it introduces what follows, that of the last one it takes along."""
        first, end = spans[0], spans[0].end
        if not first.text.endswith((":", "?")):
            return end
        # A list belongs to its colon as a whole; of an answer, the first sentence says most.
        n_taken = len(spans) if first.text.endswith(":") else 1
        for span in spans[1 : n_taken + 1]:
            if len(_WORD.findall(text[first.start : span.end])) > self._settings.lead_in_words:
                break
            end = span.end
        return end


def _for_passage(read: _Read, passage: Passage) -> _Read:
    """The same sentences under this retrieval's passage, whose score and rank differ from the remembered one's."""
    own = tuple(_Candidate(passage, c.start, c.end, c.text) for c in read.candidates)
    return _Read(read.text, own, read.vectors)


def _as_evidence(candidate: _Candidate, similarity: float, number: int) -> EvidenceSentence:
    passage = candidate.passage
    return EvidenceSentence(
        number=number,
        text=candidate.text,
        heading=_heading(passage),
        similarity=similarity,
        start=passage.start + candidate.start,
        end=passage.start + candidate.end,
        passage=passage,
    )


def _heading(passage: Passage) -> str:
    # A page often opens with its own title as the first heading; said once is enough.
    parts = passage.heading.split(" > ") if passage.heading else []
    if parts and _words(parts[0]) == _words(passage.title):
        parts = parts[1:]
    return " > ".join([passage.title, *parts] if passage.title else parts)


def with_heading(heading: str, text: str) -> str:
    """A sentence as the models that choose and judge evidence read it.

    >>> with_heading("Leave > Sick leave", "Tell your manager.")
    'Leave > Sick leave: Tell your manager.'
    """
    return f"{heading}: {text}" if heading else text


def _words(text: str) -> tuple[str, ...]:
    return tuple(_WORD.findall(text.lower()))


def _numbers(text: str) -> list[str]:
    return re.findall(r"\d+", text)
