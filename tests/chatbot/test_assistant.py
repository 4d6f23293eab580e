"""One turn: what is retrieved is cited, what is weak is refused, what is streamed ends in a grounded answer."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatbot.assistant import Assistant
from chatbot.evidence import EvidenceSelector
from chatbot.generator import GeneratorLoader
from chatbot.prompt import PROMPT_VERSION, REFUSAL, Message
from chatbot.records import Answer, Sampling
from chatbot.serving import ServingPolicies
from chatbot.settings import AbstentionSettings, AssistantSettings, LocalGeneratorSettings
from chatbot.turn_events import TextWritten, TurnFinished, TurnPrepared
from knowledge_base.errors import UsageError
from knowledge_base.records import Reader
from knowledge_base.sentence_vectors import SentenceVectors
from tests.chatbot.tiny_models import make_tiny_model
from tests.chatbot.turn_fakes import (
    FakeGenerator,
    FakeRegistry,
    FixedPolicies,
    FixedRetriever,
    make_passage,
    make_policy,
)
from tests.fakes import FakeEmbedder

ALICE = Reader(name="alice")
LEAVE = make_passage("You get 25 days of annual leave each year. Ask your manager before you book.", 1)
LUNCH = make_passage("Lunch is at noon in the hall.", 2, title="Food", heading="Canteen", similarity=0.2)
QUESTION = "How many days of annual leave do I get each year?"


def _assistant(*generators: FakeGenerator, **changes: Any) -> Assistant:
    retriever = changes.pop("retriever", FixedRetriever(LEAVE, LUNCH))
    policies = changes.pop("policies", FixedPolicies(*(generators or (FakeGenerator(),))))
    changes.setdefault("abstention", AbstentionSettings(threshold=0))
    return Assistant(
        retriever,
        EvidenceSelector(SentenceVectors(FakeEmbedder(256))),
        policies,
        changes.pop("settings", None),
        lambda: "index-7",
        **changes,
    )


def test_an_answer_carries_its_citation_and_lineage() -> None:
    """Text, citation, policy, prompt, completion, log-probability and versions are all there."""
    answer = _assistant(FakeGenerator("You get 25 days of annual leave [1].")).answer(QUESTION, ALICE)

    assert answer.text == "You get 25 days of annual leave. [1]"
    assert [(c.number, c.document, c.text) for c in answer.citations] == [
        (1, LEAVE.document, "You get 25 days of annual leave each year.")
    ]
    assert (answer.policy_id, answer.logprob, answer.abstained) == ("base", -1.0, False)
    assert answer.completion == "You get 25 days of annual leave [1]."
    assert "Leave > Annual leave\n1. You get 25 days of annual leave each year. [1]" in answer.prompt
    assert answer.prepared.versions == {
        "index": "index-7", "retriever": "fixed", "evidence": "fake/1", "prompt": PROMPT_VERSION,
    }  # fmt: skip
    assert answer.seconds >= (answer.seconds_to_first_token or 0) >= 0


def test_a_stream_tells_passages_then_text_then_the_answer() -> None:
    """First the prepared turn, then pieces with raw numbers, last the same answer as in one go."""
    words = "Lunch is at noon in the hall [2]. You get 25 days of annual leave [1]."

    events = list(_assistant(FakeGenerator(words)).stream(QUESTION, ALICE))

    assert isinstance(events[0], TurnPrepared)
    assert isinstance(events[-1], TurnFinished)
    assert "".join(e.text for e in events[1:-1] if isinstance(e, TextWritten)) == words
    answer = events[-1].answer
    other = _assistant(FakeGenerator(words)).answer(QUESTION, ALICE)
    assert (answer.text, answer.citations) == (other.text, other.citations)


def test_weak_evidence_is_refused_without_asking_the_model() -> None:
    """Below the threshold the refusal names the nearest documents and whom to ask, and the model writes nothing."""
    generator = FakeGenerator()
    assistant = _assistant(
        generator,
        abstention=AbstentionSettings(threshold=1.0),
        owners=lambda: {"company": "people@example.org"},
    )

    answer = assistant.answer("What is the boiling point of tungsten?", ALICE)

    assert answer.abstained
    assert answer.text == f"{REFUSAL} The nearest documents: Leave; Food. You could ask people@example.org."
    assert (answer.completion, answer.prompt, answer.citations) == ("", "", ())
    assert generator.prompts == []


def test_nothing_retrieved_is_a_plain_refusal() -> None:
    """With no passage there is no nearest document to name, and never an answer."""
    answer = _assistant(retriever=FixedRetriever()).answer(QUESTION, ALICE)

    assert answer.abstained
    assert answer.text == REFUSAL


def test_the_model_itself_may_refuse() -> None:
    """A completion that refuses is shown as the refusal, with lineage and without citations."""
    answer = _assistant(FakeGenerator(f"{REFUSAL} [1]")).answer(QUESTION, ALICE)

    assert answer.abstained
    assert answer.text.startswith(REFUSAL)
    assert answer.citations == ()
    assert answer.prompt


@pytest.mark.parametrize("question", ["", "  \n "])
def test_an_empty_question_is_wrong_usage(question: str) -> None:
    """Nothing to ask is told at once."""
    with pytest.raises(UsageError, match="the question is empty"):
        _assistant().stream(question, ALICE)


def test_a_huge_question_is_wrong_usage() -> None:
    """The message says how long it is, how long it may be, and what to do."""
    with pytest.raises(
        UsageError, match=r"the question has 100,000 characters; at most 4,000: put the text into a document"
    ):
        _assistant().answer("a" * 100_000, ALICE)


def test_a_question_that_fills_the_context_is_wrong_usage() -> None:
    """Short enough in characters, too long for this model: one line, not a crash in the engine."""
    with pytest.raises(UsageError, match="shorten it"):
        _assistant(FakeGenerator(context_tokens=300)).answer("why " * 200, ALICE)


@given(context=st.integers(260, 700), n_history=st.integers(0, 6), follow=st.booleans())
@settings(max_examples=40, deadline=None)
def test_prompt_and_answer_always_fit_the_context(context: int, n_history: int, follow: bool) -> None:
    """Whatever the model's context and the history: the prompt leaves room for the answer."""
    passages = [make_passage(f"Rule {i} says that you get {i} days of leave. " * 6, i) for i in range(1, 6)]
    generator = FakeGenerator(context_tokens=context)
    history = [
        Message(role=role, content="leave " * 30) for _ in range(n_history) for role in ("user", "assistant")
    ]  # type: ignore[arg-type]  # literals in a tuple

    prepared = _assistant(generator, retriever=FixedRetriever(*passages)).prepare(
        "And what about it?" if follow else QUESTION, ALICE, history=history
    )

    assert generator.count_tokens(generator.render(prepared.messages)) + 160 <= context


