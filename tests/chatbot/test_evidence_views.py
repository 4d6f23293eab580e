"""Views of a turn's evidence: the same sentences, or some of them, under numbers that lead back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chatbot.evidence_views import MOST_VIEWS, evidence_views
from chatbot.prompt import Message, NumberedEvidence, build_messages, read_evidence

SENTENCES = st.lists(
    st.tuples(
        st.sampled_from(["", "Leave", "Travel > Hotels"]), st.sampled_from(["Ask early.", "25 days.", "No."])
    ),
    max_size=12,
)


def _messages(sentences: list[tuple[str, str]]) -> list[Message]:
    numbered = [
        NumberedEvidence(number=n, heading=heading, text=f"{text} {n}")
        for n, (heading, text) in enumerate(sentences, start=1)
    ]
    return build_messages("How  many?", numbered, [Message(role="user", content="Before")])


@given(SENTENCES)
def test_each_number_of_a_view_leads_to_its_sentence(sentences: list[tuple[str, str]]) -> None:
    """Text and heading are those of the turn."""
    messages = _messages(sentences)
    original = {item.number: (item.heading, item.text) for item in read_evidence(messages[-1].content)}

    for view in evidence_views(messages):
        shown = {item.number: (item.heading, item.text) for item in read_evidence(view.messages[-1].content)}
        assert set(view.numbers) == set(shown)
        assert all(original[view.numbers[number]] == what for number, what in shown.items())


@given(SENTENCES)
def test_the_turn_itself_comes_first_and_no_view_twice(sentences: list[tuple[str, str]]) -> None:
    """So that equals leave the policy's own answer, and nothing is written for nothing."""
    messages = _messages(sentences)
    contents = [view.messages[-1].content for view in evidence_views(messages)]

    assert contents[0] == messages[-1].content
    assert len(set(contents)) == len(contents) <= MOST_VIEWS


def test_history_and_question_stay() -> None:
    """Only the evidence moves."""
    messages = _messages([("Leave", "Ask early."), ("Leave", "25 days.")])

    for view in evidence_views(messages):
        assert list(view.messages[:-1]) == messages[:-1]
        assert view.messages[-1].content.startswith("Question: How many?")


def test_six_sentences_have_eleven_views() -> None:
    """Each first; the first alone, two, three; the second and the third alone."""
    shown = [
        [item.text for item in read_evidence(view.messages[-1].content)]
        for view in evidence_views(_messages([("", "S")] * 6))
    ]

    assert [6] * 6 + [1, 2, 3, 1, 1] == list(map(len, shown))
    assert ["S 1", "S 2", "S 3", "S 4", "S 5", "S 6"] == [texts[0] for texts in shown[:6]]


def test_messages_of_another_make_have_one_view() -> None:
    """Themselves."""
    messages = [Message(role="user", content="Hi")]

    assert [tuple(messages)] == [tuple(view.messages) for view in evidence_views(messages)]
