"""The evidence encoder's training: the loss by hand, a killed run, and what comes out."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from alignment.encoder_pairs import EncoderPair
from alignment.errors import TrainingError
from alignment.evidence_encoder import (
    _export,
    _Run,
    collect,
    pairs_once,
    recall,
    replayed,
)
from alignment.evidence_encoder_settings import EncoderSettings
from alignment.reader_sources import SourceQuestion, SourceSentence
from alignment.text_encoder import TextEncoder, info_nce
from tests.alignment.tiny_bert import make_tiny_bert
from tests.fakes import FakeEmbedder

WORDS = ["who", "pays", "for", "trains", "dogs", "cats", "leave", "weeks", "six", "ten", *"abcdef"]
PAIRS = [
    EncoderPair(question=f"who {word}", right=(f"{word} pays for {word}",), look_alikes=(f"for {other}",))
    for word, other in zip(WORDS, [*WORDS[1:], WORDS[0]], strict=True)
]


@pytest.fixture
def start(tmp_path: Path) -> Path:
    """A BERT of a few thousand random weights, without dropout's help it learns in no time."""
    return make_tiny_bert(tmp_path / "start", WORDS)


def _settings(folder: Path, **changes: Any) -> EncoderSettings:
    defaults: dict[str, Any] = {
        "data_dir": folder, "work_dir": folder, "epochs": 2.0, "batch_questions": 4, "learning_rate": 1e-2,
        "warmup_steps": 2, "save_every_steps": 2,
    }  # fmt: skip
    return EncoderSettings(**(defaults | changes))


def test_the_loss_is_the_cross_entropy_of_scaled_cosines() -> None:
    """Two questions, three texts, worked out by hand; a text that is the right one said twice does not count."""
    questions = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    texts = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.8, 0.6]], dtype=torch.float64)
    nothing = torch.zeros(2, 3, dtype=torch.bool)
    first = -math.log(math.exp(2.0) / (math.exp(2.0) + math.exp(1.2) + math.exp(1.6)))
    second = -math.log(math.exp(1.6) / (math.exp(0.0) + math.exp(1.6) + math.exp(1.2)))

    assert info_nce(questions, texts, nothing, 2.0).item() == pytest.approx((first + second) / 2, abs=1e-9)

    same = nothing.clone()
    same[0, 2] = True
    without = -math.log(math.exp(2.0) / (math.exp(2.0) + math.exp(1.2)))
    assert info_nce(questions, texts, same, 2.0).item() == pytest.approx((without + second) / 2, abs=1e-9)


def test_a_killed_run_ends_with_the_same_weights(start: Path, tmp_path: Path) -> None:
    """From its newest checkpoint, dropout and all, bit for bit."""
    torch.manual_seed(3)
    whole = _Run(_settings(tmp_path / "whole"), PAIRS, start)
    assert whole.go(lambda _: None)

    torch.manual_seed(3)
    killed = _Run(_settings(tmp_path / "killed"), PAIRS, start)
    for number, batch in enumerate(killed._batches()):
        if number == 3:  # one step after the checkpoint: it is lost and done again
            break
        killed._update(batch)
        killed.step += 1
        if killed.step % 2 == 0:
            killed._save()
    resumed = _Run(_settings(tmp_path / "killed"), PAIRS, start)
    assert 2 == resumed.step
    assert resumed.go(lambda _: None)

    theirs = resumed.encoder.model.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in whole.encoder.model.state_dict().items())


def test_training_brings_answers_nearer_and_leaves_word_embeddings(start: Path, tmp_path: Path) -> None:
    """On the pairs themselves the loss falls; the exported file holds no word embeddings."""
    run = _Run(_settings(tmp_path / "work", epochs=20.0), PAIRS, start)
    words = run.encoder.model.get_input_embeddings().weight.clone()

    def loss() -> float:
        questions = run.encoder.encode([pair.question for pair in PAIRS], 32)
        texts = run.encoder.encode([pair.right[0] for pair in PAIRS], 32)
        return info_nce(questions, texts, torch.zeros(len(PAIRS), len(PAIRS), dtype=torch.bool), 20.0).item()

    before = loss()
    run.go(lambda _: None)

    assert loss() < before / 2
    assert torch.equal(words, run.encoder.model.get_input_embeddings().weight)
    from safetensors.torch import load_file

    exported = load_file(_export(run, _settings(tmp_path / "work"), {"pairs": len(PAIRS)}))
    assert "embeddings.word_embeddings.weight" not in exported
    assert {torch.bfloat16} == {value.dtype for value in exported.values()}
    assert len(PAIRS) == json.loads((tmp_path / "work" / "card.json").read_text())["pairs"]