def test_a_follow_up_is_searched_and_asked_with_its_question() -> None:
    """The words "And in my first year?" take the earlier question along; the history is shown without its citation marks."""
    retriever = FixedRetriever(LEAVE)
    history = [
        Message(role="user", content=QUESTION),
        Message(role="assistant", content="You get 25 days [1]."),
    ]

    prepared = _assistant(retriever=retriever).prepare("And in my first year?", ALICE, history=history)

    assert retriever.questions == [f"And in my first year? {QUESTION}"]
    assert prepared.question == "And in my first year?"
    assert [m.content for m in prepared.messages[1:3]] == [QUESTION, "You get 25 days."]


def test_a_question_that_stands_alone_sees_no_history() -> None:
    """A new topic is searched for as typed."""
    history = [
        Message(role="user", content="Where is lunch?"),
        Message(role="assistant", content="In the hall."),
    ]

    prepared = _assistant().prepare(QUESTION, ALICE, history=history)

    assert prepared.search_text == QUESTION
    assert len(prepared.messages) == 2


def test_samples_differ_where_possible() -> None:
    """Repeats are asked again with other seeds; different answers come first."""
    generator = FakeGenerator(
        "You get 25 days of annual leave [1].",
        "You get 25 days of annual leave [1].",
        "Ask your manager before you book [2].",
        "You get 25 days each year [1].",
    )
    assistant = _assistant(generator)

    answers = assistant.sample(assistant.prepare(QUESTION, ALICE), 2, Sampling(temperature=0.9, seed=3))

    assert len({a.text for a in answers}) == 2
    first, second = generator.samplings[:2], generator.samplings[2:]
    assert [s.seed for s in first] == [3, 3]
    assert len({s.seed for s in second} - {3}) == 1


def test_of_several_turns_only_those_with_equal_answers_are_asked_again() -> None:
    """One batch for all, a second one for the turn that said the same twice."""
    generator = FakeGenerator(
        "You get 25 days of annual leave [1].",
        "Ask your manager before you book [2].",
        "You get 25 days of annual leave [1].",
        "You get 25 days of annual leave [1].",
        "You get 25 days each year [1].",
        "Ask your manager before you book [2].",
    )
    assistant = _assistant(generator)
    turns = [assistant.prepare(question, ALICE) for question in (QUESTION, f"{QUESTION} Please.")]

    answers = assistant.sample_many(turns, 2, Sampling(temperature=0.9, seed=3))

    assert [len({a.text for a in own}) for own in answers] == [2, 2]
    assert len(generator.samplings) == 6


def test_samples_repeat_when_the_model_has_one_thing_to_say() -> None:
    """Still n answers come back, with ids of their own."""
    assistant = _assistant()

    answers = assistant.sample(assistant.prepare(QUESTION, ALICE), 3)

    assert len(answers) == len({a.id for a in answers}) == 3
    assert {a.sampling for a in answers} == {AssistantSettings().varied_sampling()}


def test_another_policy_can_be_asked() -> None:
    """An id chooses who writes, and the answer says so."""
    assistant = _assistant(
        FakeGenerator(), FakeGenerator("Ask your manager before you book [1].", policy_id="ppo-1")
    )

    assert assistant.answer(QUESTION, ALICE, policy_id="ppo-1").policy_id == "ppo-1"
    assert assistant.answer(QUESTION, ALICE).policy_id == "base"


