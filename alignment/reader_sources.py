"""Questions with the sentences that answer them, gathered from question sets and from the headings of documents.

Knows the file formats and nothing of prompts, numbering or targets (`alignment.reader_data` makes those). Differs from the usual
reading-comprehension set-up in its unit: the evidence is a sentence under its heading path, not a span in a paragraph.
"""

from __future__ import annotations

import gzip
import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignment.corpus import CorpusDocument, read_corpus
from alignment.question_phrasing import content_words, question_from_heading, question_from_statement
from knowledge_base import sentences as sentence_rules

_LIST_ITEM = re.compile(r"^\s*(?:[-*+•]|\d{1,2}[.)])\s+")
_HEADING = re.compile(r"^(#{1,6})\s+(.*?)\s*#*$")
_MARKUP = re.compile(r"\{[%{].*?[%}]\}|</?[a-zA-Z][^>]*>|\*\*|__|`|!?\[(?=[^\]]*\]\()|\]\([^)]*\)")
_SPACE = re.compile(r"\s+")
_LONGEST_SENTENCE = 320
_SHORTEST_SENTENCE = 18


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSentence:
    """A sentence that may become evidence."""

    heading: str
    """Title and heading path, `Leave > Sick leave`."""
    text: str
    """White space folded, markup gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceQuestion:
    """A question with what answers it and what merely stands near."""

    document: str
    """What it was made from; the unit of the split."""
    kind: str
    """Where it comes from, `heading`, `statement`, `squad`, ...; figures are reported by kind."""
    question: str
    right: tuple[SourceSentence, ...]
    """One to three sentences, in document order, that answer it; empty when nothing does."""
    near: tuple[SourceSentence, ...]
    """Other sentences of the same document, in document order."""
    short_answer: str = ""
    """The bare answer phrase, where the set gives one."""


def clean_sentence(text: str) -> str:
    """Fold white space and drop list markers and markup.

    >>> clean_sentence("- You get **25 days**  of [leave](leave.md).")
    'You get 25 days of leave.'
    """
    return _SPACE.sub(" ", _MARKUP.sub("", _LIST_ITEM.sub("", text))).strip()


def split_sentences(paragraph: str) -> list[str]:
    """The sentences of one paragraph or list item, cleaned; cut where serving cuts them.

    >>> split_sentences("Ask Dr. Lee first. Then sign, e.g. online.")
    ['Ask Dr. Lee first.', 'Then sign, e.g. online.']
    """
    return [span.text for span in sentence_rules.split_sentences(clean_sentence(paragraph))]


def is_usable(sentence: str) -> bool:
    """Whether a sentence is neither a fragment nor too long for a small context, and mostly words."""
    if not _SHORTEST_SENTENCE <= len(sentence) <= _LONGEST_SENTENCE:
        return False
    letters = sum(character.isalpha() or character == " " for character in sentence)
    return letters >= 0.8 * len(sentence) and not sentence.endswith(":")


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """The text under one heading of a page."""

    title: str
    headings: tuple[str, ...]
    """Below the title, outermost first."""
    sentences: tuple[str, ...]

    @property
    def path(self) -> str:
        """Title and headings joined by ` > `."""
        return " > ".join((self.title, *self.headings))


def read_sections(document: CorpusDocument) -> list[Section]:
    """Cut a Markdown page into sections of cleaned, usable sentences; tables are left out."""
    cutter = _PageCutter(document.path)
    for line in document.text.split("\n"):
        heading = _HEADING.match(line)
        if heading:
            cutter.open_section(len(heading[1]), clean_sentence(heading[2]))
        else:
            cutter.add_line(line)
    cutter.close_section()
    return cutter.sections


class _PageCutter:
    """Collects the lines of a page under the headings they stand below."""

    def __init__(self, path: str) -> None:
        self.sections: list[Section] = []
        self._fallback_title = _title_from_path(path)
        self._title = ""
        self._headings: dict[int, str] = {}
        self._paragraphs: list[str] = []

    def open_section(self, level: int, name: str) -> None:
        """Begin a section; the first heading of level 1 is the page's title."""
        self.close_section()
        self._headings = {known: text for known, text in self._headings.items() if known < level}
        if level == 1 and not self._title:
            self._title = name
        elif name and name != self._title:
            self._headings[level] = name

    def add_line(self, line: str) -> None:
        """Join hard-wrapped lines; start anew at empty lines, list items, quotes and tables."""
        stripped = line.strip().lstrip(">").strip()
        if not stripped or stripped.startswith("|"):
            self._paragraphs.append("")
        elif _LIST_ITEM.match(line) or not self._paragraphs or not self._paragraphs[-1]:
            self._paragraphs.append(stripped)
        else:
            self._paragraphs[-1] += f" {stripped}"

    def close_section(self) -> None:
        """Keep what was collected, if any of it is usable."""
        usable = tuple(s for p in self._paragraphs for s in split_sentences(p) if is_usable(s))
        self._paragraphs = []
        if usable:
            headings = tuple(self._headings[level] for level in sorted(self._headings))
            title = self._title or self._fallback_title
            self.sections.append(Section(title=title, headings=headings, sentences=usable))


