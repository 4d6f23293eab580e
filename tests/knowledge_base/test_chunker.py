"""Chunks along a document's structure."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knowledge_base.chunker import ChunkerSettings, chunk_document
from knowledge_base.loaders.assembly import DocumentBuilder
from knowledge_base.loaders.limits import LoadLimits
from knowledge_base.records import ChunkDraft, ParsedDocument
from tests import strategies


def count_words(text: str) -> int:
    """Count words: a tokenizer that is easy to reason about."""
    return len(text.split())


def builder() -> DocumentBuilder:
    """An empty document."""
    return DocumentBuilder("leave.md", LoadLimits())


def chunks_of(
    build: DocumentBuilder, max_tokens: int, min_tokens: int = 5, overlap_tokens: int = 0
) -> list[ChunkDraft]:
    """Finish a document and cut it."""
    chosen = ChunkerSettings(max_tokens=max_tokens, min_tokens=min_tokens, overlap_tokens=overlap_tokens)
    return chunk_document(build.finish(title="T", media_type="text/plain"), count_words, chosen)


@given(strategies.parsed_documents(with_pages=True), st.integers(1, 40), st.floats(0, 1))
@settings(deadline=None)
def test_chunks_rebuild_the_text(parsed: ParsedDocument, max_tokens: int, share: float) -> None:
    """Offsets are exact, chunks are in order, and the gaps between them are white space."""
    chosen = ChunkerSettings(max_tokens=max_tokens, min_tokens=int(share * max_tokens))
    position = 0
    for chunk in chunk_document(parsed, count_words, chosen):
        assert chunk.text == parsed.text[chunk.start : chunk.end] == chunk.text.strip() != ""
        assert chunk.start >= position
        assert not parsed.text[position : chunk.start].strip()
        assert chunk.n_tokens == count_words(chunk.text) <= max_tokens
        position = chunk.end
    assert not parsed.text[position:].strip()


@given(strategies.parsed_documents(with_pages=True), st.integers(4, 40))
@settings(deadline=None)
def test_no_chunk_spans_two_pages_and_its_headings_hold_for_all_of_it(
    parsed: ParsedDocument, max_tokens: int
) -> None:
    """Page and heading path of a chunk are true of each section in it."""
    chosen = ChunkerSettings(max_tokens=max_tokens, min_tokens=max_tokens // 3)
    for chunk in chunk_document(parsed, count_words, chosen):
        inside = [s for s in parsed.sections if s.start < chunk.end and s.end > chunk.start]
        visible = [
            s for s in inside if parsed.text[max(s.start, chunk.start) : min(s.end, chunk.end)].strip()
        ]
        assert {chunk.page} == {section.page for section in visible}
        bare_above = [s for s in visible if len(s.heading_path) < len(chunk.heading_path)]
        assert all(chunk.heading_path[: len(s.heading_path)] == s.heading_path for s in bare_above)
        deeper = [s for s in visible if s not in bare_above]
        assert all(s.heading_path[: len(chunk.heading_path)] == chunk.heading_path for s in deeper)


@given(strategies.parsed_documents(), st.integers(4, 30))
@settings(deadline=None)
def test_overlap_repeats_no_more_than_it_may(parsed: ParsedDocument, max_tokens: int) -> None:
    """Chunks stay within the budget, and only whole lines of the chunk before are repeated."""
    chosen = ChunkerSettings(max_tokens=max_tokens, min_tokens=0, overlap_tokens=max_tokens // 2)
    end = 0
    for chunk in chunk_document(parsed, count_words, chosen):
        assert chunk.n_tokens <= max_tokens
        assert count_words(parsed.text[chunk.start : max(end, chunk.start)]) <= max_tokens // 2
        end = chunk.end


def test_small_sections_under_one_parent_are_merged() -> None:
    """Crumbs make poor passages; together they keep the parent's heading."""
    build = builder()
    for name in ("One", "Two", "Three"):
        build.add_heading(2, name)
        build.add_block("Few words.")

    (chunk,) = chunks_of(build, max_tokens=30)

    assert "One\n\nFew words.\n\nTwo\n\nFew words.\n\nThree\n\nFew words." == chunk.text
    assert () == chunk.heading_path


def test_sections_under_different_parents_are_not_merged() -> None:
    """What stands under another heading is another matter."""
    build = builder()
    for parent in ("Leave", "Travel"):
        build.add_heading(1, parent)
        build.add_block("Some introduction.")
        build.add_heading(2, f"{parent} forms")
        build.add_block("A form.")
        build.add_heading(2, f"{parent} rules")
        build.add_block("A rule with many more words than that.")

    assert [("Leave",), ("Travel",)] == [
        chunk.heading_path for chunk in chunks_of(build, max_tokens=20, min_tokens=10)
    ]


def test_a_bare_heading_goes_with_the_section_below_it() -> None:
    """A chunk of a heading alone would answer nothing."""
    build = builder()
    build.add_heading(1, "Leave")
    build.add_heading(2, "Sick leave")
    build.add_block("Call in before nine.")

    (chunk,) = chunks_of(build, max_tokens=30)

    assert "Leave\n\nSick leave\n\nCall in before nine." == chunk.text
    assert ("Leave", "Sick leave") == chunk.heading_path


def test_rows_and_items_are_not_cut() -> None:
    """Cuts in a long list fall between its lines."""
    rows = [f"Years: {n}; Days: {n + 20}; Note: ask your own manager" for n in range(30)]
    build = builder()
    build.add_block("\n".join(rows))

    chunks = chunks_of(build, max_tokens=40)

    assert rows == [line for chunk in chunks for line in chunk.text.split("\n")]
    assert len(chunks) > 5


def test_a_list_stays_with_the_line_that_introduces_it() -> None:
    """A chunk that ends with "You may:" would leave the items without meaning."""
    build = builder()
    build.add_block("word " * 22)
    build.add_block("You may do this:")
    build.add_block("\n".join(["- rest at home today"] * 4))

    chunks = chunks_of(build, max_tokens=30)

    assert not any(chunk.text.endswith(":") for chunk in chunks)


def test_a_long_paragraph_is_cut_between_sentences() -> None:
    """Only a line beyond the budget is cut, and then where a sentence ends."""
    build = builder()
    build.add_block("This sentence has exactly six words. " * 20)

    assert all(chunk.text.endswith("words.") for chunk in chunks_of(build, max_tokens=15))


def test_an_empty_document_has_no_chunks() -> None:
    """A redirect page is a document without chunks."""
    assert [] == chunks_of(builder(), max_tokens=10)


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"min_tokens": 999}, "min_tokens"),
        ({"overlap_tokens": -1}, "overlap_tokens"),
    ],
)
def test_bad_settings_are_refused_by_name(values: dict[str, int], name: str) -> None:
    """The error names the setting."""
    with pytest.raises(ValueError, match=name):
        ChunkerSettings(**values)
