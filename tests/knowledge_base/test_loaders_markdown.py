"""Markdown as handbooks write it."""

from __future__ import annotations

import pytest
from hypothesis import given

from knowledge_base.loaders.limits import LoadLimits
from knowledge_base.loaders.liquid import drop_template_tags
from knowledge_base.loaders.markdown import load_markdown
from knowledge_base.records import ParsedDocument
from tests import strategies


def load(source: str, name: str = "page.md") -> ParsedDocument:
    """Parse Markdown text."""
    return load_markdown(source.encode("utf-8", "surrogatepass"), name, LoadLimits())


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("**Bold**, _slanted_ and `code` stay.", "Bold, slanted and code stay."),
        ("See [the form](https://example.com/f) &amp; ask&nbsp;us.", "See the form & ask us."),
        ("![](empty.png)![A map](map.png)", "(Image: A map)"),
        ("A\nwrapped\nline.", "A wrapped line."),
        ("Hard  \nbreak", "Hard\nbreak"),
        ("Take ~~10~~ 15 days.", "Take 15 days."),
        ("<!-- hidden -->Shown <b>here</b><br>and there", "Shown here\nand there"),
        ("Run `cp <file>` or <your-name> and <b>x</b>", "Run cp <file> or <your-name> and x"),
        ("[Write us](mailto:hr@example.com)", "Write us (hr@example.com)"),
        ("unpaired **bold stays readable", "unpaired bold stays readable"),
        ("2**3 is 8", "2**3 is 8"),
        ("Cited.[^1]\n\n[^1]: The note.", "Cited. (note 1)\n\nNote 1: The note."),
        ("```yaml\na: 1\n  b: {{ x }}\n```", "a: 1\n  b: {{ x }}"),
        ("<div>\nSee [it](/page) **now**\n</div>", "See it now"),
    ],
)
def test_markup_goes_and_text_stays(source: str, expected: str) -> None:
    """A reader of the text sees what a reader of the page sees."""
    assert expected == load(source).text


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('Ask {% slack_channel "admins-travel" %}.', "Ask #admins-travel."),
        ('[Leave]({% page "/leave/#sick days" %})', "[Leave](/leave/#sick%20days)"),
        ('{% image "a.png" "the map" %}', "![the map](a.png)"),
        ('{% image_with_class "a.png" "wide" "don\'t "click"" %}', '![don\'t "click"](a.png)'),
        ('{% include "banner.html" steps: 1 %}Text', "Text"),
        ("a{% comment %}TODO\nmore{% endcomment %}b", "ab"),
        ("{{ site.url }}/x {{ 'said' | upcase }}", "/x said"),
        ("Text\n{: .note}", "Text\n"),
        ("## Head {#anchor}", "## Head"),
        ("[[Leave policy]] and [[a/b|label]] [[_TOC_]]", "Leave policy and label "),
        ("{{< note >}}Mind this{{< /note >}}", "Mind this"),
        ("`{% raw_code %}` and `${{ secrets.X }}`", "`{% raw_code %}` and `${{ secrets.X }}`"),
        ("```\n{% include x %}\n```\n", "```\n{% include x %}\n```\n"),
        ("{% raw %}{{ shown }}{% endraw %}", "{{ shown }}"),
        ("[x](a)[[1]](b)", "[x](a)[[1]](b)"),
    ],
)
def test_template_tags_become_what_they_show(source: str, expected: str) -> None:
    """Pure tags go, visible arguments stay, code is left alone."""
    assert expected == drop_template_tags(source)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "opening", ["`", "{% ", "{% comment %}", '{% image "', "{{<", "{:", "[[", "{{ ", "~~~\n", " ", "<a "]
)
def test_openings_without_endings_do_not_take_for_ever(opening: str) -> None:
    """Time grows with the length of a page, not with its square."""
    load(opening * 20_000 + "x")


def test_deep_nesting_loses_no_text() -> None:
    """The parser's own limit would drop it silently."""
    assert (
        "deepest"
        in load("\n".join("  " * depth + "- x" for depth in range(15)) + "\n" + "  " * 15 + "- deepest").text
    )


