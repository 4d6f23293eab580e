"""Word search keeps its contract on both databases."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge_base.lexical import STOP_WORDS, LexicalSettings, lexical_index, query_words
from knowledge_base.protocols import LexicalIndex
from knowledge_base.store import KnowledgeStore
from tests.contracts import LexicalIndexContract


class TestLexicalIndex(LexicalIndexContract):
    """FTS5 and PostgreSQL's text search."""

    @pytest.fixture
    def lexical(self, store: KnowledgeStore) -> LexicalIndex:
        """The word search of the store's database."""
        return lexical_index(store.db)


@given(query=st.text(max_size=300), limit=st.integers(1, 20))
def test_query_words_are_few_distinct_and_plain(query: str, limit: int) -> None:
    """Whatever is typed, only letters and digits reach the database."""
    words = query_words(query, limit)

    assert len(words) <= limit
    assert len(set(words)) == len(words)
    assert all(word.isalnum() and word not in STOP_WORDS for word in words)


def test_stop_words_only_say_nothing() -> None:
    """A question made of them is left to the vectors."""
    assert [] == query_words("What is it that you can do?", 10)


def test_weights_must_make_sense() -> None:
    """The error names the field and the value."""
    with pytest.raises(ValueError, match="heading_weight is -1"):
        LexicalSettings(heading_weight=-1)
