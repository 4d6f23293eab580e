"""Misspelled words of a question, and the words of the documents that were probably meant.

A word is looked at when no document that the reader may read has it, in any inflection, and when it is not known to be a word either: a right word
that the documents happen not to use is left alone. Knows nothing of ranking.

Different from the textbook (Damerau 1964, A technique for computer detection and correction of spelling errors): the language is the documents', and
only words that find something for this reader are offered, so that the spelling of a restricted document's words never changes what somebody else
finds. The vocabulary is learned from the chunks while questions are asked, so many at a time that no question waits long for it.
"""

from __future__ import annotations

import re
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from rapidfuzz import process
from rapidfuzz.distance import OSA

from knowledge_base.database import Database
from knowledge_base.lexical import query_words, without_accents
from knowledge_base.protocols import LexicalIndex
from knowledge_base.tables import chunks, documents

_SHORTEST = 4
"""A shorter word has too many neighbours."""
_LONG = 8
"""From here on two slips are tolerated instead of one."""
_MOST_NEIGHBOURS = 2
_MOST_WORDS_OF_A_QUESTION = 24
_CHUNKS_AT_ONCE = 4_000
_WORD = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spelled:
    """A question, its misspelled words known."""

    question: str
    """With the likeliest word in place of each misspelled one."""
    added: tuple[str, ...] = ()
    """Words to search beside those of the question as typed."""


class Vocabulary:
    """The words of the chunks, by how many chunks have them. Thread-safe.

    Words of deleted chunks stay: they find nothing, and an id is never used again.
    """

    def __init__(self, db: Database) -> None:
        """Nothing is learned yet."""
        self._db = db
        self._lock = threading.Lock()
        self._last_id = 0
        self._words: dict[tuple[str, int], Counter[str]] = defaultdict(Counter)
        """By collection and length."""

    def learn(self, n_chunks: int = _CHUNKS_AT_ONCE) -> None:
        """Read up to so many chunks that came since the last time."""
        statement = (
            sa.select(chunks.c.id, documents.c.collection_id, documents.c.title, chunks.c.text)
            .join(documents, documents.c.id == chunks.c.document_id)
            .where(chunks.c.id > self._last_id)
            .order_by(chunks.c.id)
            .limit(n_chunks)
        )
        with self._lock:
            with self._db.read() as connection:
                rows = connection.execute(statement).all()
            for chunk_id, collection_id, title, text in rows:
                for word in set(_WORD.findall(without_accents(f"{title} {text}"))):
                    self._words[collection_id, len(word)][word] += 1
                self._last_id = chunk_id

    def near(self, word: str, collection_ids: Sequence[str]) -> list[str]:
        """Words one slip away (a letter wrong, missing, too many, or two exchanged), of long ones two; nearest first, then most frequent."""
        most = 1 if len(word) < _LONG else 2
        found: dict[str, tuple[int, int]] = {}
        with self._lock:
            for collection_id in collection_ids:
                for length in range(len(word) - most, len(word) + most + 1):
                    counted = self._words.get((collection_id, length), Counter())
                    near = process.extract(word, counted.keys(), scorer=OSA.distance, score_cutoff=most, limit=None)  # fmt: skip
                    for other, distance, _ in near:
                        found[other] = (int(distance), found.get(other, (0, 0))[1] - counted[other])
        return sorted(found, key=lambda other: (*found[other], other))


class Spelling:
    """Finds what was meant."""

    def __init__(
        self, vocabulary: Vocabulary, lexical: LexicalIndex, is_word: Callable[[str], bool] = lambda _: False
    ) -> None:
        """Put the parts together.

        Args:
            vocabulary: Words of the documents.
            lexical: Tells which of them a reader can find.
            is_word: Whether a word is a right one whether or not a document has it.
        """
        self._vocabulary = vocabulary
        self._lexical = lexical
        self._is_word = is_word

    def read(self, question: str, collection_ids: Sequence[str]) -> Spelled:
        """Look at a question's words; `collection_ids` are those that its reader may read."""
        meant = {
            word: found
            for word in query_words(question, _MOST_WORDS_OF_A_QUESTION)
            if self._is_strange(word, collection_ids) and (found := self._meant(word, collection_ids))
        }
        if not meant:
            return Spelled(question=question)
        replaced = _WORD.sub(
            lambda match: meant.get(without_accents(match.group()), [match.group()])[0], question
        )
        return Spelled(question=replaced, added=tuple(word for found in meant.values() for word in found))

    def _is_strange(self, word: str, collection_ids: Sequence[str]) -> bool:
        return (
            len(word) >= _SHORTEST
            and word.isalpha()
            and not self._is_word(word)
            and not self._lexical.search(word, 1, collection_ids)
        )

    def _meant(self, word: str, collection_ids: Sequence[str]) -> list[str]:
        self._vocabulary.learn()
        found = []
        for other in self._vocabulary.near(word, collection_ids):
            if self._lexical.search(other, 1, collection_ids):
                found.append(other)
            if len(found) == _MOST_NEIGHBOURS:
                break
        return found