def test_a_run_goes_on_from_tuned_weights(start: Path, tmp_path: Path) -> None:
    """What an earlier run exported is where the next one begins, but for the rounding to bfloat16; a resumed run goes on from its checkpoint."""
    earlier = _Run(_settings(tmp_path / "earlier"), PAIRS, start)
    earlier.go(lambda _: None)
    tuned = _export(earlier, _settings(tmp_path / "earlier"), {})

    later = _Run(_settings(tmp_path / "later", start=tuned), PAIRS, start)
    for name, value in earlier.model.state_dict().items():
        torch.testing.assert_close(later.model.state_dict()[name], value, atol=0.02, rtol=0.01)

    later.go(lambda _: None)
    resumed = _Run(_settings(tmp_path / "later", start=tuned), PAIRS, start)
    assert later.step == resumed.step
    assert all(
        torch.equal(value, resumed.model.state_dict()[name])
        for name, value in later.model.state_dict().items()
    )


def test_of_what_is_known_a_share_is_repeated_and_of_what_is_new_all(tmp_path: Path) -> None:
    """Known is what was asked of the pages of the first questions of the file."""
    known = "hb_gitlab/content/handbook/about/direction.md"
    sentence = SourceSentence(heading="h", text="t")
    questions = [
        SourceQuestion(document=known if n < 200 else "new.md", kind="asked", question=str(n), right=(sentence,), near=())
        for n in range(300)
    ]  # fmt: skip
    pairs = [
        EncoderPair(question=q.question, right=("t",), stretches=(), look_alikes=("u",), beside=())
        for q in questions
    ]
    settings = EncoderSettings(data_dir=tmp_path, work_dir=tmp_path, learned=1, replay_share=0.3)

    kept = [int(pair.question) for pair in replayed(pairs, questions, settings)]

    assert [n for n in kept if n >= 200] == list(range(200, 300))
    assert 30 < len([n for n in kept if n < 200]) < 90


def test_recall_counts_the_best_right_sentence(start: Path, tmp_path: Path) -> None:
    """Among all sentences of the held-out pages; unanswered questions are not counted."""
    run = _Run(_settings(tmp_path / "work"), PAIRS, start)
    sentences = [SourceSentence(heading="", text=f"{word} pays for {word}") for word in WORDS]
    questions = [
        SourceQuestion(
            document="p", kind="asked", question=sentence.text, right=(sentence,), near=tuple(sentences)
        )
        for sentence in sentences[:4]
    ]

    found = recall(TextEncoder(run.encoder.model, run.encoder.tokenizer), questions, _settings(tmp_path))

    assert 1.0 == found["recall@1"]  # each question is its answer to the letter
    assert {} == recall(run.encoder, [], _settings(tmp_path))


def test_pairs_are_made_once_for_a_folder_and_its_settings(tmp_path: Path) -> None:
    """A resumed run embeds nothing again; another seed does."""
    sentences = tuple(SourceSentence(heading="", text=f"{word} pays for {word}") for word in WORDS)
    questions = [
        SourceQuestion(
            document="p", kind="asked", question="who pays", right=sentences[:1], near=sentences[1:]
        )
    ]
    embedder = FakeEmbedder(64)

    pairs = pairs_once(questions, embedder, _settings(tmp_path))
    n_encoded = embedder.n_encoded

    assert pairs == pairs_once(questions, embedder, _settings(tmp_path))
    assert n_encoded == embedder.n_encoded
    pairs_once(questions, embedder, _settings(tmp_path, seed=1))
    assert n_encoded < embedder.n_encoded


def test_without_the_corpus_the_message_says_what_to_set(tmp_path: Path) -> None:
    """One line."""
    with pytest.raises(TrainingError, match="set data_dir"):
        collect(_settings(tmp_path))