def test_front_matter_gives_title_and_metadata() -> None:
    """Dates become text, since metadata must fit into JSON."""
    parsed = load("---\ntitle: Sick leave\ntags: [a, b]\napproved: 2026-01-02\n---\n# Rules\n\nRest.")

    assert "Sick leave" == parsed.title
    assert {"title": "Sick leave", "tags": ["a", "b"], "approved": "2026-01-02"} == parsed.metadata
    assert "Rules\n\nRest." == parsed.text


@pytest.mark.parametrize("block", ["a: [1", "a: &x 1\nb: *x"])
def test_bad_front_matter_does_not_cost_the_document(block: str) -> None:
    """The text is read, and the metadata says what was wrong."""
    parsed = load(f"---\n{block}\n---\nText")

    assert "Text" == parsed.text
    assert "front_matter_error" in parsed.metadata


def test_a_rule_at_the_top_is_no_front_matter() -> None:
    """Two rules around prose lose nothing."""
    assert "Just prose here" in load("---\nJust prose here\n---\nMore").text


@pytest.mark.parametrize(
    ("source", "title"),
    [
        ("# Travel\n\nx", "Travel"),
        ("x", "page"),
        ("---\ntitle: FAQ\nsubtitle: 'Travel:'\n---\nx", "Travel: FAQ"),
    ],
)
def test_the_title_is_the_best_that_there_is(source: str, title: str) -> None:
    """Front matter, then the first top heading, then the file's name."""
    assert title == load(source).title


def test_sections_follow_the_headings() -> None:
    """Heading paths nest; a top heading that is the title is not repeated in them."""
    parsed = load("Intro\n\n# Page\n\nA\n\n## Leave\n\nB\n\n### Sick\n\nC\n\n## Travel\n\nD")

    assert [(), (), ("Leave",), ("Leave", "Sick"), ("Travel",)] == [s.heading_path for s in parsed.sections]
    assert "Sick\n\nC" == parsed.text[parsed.sections[3].start : parsed.sections[3].end].strip()


def test_a_table_row_makes_sense_alone() -> None:
    """Each row carries the headers."""
    parsed = load("| Years | Days |\n|---|---|\n| 1 | **20** |\n| 5+ | 25<br>or 26 |\n")

    assert "Years: 1; Days: 20\nYears: 5+; Days: 25, or 26" == parsed.text


def test_a_table_without_headers_keeps_its_cells_apart() -> None:
    """Two cells read as label and value."""
    assert (
        "Where: Berlin\na | b | c"
        == load(
            "<table><tr><td>Where</td><td>Berlin</td></tr><tr><td>a</td><td>b</td><td>c</td></tr></table>"
        ).text
    )


def test_an_html_table_with_blank_lines_and_indentation_stays_one_table() -> None:
    """CommonMark alone would make code of it."""
    source = "<table>\n  <tr><th>A</th><th>B</th></tr>\n\n    <tr><td rowspan=2>1</td><td>2</td></tr>\n\n    <tr><td>3</td></tr>\n</table>"

    assert "A: 1; B: 2\nA: 1; B: 3" == load(source).text


def test_lists_keep_their_nesting_and_numbers() -> None:
    """Items are lines; what is inside an item is indented."""
    source = "3. Go\n   - left\n   - right\n4. Stop\n\n   Now.\n\n- [x](u) done"

    assert "3. Go\n  - left\n  - right\n4. Stop\n  Now.\n\n- x done" == load(source).text


def test_a_redirect_page_is_an_empty_document() -> None:
    """It has nothing to ingest, and nothing is wrong with it."""
    parsed = load("---\ntitle: Old\nredirect_to: /new\n---\n")

    assert ("Old", "", ()) == (parsed.title, parsed.text, parsed.sections)


@given(strategies.any_text | strategies.prose)
def test_sections_cover_whatever_text_comes_out(source: str) -> None:
    """Any input gives clean text with sections that cover it without gaps."""
    parsed = load(source)

    ends = [0, *(section.end for section in parsed.sections)]
    assert [section.start for section in parsed.sections] == ends[:-1]
    assert len(parsed.text) == ends[-1]
    assert not any(mark in parsed.text for mark in ("\x00", "\u200b", "\u00a0", "\r", "\ue000", "\ue001"))
