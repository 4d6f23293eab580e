"""Hypothesis strategies shared by tests: handbook-like text, and parsed documents with sections that cover it."""

from __future__ import annotations

from hypothesis import strategies as st

from knowledge_base.loaders.assembly import DocumentBuilder
from knowledge_base.loaders.limits import LoadLimits
from knowledge_base.records import ParsedDocument

words = st.text(alphabet="abcdefgXYZäß09.,:;!?()'-/§€日", min_size=1, max_size=12)
lines = st.lists(words, min_size=1, max_size=30).map(" ".join)
items = st.lists(lines.map("- {}".format), min_size=1, max_size=6).map("\n".join)
blocks = st.one_of(lines, items)
any_text = st.text(max_size=400)
"""Any text at all, controls and lone spaces included."""
prose = st.lists(blocks, max_size=6).map("\n\n".join)
"""Text as loaders write it."""


@st.composite
def parsed_documents(draw: st.DrawFn, *, with_pages: bool = False) -> ParsedDocument:
    """A document assembled of headings, blocks and, if asked for, pages."""
    builder = DocumentBuilder("any.md", LoadLimits())
    page = 0
    for kind in draw(st.lists(st.sampled_from(["heading", "block", "block", "page"]), max_size=12)):
        if kind == "heading":
            builder.add_heading(draw(st.integers(1, 4)), draw(words))
        elif kind == "block":
            builder.add_block(draw(blocks))
        elif with_pages:
            page += 1
            builder.start_page(page)
    return builder.finish(title="Any", media_type="text/markdown")
