"""Those who write share their steps: everybody gets what they would get alone, whoever comes, goes or breaks."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import chatbot
from chatbot.errors import GenerationError
from chatbot.local_generator import LocalGenerator
from chatbot.prompt import Message, NumberedEvidence, build_messages
from chatbot.records import Completion, Sampling
from chatbot.settings import LocalGeneratorSettings
from chatbot.shared_steps import SharedSteps
from chatbot.turn_taking import TurnTaking
from chatbot.writing import Writing
from tests.chatbot.tiny_models import make_tiny_model

BASE_MODEL = Path(chatbot.__file__).parent / "base_model"
QUESTIONS = [
    [Message(role="user", content=text)]
    for text in ("How many days?", "Who signs my form, and when?", "Ask", "Where do I get leave from?")
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model."""
    return make_tiny_model(tmp_path_factory.mktemp("model"), "qwen2")


@pytest.fixture
def generator(folder: Path) -> LocalGenerator:
    """It, served with shared steps."""
    return LocalGenerator(str(folder), "base", LocalGeneratorSettings(dtype="float32"))


def engine_of(generator: LocalGenerator) -> SharedSteps:
    """What runs the model."""
    assert isinstance(generator._engine, SharedSteps)
    return generator._engine


def count_passes(generator: LocalGenerator, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that grows by the number of rows with every pass that advances them."""
    forward, passes = engine_of(generator)._forward, list[int]()
    advance = forward.advance

    def count(new: Any, rows: Any) -> Any:
        passes.append(len(rows))
        return advance(new, rows)

    monkeypatch.setattr(forward, "advance", count)
    return passes


def said(completions: list[Completion]) -> list[tuple[str, tuple[int, ...]]]:
    """What must be equal to the letter; log-probabilities differ in the last digits by who else is at the table."""
    return [(c.text, c.token_ids) for c in completions]


def stream(generator: LocalGenerator, question: list[Message], sampling: Sampling) -> Completion:
    """A whole stream."""
    deltas = list(generator.stream(question, sampling, threading.Event()))
    whole = deltas[-1].completion
    assert whole is not None
    assert whole.text == "".join(delta.text for delta in deltas)
    return whole


def test_it_writes_what_taking_turns_writes(folder: Path, generator: LocalGenerator) -> None:
    """Greedy or sampled, the tokens are those of transformers' own forward pass."""
    other = LocalGenerator(
        str(folder), "base", LocalGeneratorSettings(dtype="float32", engine="transformers")
    )
    assert isinstance(other._engine, TurnTaking)

    for sampling in (Sampling(max_new_tokens=20), Sampling(max_new_tokens=20, temperature=1.0, seed=4)):
        asked = [*QUESTIONS, QUESTIONS[0]]
        assert said(generator.generate(asked, sampling)) == said(other.generate(asked, sampling))


def test_many_at_once_write_what_each_writes_alone(generator: LocalGenerator) -> None:
    """Streams and batches on twelve threads, of different lengths and temperatures."""
    jobs = [
        (question, Sampling(max_new_tokens=6 + 5 * n, temperature=temperature, seed=n))
        for n, question in enumerate(QUESTIONS)
        for temperature in (0.0, 0.8, 1.3)
    ]
    alone = [generator.generate([question], sampling)[0] for question, sampling in jobs]

    with ThreadPoolExecutor(len(jobs)) as pool:
        together = list(
            pool.map(lambda n: stream(generator, *jobs[n]) if n % 2 else generator.generate([jobs[n][0]], jobs[n][1])[0], range(len(jobs)))
        )  # fmt: skip

    assert said(together) == said(alone)
    assert [c.logprob for c in together] == pytest.approx([c.logprob for c in alone], rel=1e-3)
    assert engine_of(generator)._seated == []


def test_who_shares_a_step_is_read_once(generator: LocalGenerator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four chats under way need as many passes as the longest of them, not as all together."""
    passes = count_passes(generator, monkeypatch)
    # Pulled in turn by one thread: each does the steps that the others then find done.
    open_streams = [
        generator.stream(question, Sampling(max_new_tokens=30, temperature=1.0, seed=n), threading.Event())
        for n, question in enumerate(QUESTIONS)
    ]
    n_tokens = []
    while open_streams:
        for one in list(open_streams):
            delta = next(one)
            if delta.completion is not None:
                n_tokens.append(len(delta.completion.token_ids))
                open_streams.remove(one)

    assert max(passes) == len(QUESTIONS)
    assert len(passes) <= max(n_tokens) + 2 * len(QUESTIONS) < sum(n_tokens)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_guesses_save_passes_and_change_nothing(
    generator: LocalGenerator, monkeypatch: pytest.MonkeyPatch, temperature: float
) -> None:
    """Guessed right, a completion needs a fraction of the passes; guessed wrong, as many as without; what is written is the same."""
    sampling = Sampling(max_new_tokens=24, temperature=temperature, seed=5)
    passes = count_passes(generator, monkeypatch)
    monkeypatch.setattr(Writing, "guesses", lambda writing, _: [[] for _ in writing.open_rows])
    expected = generator.generate(QUESTIONS, sampling)
    without = len(passes)

    def guess_with(offset: int) -> int:
        """Guess what will be said, or something else; returns the passes."""

        def guesses(writing: Writing, most: int) -> list[list[int]]:
            at = [(row, len(writing.completions()[row].token_ids)) for row in writing.open_rows]
            return [
                [max(token - offset, 0) for token in expected[row].token_ids[n : n + most]] for row, n in at
            ]

        passes.clear()
        monkeypatch.setattr(Writing, "guesses", guesses)
        assert said(generator.generate(QUESTIONS, sampling)) == said(expected)
        return len(passes)

    assert guess_with(0) <= without / 8
    assert guess_with(1) == without


def test_an_answer_that_quotes_needs_few_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded model says a sentence of its evidence, and the passes are a third of the tokens or fewer."""
    generator = LocalGenerator(str(BASE_MODEL), "base", LocalGeneratorSettings(dtype="float32"))
    passes = count_passes(generator, monkeypatch)
    evidence = [
        NumberedEvidence(number=n, heading="Leave", text=text)
        for n, text in enumerate(
            (
                "You may carry up to five unused days of annual leave into the next calendar year.",
                "Ask your manager before you book.",
            ),
            start=1,
        )
    ]

    (whole,) = generator.generate(
        [build_messages("How many days of annual leave may I carry over?", evidence)], Sampling(max_new_tokens=60)
    )  # fmt: skip

    assert "five unused days of annual leave" in whole.text
    assert len(passes) <= len(whole.token_ids) / 3


def test_a_stream_left_half_read_leaves_nothing_behind(generator: LocalGenerator) -> None:
    """Its rows are gone at the next step, and others write on undisturbed."""
    sampling = Sampling(max_new_tokens=40, temperature=1.0, seed=3)
    expected = generator.generate([QUESTIONS[1]], sampling)

    left = generator.stream(QUESTIONS[0], sampling, threading.Event())
    next(left)
    other = generator.stream(QUESTIONS[1], sampling, threading.Event())
    next(other)
    left.close()
    whole = list(other)[-1].completion

    assert whole is not None
    assert said([whole]) == said(expected)
    engine = engine_of(generator)
    assert (engine._seats, engine._seated) == ({}, [])


def test_a_stream_swept_up_by_the_thread_at_work_does_not_wait_for_itself(
    generator: LocalGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The garbage collector runs where it likes, in the middle of a step too."""
    engine = engine_of(generator)
    sampling = Sampling(max_new_tokens=12, temperature=1.0, seed=3)
    expected = generator.generate([QUESTIONS[1]], sampling)
    forgotten = generator.stream(QUESTIONS[0], sampling, threading.Event())
    next(forgotten)
    advance = engine._forward.advance

    def sweep(new: Any, rows: Any) -> Any:
        forgotten.close()
        return advance(new, rows)

    monkeypatch.setattr(engine._forward, "advance", sweep)
    done: list[list[Completion]] = []
    writer = threading.Thread(
        target=lambda: done.append(generator.generate([QUESTIONS[1]], sampling)), daemon=True
    )
    writer.start()
    writer.join(timeout=60)

    assert done, "the step waits for itself"
    assert said(done[0]) == said(expected)


def test_a_stopped_stream_tells_all_that_was_written(generator: LocalGenerator) -> None:
    """Others drive it on while its reader is slow; what it wrote meanwhile is still handed out, so pieces and text agree."""
    stop = threading.Event()
    slow = generator.stream(QUESTIONS[0], Sampling(max_new_tokens=60, temperature=1.0, seed=1), stop)
    deltas = [next(slow)]
    stream(generator, QUESTIONS[1], Sampling(max_new_tokens=20, temperature=1.0, seed=2))
    stop.set()
    deltas += list(slow)

    whole = deltas[-1].completion
    assert whole is not None
    assert whole.text == "".join(delta.text for delta in deltas)
    assert not whole.ended


def test_a_failed_pass_ends_those_in_it_and_nobody_else(
    generator: LocalGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everybody at the table gets one clear line; who comes afterwards is served."""
    engine = engine_of(generator)
    sampling = Sampling(max_new_tokens=20, temperature=1.0, seed=3)
    expected = generator.generate([QUESTIONS[2]], sampling)
    streams = [generator.stream(question, sampling, threading.Event()) for question in QUESTIONS[:2]]
    for one in streams:
        next(one)

    def fail(*_: Any) -> Any:
        raise RuntimeError("out of memory\nat length")

    with monkeypatch.context() as broken:
        broken.setattr(engine._forward, "advance", fail)
        for one in streams:
            with pytest.raises(GenerationError, match=r"policy base could not write: out of memory$"):
                list(one)

    assert said(generator.generate([QUESTIONS[2]], sampling)) == said(expected)


def test_a_newcomer_that_cannot_be_read_disturbs_nobody(
    generator: LocalGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed reading ends the newcomer alone."""
    engine = engine_of(generator)
    sampling = Sampling(max_new_tokens=20, temperature=1.0, seed=3)
    expected = generator.generate([QUESTIONS[0]], sampling)
    writing = generator.stream(QUESTIONS[0], sampling, threading.Event())
    next(writing)

    def fail(*_: Any) -> Any:
        raise RuntimeError("no room")

    with monkeypatch.context() as broken:
        broken.setattr(engine._forward, "read", fail)
        with pytest.raises(GenerationError, match="no room"):
            stream(generator, QUESTIONS[1], sampling)
    whole = list(writing)[-1].completion

    assert whole is not None
    assert said([whole]) == said(expected)


def test_a_crowd_waits_for_room(generator: LocalGenerator, monkeypatch: pytest.MonkeyPatch) -> None:
    """With more rows than the table holds, who comes later waits, and is right all the same."""
    monkeypatch.setattr("chatbot.shared_steps._MOST_ROWS", 2)
    sampling = Sampling(max_new_tokens=12)
    alone = [generator.generate([question], sampling)[0] for question in QUESTIONS]

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda question: stream(generator, question, sampling), QUESTIONS))

    assert said(together) == said(alone)
