"""Retrieval metrics and question files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from knowledge_base.database import Database
from knowledge_base.errors import UsageError
from knowledge_base.evaluation import (
    QuestionOutcome,
    evaluate_retrieval,
    fold,
    holds_evidence,
    ndcg,
    summarise,
)
from knowledge_base.questions import EvaluationQuestion, load_questions
from knowledge_base.records import Reader
from knowledge_base.store import KnowledgeStore
from tests.contracts import put
from tests.knowledge_base.test_retriever import make_retriever


def make_question(**fields: object) -> EvaluationQuestion:
    """An answerable question."""
    known: dict[str, object] = {
        "id": "q", "question": "How many days?", "answerable": True, "answer": "20", "document": "leave.md",
        "evidence": "Everybody gets twenty days of annual leave.", "key_facts": (),
    }  # fmt: skip
    return EvaluationQuestion(**(known | fields))  # type: ignore[arg-type]  # the test names the fields it changes


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("Check **civilian**, not _contractor_", "check civilian not contractor"),
        ("See [the guide](https://x.org/a_b) now", "see the guide now"),
        ("Join {% slack_channel 'admins' %} today", "join today"),
        ("| 5 | 50% | 16-20 hours |", "5 50 16 20 hours"),
        ("Wait&nbsp;30 days’ <br/> notice", "wait 30 days notice"),
        ("> 1. First\n> - then `code_name`", "1 first then code name"),
        ("Text{:target=_blank}{:.note} ends", "text ends"),
        ("Résumé", "resume"),
    ],
)
def test_folding_leaves_bare_words(raw: str, clean: str) -> None:
    """Markup of every kind goes; words stay."""
    assert clean == fold(raw)


def test_a_chunk_with_half_of_the_evidence_is_relevant() -> None:
    """The larger part of a sentence cut in two counts, the smaller does not."""
    evidence = "one two three four five six seven eight nine ten"

    assert holds_evidence("before one two three four five six", evidence)
    assert holds_evidence("six seven eight nine ten after", evidence)
    assert not holds_evidence("one two three four", evidence)


def test_scattered_common_words_are_no_evidence() -> None:
    """The same words in other company do not count."""
    assert not holds_evidence(
        "you can go to the office and in it the name of a person is by the door",
        "enter the name you go by in the field of the form that is in it",
    )


def test_ndcg_is_one_for_the_best_order_only() -> None:
    """And its ideal knows how many relevant chunks there are."""
    assert 1.0 == ndcg([1, 2], 2)
    assert pytest.approx(0.613, abs=1e-3) == ndcg([1], 2)
    assert 0.0 == ndcg([], 0)


def test_metrics_follow_their_definitions() -> None:
    """Ranks 1, 6 and none."""
    outcomes = [
        QuestionOutcome(question=make_question(), relevant_ranks=ranks, n_relevant=1)
        for ranks in ((1,), (6, 9), ())
    ]

    metrics = summarise(outcomes)

    assert pytest.approx((1 / 3, 1 / 3, 2 / 3)) == (
        metrics.recall_at_1,
        metrics.recall_at_5,
        metrics.recall_at_10,
    )
    assert pytest.approx((1 + 1 / 6) / 3) == metrics.mrr_at_10


def test_evaluation_counts_answerable_questions_only(sqlite_database: Database, operator: Reader) -> None:
    """With a real retriever over a real store."""
    store = KnowledgeStore(sqlite_database)
    store.create_collection("handbook")
    put(store, "handbook", "leave.md", ["Everybody gets twenty days of annual leave.", "Dogs are welcome."])
    questions = [
        make_question(question="How many days of annual leave?"),
        make_question(id="u", answerable=False),
    ]

    metrics = evaluate_retrieval(questions, make_retriever(store), store, operator)

    assert {
        "recall@1": 1.0,
        "recall@5": 1.0,
        "recall@10": 1.0,
        "mrr@10": 1.0,
        "ndcg@10": 1.0,
    } == metrics.as_dict()
    assert 1 == metrics.n


def test_questions_are_read_with_their_fields(tmp_path: Path) -> None:
    """Unanswerable ones need no answer; blank lines are skipped."""
    path = tmp_path / "q.jsonl"
    unanswerable = {
        "id": "2",
        "question": "Who?",
        "answerable": False,
        "answer": None,
        "evidence": None,
        "key_facts": [],
    }
    full = {"id": "1", "question": "When?", "answerable": True, "answer": "Now", "document": "a.md", "evidence": "Now.",
            "key_facts": ["now|today"]}  # fmt: skip
    path.write_text(f"{json.dumps(full)}\n\n{json.dumps(unanswerable)}\n", encoding="utf-8")

    first, second = load_questions(path)

    assert ("When?", ("now|today",)) == (first.question, first.key_facts)
    assert not second.answerable


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not valid JSON"),
        ("[1]", "line 2: a JSON object is expected, not list"),
        ('{"id": "2", "answerable": false}', "line 2: `question` must be"),
        ('{"id": "2", "question": "Who?", "answerable": true}', "line 2: `answer` must be"),
        ('{"id": "2", "question": "Who?", "answerable": "no"}', "`answerable` must be true or false"),
        ('{"id": "2", "question": "Who?", "answerable": false, "key_facts": [1]}', "`key_facts` must be"),
        ('{"id": "1", "question": "Who?", "answerable": false}', "two questions of id '1'"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    """With what is wrong about it."""
    path = tmp_path / "q.jsonl"
    path.write_text('{"id": "1", "question": "Who?", "answerable": false}\n' + line, encoding="utf-8")

    with pytest.raises(UsageError, match=r"q\.jsonl") as caught:
        load_questions(path)
    assert message in str(caught.value)


def test_a_missing_empty_or_binary_question_file_is_a_usage_error(tmp_path: Path) -> None:
    """Each with its own reason."""
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")

    for name, reason in (("nope", "cannot be read"), ("empty", "no questions"), ("binary", "not UTF-8")):
        with pytest.raises(UsageError, match=reason):
            load_questions(tmp_path / name)
