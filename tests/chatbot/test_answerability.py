"""The answer judge: sums of exponentials by hand, the shipped weights on real sentences, and files that are no weights."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatbot.answerability import PairJudge, log_sum_exp, sigmoid
from chatbot.errors import JudgeError
from knowledge_base.embedder import SentenceTransformerEmbedder
from ui.parts import ANSWER_JUDGE

SICK = [
    "Leave > Sick leave: You are paid in full for the first six weeks of an illness.",
    "Leave > Sick leave: Tell your manager on the first morning.",
    "Leave > Sick leave: From the fourth day on a doctor's note is needed.",
]


@pytest.fixture(scope="module")
def judge() -> PairJudge:
    """The shipped one."""
    return PairJudge(SentenceTransformerEmbedder().directory, ANSWER_JUDGE)


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=20))
def test_the_log_of_summed_exponentials_is_exact(logits: list[float]) -> None:
    """As the sum itself where that does not overflow."""
    assert log_sum_exp(logits) == pytest.approx(math.log(sum(map(math.exp, logits))), abs=1e-9)


def test_extremes_do_not_overflow() -> None:
    """Neither a thousand nor nothing."""
    assert 1000.0 == log_sum_exp([1000.0, -1000.0])
    assert -math.inf == log_sum_exp([])
    assert (0.0, 1.0) == (sigmoid(-1000.0), sigmoid(1000.0))


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("how long do I get paid if I fall ill?", 0),
        ("who do I tell when I'm sick?", 1),
        ("when do I have to bring a doctor's note?", 2),
    ],
)
def test_what_answers_is_likelier_than_its_neighbours(judge: PairJudge, question: str, answer: int) -> None:
    """The shipped weights read: same topic, same heading, and only one sentence answers."""
    logits = judge.logits(question, SICK)

    assert answer == logits.index(max(logits))


def test_a_logit_does_not_depend_on_its_neighbours(judge: PairJudge) -> None:
    """Padding and batches change digits that nobody sees."""
    question = "when do I have to bring a doctor's note?"
    alone = [judge.logits(question, [sentence])[0] for sentence in SICK]

    together = judge.logits(question, [*SICK, "Long: " + "and so on " * 60] * 12)

    assert together[:3] == pytest.approx(alone, abs=1e-3)
    assert together[-4:-1] == pytest.approx(alone, abs=1e-3)


def test_without_sentences_nothing_is_answered(judge: PairJudge) -> None:
    """And nothing is loaded for it."""
    assert 0.0 == judge.probability("when?", [])


def test_a_question_longer_than_the_model_reads_is_cut(judge: PairJudge) -> None:
    """Not an error: the sentence stays in sight."""
    assert 0.0 <= judge.probability("why " * 2000, SICK) <= 1.0


def test_a_missing_or_damaged_file_is_named_in_one_line(tmp_path: Path) -> None:
    """With what to do about it."""
    encoder = SentenceTransformerEmbedder().directory
    damaged = tmp_path / "model.safetensors"
    damaged.write_bytes(b"no weights")

    for path in (tmp_path / "nothing.safetensors", damaged):
        with pytest.raises(JudgeError, match="install Tacit again") as caught:
            PairJudge(encoder, path).probability("when?", SICK)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("without", ["head.out.bias", "encoder.layer.3.output.dense.weight"])
def test_incomplete_weights_are_refused(tmp_path: Path, without: str) -> None:
    """Half a model would judge at random."""
    from safetensors.torch import load_file, save_file

    weights = load_file(ANSWER_JUDGE)
    del weights[without]
    save_file(weights, tmp_path / "model.safetensors")

    with pytest.raises(JudgeError, match="install Tacit again"):
        PairJudge(SentenceTransformerEmbedder().directory, tmp_path / "model.safetensors").probability(
            "when?", SICK
        )
