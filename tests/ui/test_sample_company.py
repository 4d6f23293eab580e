"""The sample company is whole: its manifest, its documents and its questions agree with one another."""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import docx
import pypdfium2
import pytest
import trafilatura
import yaml

COMPANY = Path(__file__).parent.parent.parent / "ui" / "sample_company"
SUFFIXES = {".md", ".html", ".pdf", ".docx"}
LARGEST_BYTES = 60_000


def manifest() -> dict[str, Any]:
    """The parsed manifest."""
    return tomllib.loads((COMPANY / "company.toml").read_text(encoding="utf-8"))


def collections() -> list[str]:
    """Names of the collections."""
    return [collection["name"] for collection in manifest()["collections"]]


def documents() -> list[Path]:
    """Every document of every collection."""
    return sorted(path for name in collections() for path in (COMPANY / name).rglob("*") if path.is_file())


def questions() -> list[dict[str, Any]]:
    """The questions, in file order."""
    lines = (COMPANY / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def answerable() -> list[dict[str, Any]]:
    """The questions that a document answers."""
    return [question for question in questions() if question["answerable"]]


def document_path(question: dict[str, Any]) -> Path:
    """Where the document that answers a question lies."""
    return COMPANY.joinpath(question["collection"], question["document"])


def folded(text: str) -> str:
    """The text without markup (emphasis, table bars) and with white space folded."""
    return " ".join(text.replace("*", "").replace("|", " ").split())


def docx_text(path: Path) -> str:
    """Paragraphs and table rows of a Word document in reading order."""
    parts = []
    for item in docx.Document(str(path)).iter_inner_content():
        rows = getattr(item, "rows", None)
        parts += [item.text] if rows is None else [" ".join(cell.text for cell in row.cells) for row in rows]
    return "\n".join(parts)


def pdf_pages(path: Path) -> list[str]:
    """Text of each page of a PDF."""
    return [page.get_textpage().get_text_bounded() for page in pypdfium2.PdfDocument(path)]


@cache
def extracted(path: Path) -> str:
    """Text of a document as a loader sees it, folded."""
    if path.suffix == ".pdf":
        return folded(" ".join(pdf_pages(path)))
    if path.suffix == ".docx":
        return folded(docx_text(path))
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".html":
        text = trafilatura.extract(text, output_format="markdown", include_tables=True) or ""
    return folded(text)


def has_fact(text: str, fact: str) -> bool:
    """Whether the text contains one of the fact's alternatives, ignoring case."""
    return any(alternative.casefold() in text.casefold() for alternative in fact.split("|"))


def test_the_restricted_collections_name_the_groups_that_may_read() -> None:
    """Only the handbook is open to everyone."""
    groups = {collection["name"]: collection["groups"] for collection in manifest()["collections"]}

    assert {"company": ["everyone"], "hr-confidential": ["hr"], "finance-board": ["finance"]} == groups


def test_there_is_one_demo_account_for_each_role() -> None:
    """Employee, admin and ops, with distinct names; only the admin is in a group."""
    accounts = manifest()["accounts"]

    assert ["employee", "admin", "ops"] == [account["role"] for account in accounts]
    assert [[], ["hr"], []] == [account["groups"] for account in accounts]
    assert 3 == len({account["username"] for account in accounts})


def test_every_collection_names_whom_to_ask() -> None:
    """An answer that finds nothing can point to an owner."""
    for collection in manifest()["collections"]:
        assert collection["owner"]
        assert collection["owner_email"].endswith("@" + manifest()["company"]["email_domain"])


def test_all_four_kinds_of_documents_are_there() -> None:
    """The first ingest of a newcomer touches every loader."""
    kinds = Counter(path.suffix for path in documents())

    assert kinds.keys() == SUFFIXES
    for suffix, least in {".md": 26, ".html": 6, ".pdf": 4, ".docx": 4}.items():
        assert kinds[suffix] >= least, suffix


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_a_document_is_small_and_has_the_length_of_a_real_one(path: Path) -> None:
    """Between 300 and 1500 words; binary files stay small because they live in the repository."""
    assert 300 <= len(extracted(path).split()) <= 1500
    assert path.stat().st_size < LARGEST_BYTES


@pytest.mark.parametrize("path", sorted(COMPANY.rglob("*.md")), ids=lambda path: path.name)
def test_markdown_has_front_matter_and_its_links_lead_somewhere(path: Path) -> None:
    """Title and owner are named, and every relative link is a document of the same collection."""
    text = path.read_text(encoding="utf-8")
    _, front_matter, body = text.split("---\n", 2)
    facts = yaml.safe_load(front_matter)

    assert all(facts[name] for name in ("title", "owner", "last_reviewed"))
    for target in re.findall(r"\]\(([^)#]+)", body):
        assert (path.parent / target).is_file(), target


@pytest.mark.parametrize("path", sorted(COMPANY.rglob("*.html")), ids=lambda path: path.name)
def test_an_intranet_page_leaves_its_boilerplate_behind(path: Path) -> None:
    """The page has navigation and a footer, and its extracted text has neither."""
    source = path.read_text(encoding="utf-8")

    for boilerplate in (
        "Search Harbour",
        "Photo contest",
        "Accessibility",
        "Sign out",
        "Was this page helpful",
    ):
        assert boilerplate in source
        assert boilerplate not in extracted(path)


@pytest.mark.parametrize("path", sorted(COMPANY.rglob("*.pdf")), ids=lambda path: path.name)
def test_a_pdf_has_two_pages_or_more_with_text_of_their_own(path: Path) -> None:
    """Citations can name a page because pages differ."""
    pages = pdf_pages(path)

    assert len(pages) >= 2
    assert all(len(page.split()) > 100 for page in pages)
    assert len(set(pages)) == len(pages)


def test_there_are_sixty_questions_with_ids_of_their_own() -> None:
    """42 can be answered and 18 cannot."""
    assert [f"demo-{number:03}" for number in range(1, 61)] == [question["id"] for question in questions()]
    assert 60 == len({question["question"].casefold() for question in questions()})
    assert 42 == len(answerable())


def test_questions_reach_every_kind_and_the_restricted_collections() -> None:
    """Spread over documents, kinds and collections."""
    kinds = Counter(Path(question["document"]).suffix for question in answerable())
    restricted = [question for question in answerable() if question["collection"] != "company"]

    for suffix, least in {".pdf": 3, ".docx": 3, ".html": 4}.items():
        assert kinds[suffix] >= least, suffix
    assert len(restricted) >= 4
    assert {question["collection"] for question in questions()} == set(collections())


def test_every_document_is_asked_about() -> None:
    """No document is there for show only."""
    assert set(documents()) == {document_path(question) for question in answerable()}


@pytest.mark.parametrize("question", answerable(), ids=lambda question: question["id"])
def test_the_evidence_stands_verbatim_in_its_document(question: dict[str, Any]) -> None:
    """As one continuous phrase of the text that a loader extracts."""
    assert folded(question["evidence"]) in extracted(document_path(question))


@pytest.mark.parametrize("question", answerable(), ids=lambda question: question["id"])
def test_the_answer_has_all_its_key_facts(question: dict[str, Any]) -> None:
    """So an answer as good as the written one scores in full; each alternative is more than one character."""
    assert question["key_facts"]
    for fact in question["key_facts"]:
        assert has_fact(question["answer"], fact)
        assert all(len(alternative) > 1 for alternative in fact.split("|"))


@pytest.mark.parametrize("question", answerable(), ids=lambda question: question["id"])
def test_a_question_does_not_copy_its_evidence(question: dict[str, Any]) -> None:
    """No run of five words is shared, so that matching words is not enough."""
    words = re.findall(r"\w+", question["question"].casefold())
    evidence = " ".join(re.findall(r"\w+", question["evidence"].casefold()))

    assert not any(" ".join(words[i : i + 5]) in evidence for i in range(len(words) - 4))


def test_unanswerable_questions_name_no_document() -> None:
    """Nothing to find, nothing to expect."""
    for question in questions():
        if not question["answerable"]:
            assert question["answer"] is question["document"] is question["evidence"] is None
            assert [] == question["key_facts"]
