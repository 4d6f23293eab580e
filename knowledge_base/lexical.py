"""Word search over chunks: BM25 by SQLite's FTS5, the same idea by PostgreSQL's text search.

A question becomes the set of its words without stop words, joined by OR; operators, quotes and brackets in it are only separators,
so any text is a valid question. The access filter is part of the query. Knows nothing of vectors or readers.

Different from the textbook:

1. FTS5 fixes BM25's k1 = 1.2 and b = 0.75; the weight of a column multiplies its term counts (a simple form of BM25F).
2. PostgreSQL has no document frequencies in its ranking, so each word's `ts_rank` (a saturating function of its count, divided by
   1 + log(length)) is multiplied by BM25's idf, counted through the index at query time. Not BM25 to the letter; it keeps BM25's two
   habits that matter, rare words first and diminishing returns.
3. Stemming and weights were chosen on other data than any figure reported: SciFact's training claims (nDCG@10 0.704 with stemming
   and 0.679 without, title at double weight) and 600 headings of a public handbook searched for among 20,942 sections (MRR@10 0.375
   with the weights below, 0.346 with equal ones, 0.324 with headings at double weight).
4. English stemming on both. Texts in other languages are found by their exact words, and by meaning through the vectors.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from knowledge_base.database import Database
from knowledge_base.protocols import LexicalIndex

_STOP_WORDS = """
a about above after again against all am an and any are aren as at be because been before being below between both but by can
cannot could couldn d did didn do does doesn doing don down during each few for from further had hadn has hasn have haven having he
her here hers herself him himself his how i if in into is isn it its itself just ll m me might more most my myself no nor not now of
off on once only or other our ours ourselves out over own please re s same shall she should shouldn so some such t tell than that
the their theirs them themselves then there these they this those through to too under until up us ve very was wasn we were weren
what when where which while who whom why will with won would wouldn you your yours yourself yourselves
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())
"""Words of questions that say nothing about the subject, contractions' halves included."""

# Letters and digits of any script; the underscore separates, as it does for both databases' tokenizers.
_WORD = re.compile(r"[^\W_]+")
_SPACE = re.compile(r"\s+")
_MAX_WORD = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class LexicalSettings:
    """How words are weighed."""

    title_weight: float = 1.0
    """Of a word in the document's title, relative to one in the text."""
    heading_weight: float = 0.5
    """Of a word in the headings, relative to one in the text. A chunk's text begins with its own heading, which thus counts twice."""
    max_words: int = 48
    """Distinct words of a question that are searched; the rest of a longer one is cut."""

    def __post_init__(self) -> None:
        for name in ("title_weight", "heading_weight"):
            if not 0 <= getattr(self, name) <= 100:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be from 0 to 100")
        if self.max_words < 1:
            raise ValueError(f"max_words is {self.max_words}: it must be at least 1")


class Fts5Index:
    """A `LexicalIndex` on SQLite."""

    def __init__(self, db: Database, settings: LexicalSettings | None = None) -> None:
        """Search this SQLite database."""
        self._db = db
        self._settings = settings or LexicalSettings()

    def search(self, query: str, k: int, collection_ids: Sequence[str]) -> list[tuple[int, float]]:
        """The k best chunks; see `LexicalIndex.search`. Scores are BM25, larger is better."""
        words = query_words(query, self._settings.max_words)
        if not words or not collection_ids or k < 1:
            return []
        match = f"{{title heading text}} : ({_any_of(words)}) AND collection : ({_any_of(collection_ids)})"
        # The collection column weighs nothing: it only filters.
        ranking = f"bm25({self._settings.title_weight}, {self._settings.heading_weight}, 1.0, 0.0)"
        statement = sa.text(
            "SELECT rowid, rank FROM chunks_fts WHERE chunks_fts MATCH :match AND rank MATCH :ranking "
            "ORDER BY rank, rowid LIMIT :k"
        )
        with self._db.read() as connection:
            rows = connection.execute(statement, {"match": match, "ranking": ranking, "k": k}).all()
        return [(int(row[0]), -float(row[1])) for row in rows]


class PostgresLexicalIndex:
    """A `LexicalIndex` on PostgreSQL."""

    def __init__(self, db: Database, settings: LexicalSettings | None = None) -> None:
        """Search this PostgreSQL database."""
        self._db = db
        self._settings = settings or LexicalSettings()

    def search(self, query: str, k: int, collection_ids: Sequence[str]) -> list[tuple[int, float]]:
        """The k best chunks; see `LexicalIndex.search`. Scores are idf times a saturating count, larger is better."""
        words = query_words(query, self._settings.max_words)
        if not words or not collection_ids or k < 1:
            return []
        s = self._settings
        largest = max(s.title_weight, s.heading_weight, 1.0)
        # ts_rank wants weights from 0 to 1, in the order D (text), C (unused), B (heading), A (title).
        weights = [1.0 / largest, 0.0, s.heading_weight / largest, s.title_weight / largest]
        with self._db.read() as connection:
            rows = connection.execute(
                _POSTGRES_SEARCH,
                {"words": words, "weights": weights, "k": k, "collections": list(collection_ids)},
            ).all()
        return [(int(row[0]), float(row[1])) for row in rows]


def lexical_index(db: Database, settings: LexicalSettings | None = None) -> LexicalIndex:
    """The word search that belongs to this database."""
    return Fts5Index(db, settings) if db.is_sqlite else PostgresLexicalIndex(db, settings)


def query_words(query: str, limit: int) -> list[str]:
    """The first `limit` distinct words of a question that say something, lower case, without accents.

    >>> query_words('Who may NOT use "résumé" OR (leave/absence*)?', 10)
    ['may', 'use', 'resume', 'leave', 'absence']
    """
    words: dict[str, None] = {}
    # A question of 100,000 characters costs no more than its beginning: words are taken until there are enough of them.
    for match in re.finditer(r"\S+", query):
        for word in _WORD.findall(without_accents(match.group()[:1000])):
            if word not in STOP_WORDS and len(word) <= _MAX_WORD:
                words[word] = None
        if len(words) >= limit:
            break
    return list(words)[:limit]


def without_accents(text: str) -> str:
    """Lower case, as both databases' tokenizers fold it.

    >>> without_accents("Résumé")
    'resume'
    """
    decomposed = unicodedata.normalize("NFD", text.lower())
    return "".join(c for c in decomposed if not "\u0300" <= c <= "\u036f")


def _any_of(words: Sequence[str]) -> str:
    # Quoted, a word is never an operator; it holds letters and digits only, so it cannot end the quotes.
    return " OR ".join(json.dumps(word, ensure_ascii=False) for word in words)


_POSTGRES_SEARCH = sa.text(
    _SPACE.sub(
        " ",
        """
        WITH terms AS (
            SELECT DISTINCT plainto_tsquery('english', word) AS term FROM unnest(CAST(:words AS text[])) AS word
        ), counted AS (
            SELECT term, (SELECT count(*) FROM chunk_words WHERE words @@ term) AS n, (SELECT count(*) FROM chunk_words) AS total
            FROM terms WHERE numnode(term) > 0
        )
        SELECT chunk_id, sum(
            ln(1 + (total - n + 0.5) / (n + 0.5)) * ts_rank(CAST(:weights AS real[]), words, term, 1)
        ) AS score
        FROM counted JOIN chunk_words ON words @@ term
        WHERE collection_id = ANY(CAST(:collections AS text[]))
        GROUP BY chunk_id ORDER BY score DESC, chunk_id LIMIT :k
        """,
    )
)
