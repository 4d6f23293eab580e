"""The answer judge's training: its lists, its loss by hand, a killed run, and that serving reads what comes out."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from alignment.answer_judge import JudgeRun, _export, draw_list, measure
from alignment.answer_judge_settings import JudgeSettings
from alignment.encoder_pairs import EncoderPair
from chatbot.answerability import PairJudge, log_sum_exp
from tests.alignment.tiny_bert import make_tiny_bert

WORDS = ["who", "pays", "for", "trains", "dogs", "cats", "leave", "weeks", "six", "ten"]
PAIRS = [
    EncoderPair(
        question=f"who pays {word}" if answered else f"who trains {word}",
        right=(f"six pays {word}",) if answered else (),
        look_alikes=("for leave weeks", "ten weeks"),
        beside=(f"{word} leave", f"for {word}"),
    )
    for word in ("dogs", "cats", "leave", "weeks")
    for answered in (True, False)
]


@pytest.fixture
def start(tmp_path: Path) -> Path:
    """A BERT of a few thousand random weights."""
    return make_tiny_bert(tmp_path / "start", WORDS)


def _settings(folder: Path, **changes: Any) -> JudgeSettings:
    defaults: dict[str, Any] = {
        "data_dir": folder, "work_dir": folder, "epochs": 4.0, "batch_questions": 4, "sentences": 4, "of_own_page": 2,
        "dropped_share": 0.0, "learning_rate": 1e-2, "warmup_steps": 2, "save_every_steps": 3,
    }  # fmt: skip
    return JudgeSettings(**(defaults | changes))


def test_a_list_holds_the_answer_first_and_wrong_sentences_of_both_kinds(tmp_path: Path) -> None:
    """As many as asked for; without an answer the place is that of none."""
    settings = _settings(tmp_path)

    texts, place = draw_list(PAIRS[0], settings, random.Random(1))
    assert 0 == place
    assert "six pays dogs" == texts[0]
    assert 4 == len(texts)
    assert {"dogs leave", "for dogs"} < set(texts)

    texts, place = draw_list(PAIRS[1], settings, random.Random(1))
    assert 4 == place == len(texts)
    assert {*PAIRS[1].beside, *PAIRS[1].look_alikes} == set(texts)


def test_a_dropped_answer_leaves_none(tmp_path: Path) -> None:
    """Then nothing of what answers is in the list."""
    texts, place = draw_list(PAIRS[0], _settings(tmp_path, dropped_share=0.999), random.Random(1))

    assert 4 == place
    assert "six pays dogs" not in texts


def test_a_short_list_is_filled_with_what_is_there(tmp_path: Path) -> None:
    """Never with what answers."""
    pair = EncoderPair(question="who", right=("six",), beside=("ten",))

    texts, place = draw_list(pair, _settings(tmp_path), random.Random(1))

    assert (["six", "ten", "ten", "ten"], 0) == (texts, place)


def test_the_loss_is_the_cross_entropy_over_sentences_and_none(start: Path, tmp_path: Path) -> None:
    """Worked out from the logits one by one."""
    settings = _settings(tmp_path)
    run = JudgeRun(settings, PAIRS, start)
    run.model.eval()

    found = float(run.loss(PAIRS[:2]).detach())

    rng, wanted = random.Random("0 draw 0"), []
    for pair in PAIRS[:2]:
        texts, place = draw_list(pair, settings, rng)
        logits = [float(run.logits([pair.question], [text]).detach()[0]) for text in texts] + [0.0]
        wanted.append(math.log(sum(map(math.exp, logits))) - logits[place])
    assert found == pytest.approx(sum(wanted) / 2, abs=1e-5)


def test_it_learns_and_serving_reads_what_it_learned(start: Path, tmp_path: Path) -> None:
    """The exported weights, laid over the same encoder, give the trained model's logits within bfloat16."""
    settings = _settings(tmp_path, epochs=40.0)
    run = JudgeRun(settings, PAIRS, start)
    with torch.no_grad():
        run.model.eval()
        before = measure(run, PAIRS)
        run.model.train()

    assert run.go(lambda _: None)
    after = measure(run, PAIRS)
    path = _export(run, settings, after)

    assert after["auc"] > max(0.9, before["auc"] - 0.01)
    assert after["first"] > 0.7
    judge = PairJudge(start, path)
    run.model.eval()
    for pair in PAIRS[:2]:
        texts = [*pair.right, *pair.beside]
        with torch.no_grad():
            trained = run.logits([pair.question] * len(texts), texts).tolist()
        served = judge.logits(pair.question, texts)
        assert served == pytest.approx(trained, abs=0.15)
        assert log_sum_exp(served) == pytest.approx(log_sum_exp(trained), abs=0.15)


def test_a_killed_run_ends_with_the_same_weights(start: Path, tmp_path: Path) -> None:
    """Encoder and head, from the newest checkpoint, bit for bit."""
    torch.manual_seed(3)
    whole = JudgeRun(_settings(tmp_path / "whole"), PAIRS, start)
    assert whole.go(lambda _: None)

    torch.manual_seed(3)
    broken = JudgeRun(_settings(tmp_path / "broken"), PAIRS, start)

    class _Killed(BaseException):
        pass

    def kill(_: list[EncoderPair]) -> float:
        raise _Killed

    update = broken._update
    steps = iter(range(5))
    broken._update = lambda batch: update(batch) if next(steps, None) is not None else kill([])  # type: ignore[method-assign,assignment]  # stands in for a power cut
    with pytest.raises(_Killed):
        broken.go(lambda _: None)
    resumed = JudgeRun(_settings(tmp_path / "broken"), PAIRS, start)
    assert 3 == resumed.step
    assert resumed.go(lambda _: None)

    for one, other in ((whole.model, resumed.model), (whole.head, resumed.head)):
        for name, value in one.state_dict().items():
            assert torch.equal(value, other.state_dict()[name]), name


@pytest.mark.parametrize(
    ("name", "value"), [("epochs", 0), ("sentences", 1), ("dropped_share", 1.0), ("batch_questions", 0)]
)
def test_settings_that_cannot_run_are_named(tmp_path: Path, name: str, value: float) -> None:
    """Before anything is loaded."""
    with pytest.raises(ValueError, match=name):
        _settings(tmp_path, **{name: value})
