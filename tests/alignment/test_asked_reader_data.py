"""A reader learns from questions whose evidence is ranked by an encoder that has not seen them."""

from __future__ import annotations

import gzip
import json
import lzma
from pathlib import Path

import pytest

from alignment.asked_examples import AskedExampleSettings
from alignment.asked_questions import sentence_name
from alignment.asked_reader_data import asked_reader_data
from alignment.corpus import is_held_out
from alignment.errors import TrainingError
from alignment.evidence_encoder_settings import is_held_out_page
from tests.fakes import FakeEmbedder

N_PAGES = 40
SETTINGS = AskedExampleSettings(styled_share=0.0, missed_share=0.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A corpus of forty pages."""
    (tmp_path / "text").mkdir()
    with lzma.open(tmp_path / "text" / "hb_gitlab.jsonl.xz", "wt", encoding="utf-8") as lines:
        for n in range(N_PAGES):
            text = f"# Topic {n}\n\nThe form of topic{n} is on paper. The office of topic{n} is upstairs."
            lines.write(json.dumps({"source": "hb_gitlab", "path": f"{n}.md", "text": text}) + "\n")
    return tmp_path


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    """A question about each of them, in their order."""
    path = tmp_path / "questions.jsonl.gz"
    with gzip.open(path, "wt", encoding="utf-8") as lines:
        for n in range(N_PAGES):
            right = [sentence_name(f"The form of topic{n} is on paper.")]
            lines.write(
                json.dumps({"page": f"{n}.md", "question": f"form of topic{n}?", "right": right}) + "\n"
            )
    return path


def test_pages_that_the_encoder_learned_from_are_left_out(folder: Path, questions: Path) -> None:
    """The first 25 but those held out from it; the rest is split by page."""
    data = asked_reader_data(
        folder, FakeEmbedder(), learned=25, settings=SETTINGS, held_out_share=0.3, questions=questions
    )

    names = [f"hb_gitlab/{n}.md" for n in range(N_PAGES)]
    usable = {name for n, name in enumerate(names) if n >= 25 or is_held_out_page(name)}
    held_out = {example.document for example in data.held_out}
    assert usable == {example.document for example in (*data.train, *data.held_out)}
    assert {name for name in usable if is_held_out(name, 0.3)} == held_out
    assert held_out.isdisjoint(example.document for example in data.train)


def test_nothing_left_to_learn_from_is_an_error(folder: Path, questions: Path, tmp_path: Path) -> None:
    """So is a folder without the corpus; both lines say what to do."""
    (tmp_path / "none").mkdir()
    with pytest.raises(TrainingError, match="set data_dir"):
        asked_reader_data(tmp_path / "none", FakeEmbedder(), learned=0, questions=questions)
    with pytest.raises(TrainingError, match="lower that"):
        asked_reader_data(folder, FakeEmbedder(), learned=N_PAGES, held_out_share=1.0, questions=questions)
