from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from alignment.errors import TrainingError
from alignment.reader import main, train_reader
from alignment.reader_batches import LengthBatches, ReaderSettings, encode_examples
from alignment.reader_data import build_reader_data
from alignment.reader_evaluation import count_figures, evaluate_reader, is_exact_copy
from alignment.reader_examples import FurtherQuestion, ReaderData, ReaderDataSettings, ReaderExample
from alignment.run_control import TrainingProgress
from alignment.tokenizer import train_tokenizer
from chatbot.prompt import REFUSAL, NumberedEvidence
from tests.alignment.tiny_corpora import page, write_corpora, write_question_set


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model with its tokenizer."""
    folder = tmp_path_factory.mktemp("start")
    tokenizer = train_tokenizer([page(n) for n in range(20)], vocabulary_size=600, max_tokens=512)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=512, tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> ReaderData:
    """Examples from tiny pages."""
    folder = tmp_path_factory.mktemp("data")
    write_corpora(folder / "text", pages=12)
    write_question_set(folder)
    return build_reader_data(ReaderDataSettings(data_dir=folder, held_out_share=0.2))


def tiny(start: Path, work_dir: Path, *, total_steps: int = 4, **changes: Any) -> ReaderSettings:
    """A run of a second, in float32 and uncompiled."""
    values: dict[str, Any] = {
        "start": start, "data_dir": Path("unused"), "work_dir": work_dir, "total_steps": total_steps, "warmup_steps": 1,
        "decay_steps": 2, "lengths": (256, 512), "micro_batch_tokens": 1024, "micro_batches": 2, "evaluation_examples": 12,
        "precision": "float32", "compile": False, "device": "cpu", "log_every_steps": 1,
    }  # fmt: skip
    return ReaderSettings(**(values | changes))


def example(*, cited: tuple[int, ...] = (2,), completion: str = "Leave is 25 days. [2]") -> ReaderExample:
    """Two sentences, the second right."""
    evidence = (
        NumberedEvidence(number=1, heading="Office", text="The office opens at nine."),
        NumberedEvidence(number=2, heading="Leave", text="Leave is 25 days."),
    )
    return ReaderExample(
        document="d", kind="k", style="quote", question="How much leave?", evidence=evidence, history=(),
        completion=completion, cited=cited, right=cited,
    )  # fmt: skip


def test_a_stopped_and_resumed_run_has_the_weights_of_an_uninterrupted_one(
    start: Path, data: ReaderData, tmp_path: Path
) -> None:
    """Bit for bit."""
    whole = train_reader(tiny(start, tmp_path / "whole"), data=data)

    def stop_after_second(progress: TrainingProgress) -> None:
        if progress.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    stopped = train_reader(tiny(start, tmp_path / "halves"), data=data, progress=stop_after_second)
    resumed = train_reader(tiny(start, tmp_path / "halves"), data=data)

    assert (stopped.step, stopped.finished, resumed.step) == (2, False, 4)
    expected = load_file(whole.checkpoint / "model.safetensors")
    found = load_file(resumed.checkpoint / "model.safetensors")
    assert all(torch.equal(expected[name], tensor) for name, tensor in found.items())


def test_training_lowers_the_answer_loss(start: Path, data: ReaderData, tmp_path: Path) -> None:
    """On questions of documents never trained on."""
    first = train_reader(tiny(start, tmp_path / "a", total_steps=3), data=data).answer_loss
    later = train_reader(tiny(start, tmp_path / "b", total_steps=25), data=data).answer_loss

    assert later < first - 0.3


def test_completion_tokens_weigh_one_and_context_less(start: Path, data: ReaderData, tmp_path: Path) -> None:
    """Padding weighs nothing and stands on the right."""
    tokenizer = AutoTokenizer.from_pretrained(start)
    batches = LengthBatches(data.train, tokenizer, tiny(start, tmp_path, context_weight=0.25))
    ids, weights = batches.micro_batch(0)

    assert set(weights.unique().tolist()) == {0.0, 0.25, 1.0, 3.0}
    assert (ids[weights == 0.0] == tokenizer.pad_token_id).all()
    assert all(row.nonzero().max() == (row > 0).sum() - 1 for row in weights)


def test_a_completion_ends_with_the_end_token(start: Path) -> None:
    """Else the model never stops."""
    tokenizer = AutoTokenizer.from_pretrained(start)
    ((_, completion),) = encode_examples([example()], tokenizer)

    assert completion[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(completion[:-1]) == " Leave is 25 days. [2]"


def test_further_questions_follow_in_the_same_chat(start: Path) -> None:
    """As a chat template writes them; questions and answers take turns, every answer ends."""
    tokenizer = AutoTokenizer.from_pretrained(start)
    asked = FurtherQuestion(
        question="When does it open?", completion="The office opens at nine. [1]", right=(1,)
    )
    (stretches,) = encode_examples([replace(example(), further=(asked, asked))], tokenizer)
    texts = [tokenizer.decode(ids) for ids in stretches]

    assert 6 == len(stretches)
    assert all(ids[-1] == tokenizer.eos_token_id for ids in stretches[1::2])
    assert texts[2] == texts[4] == "<|user|> Question: When does it open?<|assistant|>"
    assert texts[5] == " The office opens at nine. [1]<|end|>"


def test_the_tokens_that_decide_weigh_more(start: Path, tmp_path: Path) -> None:
    """The first of an answer, and the one after each citation."""
    tokenizer = AutoTokenizer.from_pretrained(start)
    batches = LengthBatches([example()], tokenizer, tiny(start, tmp_path, decision_weight=5.0))
    ids, weights = batches.micro_batch(0)
    heavy = tokenizer.convert_ids_to_tokens(ids[weights == 5.0].tolist())

    assert 2 == len(heavy)
    assert "<|end|>" == heavy[1]


def test_examples_that_fit_no_length_are_refused(start: Path, data: ReaderData, tmp_path: Path) -> None:
    """Nothing to train on is an error."""
    with pytest.raises(TrainingError, match="16 tokens"):
        train_reader(tiny(start, tmp_path, lengths=(8, 16)), data=data)


@pytest.mark.parametrize(
    ("completion", "is_copy"),
    [
        ("Leave is 25 days. [2]", True),
        ("Short answer: Leave is 25 days. [2] I hope that helps.", True),
        ("Leave is 25 days. [2] The office opens at nine. [1]", True),
        ("Leave is 26 days. [2]", False),
        ("Leave is 25 days. [1]", False),
        ("Leave is 25 days. [9]", False),
        ("Leave is 25 days.", False),
    ],
)
def test_a_copy_is_word_for_word_under_its_own_number(completion: str, is_copy: bool) -> None:
    """One changed digit or number is no copy."""
    assert is_exact_copy(completion, example()) == is_copy


def test_figures_count_what_they_say() -> None:
    """Four examples, one of each outcome."""
    examples = [
        example(),
        example(),
        example(cited=(), completion=REFUSAL),
        example(cited=(), completion=REFUSAL),
    ]
    figures = count_figures(examples, ["Leave is 25 days. [2]", REFUSAL, REFUSAL, "The office opens. [1]"])

    assert figures.right_answer_rate == 0.5
    assert figures.refusal_precision == 0.5
    assert figures.refusal_recall == 0.5
    assert figures.exact_copy_rate == 0.5
    assert figures.first_is_right_rate == 0.0


def test_a_model_is_evaluated_by_letting_it_write(start: Path, data: ReaderData) -> None:
    """Every example is answered, in batches, whatever the model is worth."""
    model = AutoModelForCausalLM.from_pretrained(start)
    figures = evaluate_reader(
        model, AutoTokenizer.from_pretrained(start), data.held_out[:5], batch_size=2, max_new_tokens=4
    )

    assert figures.n == 5
    assert figures.right_answer_rate == 0.0


def test_the_command_says_where_data_is_missing(
    start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1 and one line."""
    given = [f"start={start}", f"data_dir={tmp_path}", f"work_dir={tmp_path / 'work'}"]

    assert main([part for override in given for part in ("--set", override)]) == 1
    assert "data_dir" in capsys.readouterr().err
