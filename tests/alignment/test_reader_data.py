from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignment.corpus import CorpusDocument, find_corpora, read_corpus
from alignment.errors import TrainingError
from alignment.page_sections import can_answer, clean_sentence, read_sections, split_sentences
from alignment.reader_data import build_reader_data
from alignment.reader_data_files import load_or_build_reader_data, write_as_corpus
from alignment.reader_evaluation import is_exact_copy
from alignment.reader_examples import ReaderData, ReaderDataSettings
from alignment.tokenizer import train_tokenizer
from chatbot.prompt import REFUSAL, cited_numbers
from tests.alignment.tiny_corpora import page, write_corpora, write_question_set


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pages and a question set."""
    folder = tmp_path_factory.mktemp("data")
    write_corpora(folder / "text", pages=40)
    return write_question_set(folder)


def settings_for(data_dir: Path) -> ReaderDataSettings:
    """A larger held-out part than usual, so that few documents fill both."""
    return ReaderDataSettings(data_dir=data_dir, held_out_share=0.25, history_share=0.3)


@pytest.fixture(scope="module")
def data(data_dir: Path) -> ReaderData:
    """Examples of every kind."""
    return build_reader_data(settings_for(data_dir))


def test_every_answer_copies_the_sentences_it_cites(data: ReaderData) -> None:
    """Each citation follows the evidence sentence of that number, word for word."""
    answered = [example for example in data.train + data.held_out if example.cited]

    assert len(answered) > 100
    assert all(is_exact_copy(example.completion, example) for example in answered)
    assert all(tuple(cited_numbers(example.completion)) == example.cited for example in answered)


def test_what_cites_nothing_refuses(data: ReaderData) -> None:
    """Refusals are the one fixed sentence, about as often as asked."""
    everything = data.train + data.held_out
    refusals = [example for example in everything if not example.cited]

    assert {example.completion for example in refusals} == {REFUSAL}
    assert 0.02 < len(refusals) / len(everything) < 0.15


def test_evidence_is_numbered_from_one_in_order(data: ReaderData) -> None:
    """The numbers are those that serving would give, never more than allowed."""
    for example in data.train:
        assert [item.number for item in example.evidence] == list(range(1, len(example.evidence) + 1))
        assert len(example.evidence) <= 8


def test_no_document_is_in_both_parts(data: ReaderData) -> None:
    """Questions and distractors alike: a held-out page's sentences are in no training prompt."""
    assert not {example.document for example in data.train} & {example.document for example in data.held_out}
    train, held_out = (
        {(s.heading, s.text) for e in part for s in e.evidence if ">" in s.heading}
        for part in (data.train, data.held_out)
    )
    assert not train & held_out


def test_the_same_settings_give_the_same_examples(data: ReaderData, data_dir: Path) -> None:
    """Everything is drawn from the seed."""
    assert data == build_reader_data(settings_for(data_dir))


def test_another_seed_gives_other_examples(data: ReaderData, data_dir: Path) -> None:
    """The seed decides order and phrasing."""
    assert data.train != build_reader_data(dataclasses.replace(settings_for(data_dir), seed=1)).train


def test_the_right_sentence_is_often_but_not_always_first(data: ReaderData) -> None:
    """As in serving: always citing [1] must not pay."""
    answered = [example for example in data.train if example.right]
    share = sum(1 in example.right for example in answered) / len(answered)

    assert 0.2 < share < 0.6


def test_an_answer_begins_with_a_right_sentence_and_may_go_on_with_others(data: ReaderData) -> None:
    """A short right sentence is followed by the best-ranked others, up to sixty words."""
    quotes = [example for example in data.train if example.style == "quote"]

    assert all(example.cited[0] in example.right for example in quotes)
    assert {1, 2, 3} == {len(example.cited) for example in quotes}
    assert all(len(example.completion.split()) <= 63 for example in quotes if len(example.cited) > 1)


def test_the_numbers_of_one_answer_are_all_different(data: ReaderData) -> None:
    """No sentence is quoted twice."""
    assert all(len(example.cited) == len(set(example.cited)) for example in data.train)


def test_answers_come_in_several_styles(data: ReaderData) -> None:
    """So that preferences have something to choose between."""
    assert {"quote", "lead_in", "polite", "short_answer", "refusal"} <= {e.style for e in data.train}


def test_echoes_quote_all_evidence_and_are_never_held_out(data_dir: Path) -> None:
    """Exercises for a model that cannot copy yet; figures are measured on real questions."""
    made = build_reader_data(dataclasses.replace(settings_for(data_dir), echo_share=0.5))
    echoes = [example for example in made.train if example.style == "echo"]

    assert 0.3 < len(echoes) / len(made.train) < 0.7
    assert all(len(example.cited) == len(example.evidence) for example in echoes)
    assert all(is_exact_copy(example.completion, example) for example in echoes)
    assert not any(example.style == "echo" for example in made.held_out)