def _title_from_path(path: str) -> str:
    stem = Path(path).stem
    name = Path(path).parent.name if stem in {"_index", "index", "README"} else stem
    return re.sub(r"[-_]+", " ", name).strip().capitalize()


def questions_from_pages(
    path: Path, rng: random.Random, *, page_share: float, statements_per_page: int
) -> Iterator[SourceQuestion]:
    """Questions made from the headings and the statements of a corpus of Markdown pages.

    Args:
        path: A `*.jsonl.xz` corpus.
        rng: Draws pages, phrasings and sentences.
        page_share: Share of the pages that is used.
        statements_per_page: At most so many questions a page that are made from a single sentence.
    """
    for document in read_corpus(path):
        if rng.random() >= page_share:
            continue
        sections = read_sections(document)
        key = f"{document.source}/{document.path}"
        page = [SourceSentence(heading=s.path, text=t) for s in sections for t in s.sentences]
        if len(page) < 4:
            continue
        for section in sections:
            made = _from_section(section, key, page, rng)
            if made:
                yield made
        for sentence in rng.sample(page, min(statements_per_page, len(page) // 3)):
            asked = question_from_statement(sentence.text, rng)
            if asked:
                near = tuple(other for other in page if other.text != sentence.text)
                yield SourceQuestion(
                    document=key, kind="statement", question=asked, right=(sentence,), near=near
                )


def _from_section(
    section: Section, key: str, page: Sequence[SourceSentence], rng: random.Random
) -> SourceQuestion | None:
    heading = section.headings[-1] if section.headings else section.title
    question = question_from_heading(heading, section.title, rng)
    if question is None or len(section.sentences[0].split()) < 5:
        return None
    right = tuple(SourceSentence(heading=section.path, text=text) for text in section.sentences[:3])
    # Later sentences of the same section might answer too: they are neither right nor wrong, so they are left out.
    near = tuple(other for other in page if other.heading != section.path)
    return SourceQuestion(document=key, kind="heading", question=question, right=right, near=near)


def questions_from_sets(folder: Path) -> Iterator[SourceQuestion]:
    """Questions of the published sets found under a folder: those that are missing are left out."""
    readers = {
        "qa_squad2dev": _read_squad,
        "qa_nqoracle": _read_natural_questions,
        "qa_covidqa": _read_covid,
        "qa_feedback": _read_feedback,
    }
    for name, reader in readers.items():
        if (folder / name / "qa.jsonl.gz").exists():
            yield from reader(folder / name)
    for name in ("qa_covidqa", "qa_daifaq"):
        if (folder / name / "faq.jsonl.gz").exists():
            yield from _read_faq(folder / name / "faq.jsonl.gz")


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def _read_squad(folder: Path) -> Iterator[SourceQuestion]:
    for row in _rows(folder / "qa.jsonl.gz"):
        title = row["title"].replace("_", " ")
        sentences = _under(title, row["context"])
        answer = row["answers"][0] if row["answers"] else ""
        if row["answerable"]:
            yield from _with_answer("squad", f"squad/{row['title']}", row["question"], sentences, answer)
        else:
            yield SourceQuestion(
                document=f"squad/{row['title']}",
                kind="squad",
                question=row["question"].strip(),
                right=(),
                near=tuple(sentences),
            )


def _read_natural_questions(folder: Path) -> Iterator[SourceQuestion]:
    for row in _rows(folder / "qa.jsonl.gz"):
        sentences = _under(row["title"], row["context"])
        yield from _with_answer("nq", f"nq/{row['title']}", row["question"], sentences, row["answers"][0])


def _read_covid(folder: Path) -> Iterator[SourceQuestion]:
    texts = {row["doc_id"]: row["text"] for row in _rows(folder / "docs.jsonl.gz")}
    for row in _rows(folder / "qa.jsonl.gz"):
        text, start = texts[row["doc_id"]], row["answer_starts"][0]
        title = text.split("\n", 1)[0][:90]
        around = text[max(0, start - 1800) : start + 1800]
        sentences = _under(title, around)[1:-1]  # the outermost are cut
        yield from _with_answer(
            "covid", f"covid/{row['doc_id']}", row["question"], sentences, row["answers"][0]
        )


def _read_feedback(folder: Path) -> Iterator[SourceQuestion]:
    for row in _rows(folder / "qa.jsonl.gz"):
        sentences = [s for context in row["contexts"] for s in _under(context["title"], context["text"])]
        answer_words = set(content_words(row["answers"][0]))
        overlaps = [_overlap(sentence.text, answer_words) for sentence in sentences]
        best = sorted(range(len(sentences)), key=lambda n: -overlaps[n])[:2]
        right = tuple(sentences[n] for n in sorted(best) if overlaps[n] >= 0.6)
        if right:
            near = tuple(s for n, s in enumerate(sentences) if overlaps[n] < 0.4)
            document = f"asqa/{row['contexts'][0]['title']}"
            yield SourceQuestion(
                document=document, kind="asqa", question=row["question"].strip(), right=right, near=near
            )


def _overlap(text: str, words: set[str]) -> float:
    """Share of a sentence's content words that are among `words`; short sentences count nothing."""
    own = set(content_words(text))
    return len(own & words) / len(own) if len(own) >= 4 else 0.0


def _read_faq(path: Path) -> Iterator[SourceQuestion]:
    rows = list(_rows(path))
    for number, row in enumerate(rows):
        right = tuple(_under(row["question"].strip(), row["answer"]))[:3]
        other = [rows[(number + step) % len(rows)] for step in range(1, 5)]
        near = tuple(s for faq in other for s in _under(faq["question"].strip(), faq["answer"])[:2])
        if right:
            # The heading of a FAQ is the question itself; asked word for word it would teach nothing but matching.
            bare = tuple(SourceSentence(heading="FAQ", text=sentence.text) for sentence in right)
            document = f"{path.parent.name}/faq-{number // 8}"
            yield SourceQuestion(
                document=document, kind="faq", question=row["question"].strip(), right=bare, near=near
            )


def _under(heading: str, text: str) -> list[SourceSentence]:
    sentences = [sentence for paragraph in text.split("\n") for sentence in split_sentences(paragraph)]
    return [SourceSentence(heading=heading, text=sentence) for sentence in sentences if is_usable(sentence)]


def _with_answer(
    kind: str, document: str, question: str, sentences: Sequence[SourceSentence], answer: str
) -> Iterator[SourceQuestion]:
    """The question with the sentence that holds the answer; nothing when no single sentence does."""
    wanted = _SPACE.sub(" ", answer).strip()
    holding = [sentence for sentence in sentences if wanted.lower() in sentence.text.lower()]
    if not holding or len(wanted) < 2:
        return
    words = set(content_words(question))
    right = max(holding, key=lambda sentence: len(words & set(content_words(sentence.text))))
    near = tuple(sentence for sentence in sentences if sentence not in holding)
    short = wanted.rstrip(".") if len(wanted) <= 60 and wanted != right.text else ""
    yield SourceQuestion(
        document=document, kind=kind, question=question.strip(), right=(right,), near=near, short_answer=short
    )
