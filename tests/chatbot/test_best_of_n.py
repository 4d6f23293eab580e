"""BestOfN gives the sample that a scorer prefers, the same each time, and leaves chance to those who ask for it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest

from alignment.optimiser_settings import BestOfNSettings
from chatbot.best_of_n import CHOICE_FILE, REWARD_FOLDER, BestOfN, Choice
from chatbot.errors import GenerationError
from chatbot.generator import GeneratorLoader
from chatbot.local_generator import LocalGenerator
from chatbot.prompt import Message, NumberedEvidence, build_messages, read_evidence
from chatbot.records import Completion, Sampling
from chatbot.settings import LocalGeneratorSettings
from tests.chatbot.tiny_models import make_tiny_model
from tests.chatbot.turn_fakes import make_policy

ASKED = [Message(role="user", content="How many days?")]
OTHER = [Message(role="user", content="Who gives out permits?")]
CHOICE = Choice(samples=5, temperature=2.0, min_p=0.0, views=False)
VIEWS = Choice(samples=0, temperature=2.0, min_p=0.0, views=True)
GREEDY = Sampling(max_new_tokens=12)


class _Scorer:
    """Prefers the last letter of the alphabet; remembers what it was asked."""

    def __init__(self, *, knows: bool = True) -> None:
        self.asked: list[tuple[str, list[str]]] = []
        self._knows = knows

    def score(self, messages: Sequence[Message], prompt: str, completions: Sequence[str]) -> list[float]:
        self.asked.append((prompt, list(completions)))
        return [float(max(map(ord, text), default=0)) if self._knows else 0.0 for text in completions]


@pytest.fixture(scope="module")
def inner(tmp_path_factory: pytest.TempPathFactory) -> LocalGenerator:
    """A tiny model."""
    folder = make_tiny_model(tmp_path_factory.mktemp("llama"), "llama")
    return LocalGenerator(str(folder), "ppo-1", LocalGeneratorSettings(dtype="float32", batch_size=2))


def _samples(inner: LocalGenerator) -> list[Completion]:
    return inner.generate([ASKED] * 5, replace(GREEDY, temperature=2.0, seed=0))


def test_the_best_sample_is_given(inner: LocalGenerator) -> None:
    """Of all that were drawn; each different text is scored once, under the prompt that the policy read."""
    scorer = _Scorer()
    texts = [sample.text for sample in _samples(inner)]

    given = BestOfN(inner, CHOICE, scorer).generate([ASKED], GREEDY)[0]

    assert len(set(texts)) > 1
    assert given.text == max(texts, key=lambda text: max(map(ord, text), default=0))
    assert scorer.asked == [(inner.render(ASKED), list(dict.fromkeys(texts)))]


def test_what_was_chosen_has_no_probability(inner: LocalGenerator) -> None:
    """That of its being written is not that of its being given."""
    assert BestOfN(inner, CHOICE, _Scorer()).generate([ASKED], GREEDY)[0].logprob is None


def test_equals_leave_the_first_sample(inner: LocalGenerator) -> None:
    """A scorer that knows nothing leaves plain sampling."""
    given = BestOfN(inner, CHOICE, _Scorer(knows=False)).generate([ASKED], GREEDY)[0]

    assert given.token_ids == _samples(inner)[0].token_ids


def test_a_question_gets_the_same_answer_again_alone_and_among_others(inner: LocalGenerator) -> None:
    """Greedy is asked for no chance, and other prompts of the call do not change the draws."""
    best = BestOfN(inner, CHOICE, _Scorer())

    alone = best.generate([ASKED], GREEDY)
    among = best.generate([OTHER, ASKED], GREEDY)

    assert [alone[0].text] == [among[1].text]
    assert among == best.generate([OTHER, ASKED], GREEDY)


def test_samples_to_compare_are_the_policys_own(inner: LocalGenerator) -> None:
    """At a temperature nothing is chosen: a reward that taught itself would learn nothing new."""
    scorer, sampling = _Scorer(), Sampling(temperature=1.0, seed=3, max_new_tokens=12)
    best = BestOfN(inner, CHOICE, scorer)

    assert best.generate([ASKED, ASKED], sampling) == inner.generate([ASKED, ASKED], sampling)
    assert list(best.stream(ASKED, sampling, threading.Event())) == list(
        inner.stream(ASKED, sampling, threading.Event())
    )
    assert not scorer.asked


def test_a_stream_hands_out_the_chosen_text(inner: LocalGenerator) -> None:
    """In one piece; the last delta carries the completion."""
    best = BestOfN(inner, CHOICE, _Scorer())
    pieces = list(best.stream(ASKED, GREEDY, threading.Event()))

    assert pieces[-1].completion == best.generate([ASKED], GREEDY)[0]
    assert "".join(piece.text for piece in pieces) == best.generate([ASKED], GREEDY)[0].text


def test_a_stopped_stream_ends_without_choosing(inner: LocalGenerator) -> None:
    """Nobody waits for it any more."""
    scorer, stop = _Scorer(), threading.Event()
    stop.set()

    last = list(BestOfN(inner, CHOICE, scorer).stream(ASKED, GREEDY, stop))[-1].completion

    assert last is not None
    assert not last.ended
    assert not scorer.asked


class _Quoting:
    """A model that quotes the first sentence it is shown."""

    policy_id, context_tokens, evidence_order = "ppo-1", 500, None

    def __init__(self) -> None:
        self.shown: list[list[str]] = []

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def render(self, messages: Sequence[Message]) -> str:
        return messages[-1].content

    def generate(
        self, prompts: Sequence[Sequence[Message]], sampling: Sampling, stop: threading.Event | None = None
    ) -> list[Completion]:
        evidence = [read_evidence(messages[-1].content) for messages in prompts]
        self.shown += [[item.text for item in items] for items in evidence]
        return [
            Completion(text=f"{items[0].text} [1]", token_ids=(7,), logprob=-1.0, ended=True)
            for items in evidence
        ]


def _asked(*texts: str) -> list[Message]:
    return build_messages(
        "How many?",
        [NumberedEvidence(number=n, heading="Leave", text=text) for n, text in enumerate(texts, start=1)],
    )


def test_the_best_view_is_given_in_the_numbers_of_the_turn() -> None:
    """The third sentence stood first, and is cited as the third."""
    given = BestOfN(_Quoting(), VIEWS, _Scorer()).generate([_asked("Ask.", "Be.", "Zzz.")], GREEDY)[0]  # type: ignore[arg-type]

    assert "Zzz. [3]" == given.text


def test_a_scorer_that_knows_nothing_leaves_the_policys_own_answer() -> None:
    """The turn as it is comes first."""
    given = BestOfN(_Quoting(), VIEWS, _Scorer(knows=False)).generate([_asked("Ask.", "Be.")], GREEDY)[0]  # type: ignore[arg-type]

    assert ("Ask. [1]", (7,)) == (given.text, given.token_ids)


@pytest.mark.parametrize(("margin", "given"), [(4.0, "Zzz. [2]"), (20.0, "Ask. [1]")])
def test_another_is_given_only_if_it_is_better_by_the_margin(margin: float, given: str) -> None:
    """In the scorer's eyes a z is worth seven more than an s; the policy's own answer is the one to beat."""
    best = BestOfN(_Quoting(), replace(VIEWS, margin=margin), _Scorer())  # type: ignore[arg-type]

    assert given == best.generate([_asked("Ask.", "Zzz.")], GREEDY)[0].text


def test_the_policys_own_answer_keeps_the_margin_when_a_view_repeats_it() -> None:
    """The first sentence alone makes the model write the same again, after all the others."""
    best = BestOfN(_Quoting(), replace(VIEWS, margin=20.0), _Scorer())  # type: ignore[arg-type]
    given = best.generate([_asked("Ask.", "Zzz.", "Be.", "So.")], GREEDY)[0]

    assert ("Ask. [1]", (7,)) == (given.text, given.token_ids)


def test_the_settings_of_training_reach_serving() -> None:
    """Every one of them."""
    chosen = BestOfNSettings(samples=3, views=False, margin=0.7, temperature=0.9, min_p=0.1)

    assert {f.name: getattr(chosen, f.name) for f in fields(chosen)} == asdict(chosen.choice())


def test_a_view_that_leaves_no_room_is_left_out() -> None:
    """Single sentences fit where another order, with more lines of headings, might not."""
    inner = _Quoting()
    long = _asked("word " * 200, "Be.", "Zzz.")
    inner.context_tokens = 300

    BestOfN(inner, VIEWS, _Scorer()).generate([long], Sampling(max_new_tokens=250))  # type: ignore[arg-type]

    assert [["Be."], ["Zzz."]] == inner.shown[1:]


def test_the_rest_is_the_wrapped_policys(inner: LocalGenerator) -> None:
    """Its id, its context, its tokens, its template."""
    best = BestOfN(inner, CHOICE, _Scorer())

    assert (best.policy_id, best.context_tokens, best.evidence_order) == (
        "ppo-1",
        inner.context_tokens,
        None,
    )
    assert best.count_tokens("a b c") == inner.count_tokens("a b c")
    assert best.render(ASKED) == inner.render(ASKED)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"samples": 1}, "samples=1"),
        ({"temperature": 0.0}, "temperature"),
        ({"min_p": 1.0}, "min_p"),
        ({"margin": -1.0}, "margin"),
    ],
)
def test_what_leaves_nothing_to_choose_is_refused(change: dict[str, float], named: str) -> None:
    """By name."""
    with pytest.raises(ValueError, match=named):
        Choice(**{"samples": 4, "temperature": 1.0, "min_p": 0.0, "views": False, **change})  # type: ignore[arg-type]


def _bundle(folder: Path) -> Path:
    make_tiny_model(folder, "llama")
    CHOICE.save(folder)
    return folder


def test_a_bundle_that_wants_it_is_served_so(tmp_path: Path) -> None:
    """The scorer is loaded from the bundle's own reward."""
    asked: list[Path] = []

    def load(directory: Path) -> _Scorer:
        asked.append(directory)
        return _Scorer()

    policy = make_policy("ppo-1", stage="ppo", path=str(_bundle(tmp_path)))
    loaded = GeneratorLoader(load_scorer=load)(policy)

    assert isinstance(loaded, BestOfN)
    assert asked == [tmp_path / REWARD_FOLDER]


def test_a_bundle_that_wants_it_is_not_served_without(tmp_path: Path) -> None:
    """Else it would answer otherwise than it was measured."""
    with pytest.raises(GenerationError, match="by a reward"):
        GeneratorLoader()(make_policy("ppo-1", stage="ppo", path=str(_bundle(tmp_path))))


def test_a_damaged_choice_is_named(tmp_path: Path) -> None:
    """With what to do."""
    (tmp_path / CHOICE_FILE).write_text('{"samples": 4}')

    with pytest.raises(GenerationError, match="train again, or roll back"):
        Choice.load(tmp_path)