def test_sessions_ask_several_questions_about_one_evidence(data: ReaderData) -> None:
    """Each further answer copies what it cites, and begins with a sentence that answers it; figures are measured without them."""
    sessions = [example for example in data.train if example.further]
    answers = [(example, asked) for example in sessions for asked in example.further if asked.right]

    assert 0.2 < len(sessions) / len(data.train) < 0.8
    assert all(is_exact_copy(asked.completion, example) for example, asked in answers)
    assert all(cited_numbers(asked.completion)[0] in asked.right for _, asked in answers)
    assert {REFUSAL} >= {a.completion for e in sessions for a in e.further if not a.right}
    assert not any(example.further for example in data.held_out)


def test_some_questions_follow_an_earlier_turn(data: ReaderData) -> None:
    """History comes before the question, without evidence."""
    followed = [example for example in data.train if example.history]

    assert followed
    assert [message.role for message in followed[0].messages] == ["system", "user", "assistant", "user"]


def test_a_folder_without_data_is_refused(tmp_path: Path) -> None:
    """An empty set of examples would train nothing."""
    with pytest.raises(TrainingError, match="data_dir"):
        build_reader_data(ReaderDataSettings(data_dir=tmp_path))


def test_examples_become_a_corpus_for_pretraining(data: ReaderData, tmp_path: Path) -> None:
    """Each is one document: a rendered chat that ends."""
    tokenizer = train_tokenizer([page(1)], vocabulary_size=300, max_tokens=512)
    write_as_corpus(data.train[:5], tokenizer, tmp_path / "reader.jsonl.xz")
    documents = list(read_corpus(find_corpora(tmp_path)[0]))

    assert len(documents) == 5
    assert all(d.text.startswith("<|begin|><|user|>") and d.text.endswith("<|end|>") for d in documents)


def test_examples_are_read_back_as_they_were_made(data: ReaderData, data_dir: Path, tmp_path: Path) -> None:
    """A resumed run trains on the same examples without making them again."""
    path = tmp_path / "examples.jsonl.gz"
    made = load_or_build_reader_data(settings_for(data_dir), path)
    written_at = path.stat().st_mtime_ns

    assert data == made == load_or_build_reader_data(settings_for(data_dir), path)
    assert written_at == path.stat().st_mtime_ns


def test_other_settings_make_the_examples_anew(data_dir: Path, tmp_path: Path) -> None:
    """A file made from other settings is never taken for these."""
    path = tmp_path / "examples.jsonl.gz"
    first = load_or_build_reader_data(settings_for(data_dir), path)
    other = load_or_build_reader_data(dataclasses.replace(settings_for(data_dir), seed=1), path)

    assert first.train != other.train


def test_sections_carry_their_heading_path() -> None:
    """Title, then headings, outermost first; tables are left out."""
    text = "# Leave\n\n## Sick leave\n\nTell your manager before nine.\n\n| a | b |\n\n### Notes\n\nBring a doctor's note after day three.\n"
    sections = read_sections(CorpusDocument(source="s", path="leave.md", text=text))

    assert ["Leave > Sick leave", "Leave > Sick leave > Notes"] == [section.path for section in sections]
    assert ("Tell your manager before nine.",) == sections[0].sentences


def test_wrapped_lines_are_one_sentence() -> None:
    """Hard line breaks inside a paragraph are white space."""
    text = "# A\n\nThe gate opens\nat nine on weekdays.\n- Bring your badge with you.\n"
    (section,) = read_sections(CorpusDocument(source="s", path="a.md", text=text))

    assert ("The gate opens at nine on weekdays.", "Bring your badge with you.") == section.sentences


@pytest.mark.parametrize(
    ("sentence", "says_enough"),
    [
        ("Report", False),
        ("The Last Man on Earth (TV series)", False),
        ("You get 25 days of paid leave a year.", True),
    ],
)
def test_titles_and_menu_items_are_no_answers(sentence: str, says_enough: bool) -> None:
    """They may be shown as evidence, never taught as targets."""
    assert can_answer(sentence) == says_enough


def test_markup_is_cleaned() -> None:
    """No link syntax, emphasis or template tags reach an answer."""
    assert clean_sentence("* See **the** [guide](a/b.md){% x %}.") == "See the guide."


@given(text=st.text(alphabet="ab. \n!?A1", max_size=60))
def test_splitting_loses_no_letters(text: str) -> None:
    """Only white space and list marks go."""
    joined = "".join(split_sentences(text))

    assert joined.replace(" ", "") == clean_sentence(text).replace(" ", "")