def test_a_promotion_during_a_stream_changes_only_the_next_turn() -> None:
    """The stream in progress ends under its own policy; the next answer comes from the promoted one, without a restart."""
    registry = FakeRegistry(make_policy("base"), make_policy("ppo-1"))
    policies = ServingPolicies(
        registry, lambda p: FakeGenerator("You get 25 days of annual leave [1].", policy_id=p.id)
    )
    assistant = _assistant(policies=policies)
    stream = assistant.stream(QUESTION, ALICE)
    begun = [next(stream), next(stream)]

    registry.promote("ppo-1")
    after = assistant.answer(QUESTION, ALICE)
    ended = list(stream)

    assert isinstance(begun[1], TextWritten)
    assert isinstance(ended[-1], TurnFinished)
    assert ended[-1].answer.policy_id == "base"
    assert after.policy_id == "ppo-1"


def test_stopping_keeps_what_was_written() -> None:
    """After `stop` the answer is made of the words written until then; stopped before the first, it is empty."""
    words = "You get 25 days of annual leave each year [1]. Ask your manager before you book [2]."
    stop = threading.Event()
    stream = _assistant(FakeGenerator(words)).stream(QUESTION, ALICE, stop=stop)
    for event in stream:
        if isinstance(event, TextWritten) and "leave" in event.text:
            stop.set()
            break
    last = list(stream)[-1]

    assert isinstance(last, TurnFinished)
    assert last.answer.text == "You get 25 days of annual leave [1]"
    stop.set()
    early = list(_assistant(FakeGenerator(words)).stream(QUESTION, ALICE, stop=stop))[-1]
    assert isinstance(early, TurnFinished)
    assert early.answer.text == ""


def test_finishing_the_same_completion_gives_the_same_answer() -> None:
    """An answer is a function of the prepared turn and the completion, but for its id and time."""
    generator = FakeGenerator("You get 25 days of annual leave [1].")
    assistant = _assistant(generator)
    prepared = assistant.prepare(QUESTION, ALICE)
    completion = generator.generate([prepared.messages], Sampling())[0]

    first, second = (assistant.finish(prepared, completion, generator, Sampling()) for _ in range(2))

    assert first == replace(second, id=first.id, created_at=first.created_at)


@pytest.fixture(scope="module", params=["llama", "qwen2", "gpt2"])
def real_assistant(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Assistant:
    """A turn over a real tiny model that writes noise."""
    folder: Path = make_tiny_model(tmp_path_factory.mktemp("policy"), request.param, context=1_024)
    loader = GeneratorLoader(LocalGeneratorSettings(dtype="float32"))
    return _assistant(
        policies=ServingPolicies(FakeRegistry(make_policy(path=str(folder))), loader),
        settings=AssistantSettings(max_new_tokens=24),
    )


def test_noise_of_a_real_model_still_ends_in_true_citations(real_assistant: Assistant) -> None:
    """Untrained models write nonsense: what is shown is nevertheless a quotation with its own citation."""
    prepared = real_assistant.prepare(QUESTION, ALICE)

    answers = [
        real_assistant.answer(QUESTION, ALICE),
        *real_assistant.sample(prepared, 3, Sampling(temperature=1.0, seed=1, max_new_tokens=24)),
    ]

    for answer in answers:
        _assert_citations_are_true(answer)
        assert answer.logprob is not None
        assert answer.grounding is not None
    assert len({a.completion for a in answers}) > 1


def _assert_citations_are_true(answer: Answer) -> None:
    shown = {int(n) for n in re.findall(r"\[(\d{1,2})\]", answer.text)}
    assert shown == {c.number for c in answer.citations}
    assert shown or answer.abstained
    passages = {p.chunk_id: p for p in answer.prepared.passages}
    for citation in answer.citations:
        assert " ".join(citation.text.split()) in " ".join(passages[citation.chunk_id].text.split())


class _FixedJudge:
    """Is always as sure as it was told to be, and remembers what it was shown."""

    version = "fixed-judge"

    def __init__(self, probability: float) -> None:
        self._probability = probability
        self.shown: Sequence[str] = ()

    def probability(self, question: str, sentences: Sequence[str]) -> float:
        self.shown = sentences
        return self._probability


@pytest.mark.parametrize(("probability", "refuses"), [(0.1, True), (0.9, False)])
def test_a_judge_decides_whether_the_model_is_asked(probability: float, refuses: bool) -> None:
    """From its own threshold on, whatever similarity says; its version is stored with the answer."""
    judge = _FixedJudge(probability)

    answer = _assistant(
        FakeGenerator("You get 25 days of annual leave [1]."),
        judge=judge,
        abstention=AbstentionSettings(judge_threshold=0.5),
    ).answer(QUESTION, ALICE)

    assert answer.abstained is refuses
    assert answer.prepared.support == probability
    assert answer.prepared.versions["judge"] == "fixed-judge"
    assert "Leave > Annual leave: You get 25 days of annual leave each year." in judge.shown
