"""The chat page's handlers: turns, conversations, judgements, and that nobody reaches what is another's."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from chatbot.errors import FeedbackError
from chatbot.judgements import REASONS
from chatbot.records import User
from knowledge_base.errors import AccessDeniedError, NotFoundError, UsageError
from tests.ui.page_fakes import act, add_user, page_services
from ui import answer_view, chat_handlers, chat_turns
from ui.answer_text import render_answer_text
from ui.fragments import read_act
from ui.page_guard import UNEXPECTED, attempt, signed_in
from ui.wiring import Services

QUESTION = "How many days of annual leave does every employee get?"


@pytest.fixture
def amina(services: Services) -> User:
    """An employee in no group."""
    return add_user(services, "amina")


def ask(
    services: Services, user: User, question: str = QUESTION, conversation_id: str = ""
) -> list[chat_turns.TurnStep]:
    """A whole turn."""
    return list(chat_turns.ask(services, chat_turns.RunningTurns(), user, conversation_id, question))


def answer_id_of(services: Services, user: User, conversation_id: str) -> str:
    """The last answer of a conversation."""
    last = services.conversations.messages(user.id, conversation_id)[-1]
    assert last.answer_id is not None
    return last.answer_id


def test_a_question_starts_a_conversation_and_streams_to_a_stored_answer(
    services: Services, amina: User
) -> None:
    """Asked, written, done; the answer rests on the document."""
    steps = ask(services, amina)

    assert ["asked", "done"] == [steps[0].phase, steps[-1].phase]
    assert any(step.phase == "writing" and step.text for step in steps)
    answer = services.answers.get(answer_id_of(services, amina, steps[0].conversation_id), amina.id)
    assert answer.citations
    assert "leave.md" == answer.citations[0].document


def test_the_transcript_links_citations_to_the_cited_place(services: Services, amina: User) -> None:
    """The chip opens the viewer in a new tab."""
    conversation_id = ask(services, amina)[0].conversation_id

    shown = chat_handlers.show_conversation(services, amina, conversation_id)

    citation = services.answers.get(answer_id_of(services, amina, conversation_id)).citations[0]
    assert f"/documents/{citation.document_id}?start={citation.start}&amp;end={citation.end}" in shown
    assert "target='_blank'" in shown


def test_an_abstention_shows_the_nearest_documents_and_whom_to_ask(services: Services, amina: User) -> None:
    """No pretending."""
    conversation_id = ask(services, amina, "Zebra quantum flute?")[0].conversation_id

    shown = chat_handlers.show_conversation(services, amina, conversation_id)

    assert "I don&#x27;t know" in shown
    assert "You could ask People Operations" in shown
    assert "/documents/" in shown


def test_restricted_documents_stay_out_of_a_strangers_answer(services: Services, amina: User) -> None:
    """What only hr may read reaches hr alone."""
    heidi = add_user(services, "heidi", groups=["hr"])
    question = "What is the middle of pay band T3 per year?"

    for user, may_see in ((amina, False), (heidi, True)):
        conversation_id = ask(services, user, question)[0].conversation_id
        shown = chat_handlers.show_conversation(services, user, conversation_id)
        assert may_see == ("52000" in shown)


def test_another_persons_conversation_is_not_found(services: Services, amina: User) -> None:
    """A leaked id opens nothing, and says no more than one that never existed."""
    conversation_id = ask(services, amina)[0].conversation_id
    mallory = add_user(services, "mallory")

    with pytest.raises(NotFoundError):
        chat_handlers.show_conversation(services, mallory, conversation_id)
    with pytest.raises(NotFoundError):
        ask(services, mallory, conversation_id=conversation_id)
    with pytest.raises(NotFoundError):
        list(chat_turns.ask_again(services, chat_turns.RunningTurns(), mallory, conversation_id))


def test_another_persons_answer_cannot_be_judged(services: Services, amina: User) -> None:
    """Ratings are for those who were shown the answer."""
    answer_id = answer_id_of(services, amina, ask(services, amina)[0].conversation_id)
    mallory = add_user(services, "mallory")

    for name in ("rate", "ideal"):
        with pytest.raises(FeedbackError):
            chat_handlers.judge(services, mallory, act(name, answer=answer_id, label="up", text="mine"))


def test_a_rating_asks_for_reasons_and_comes_back_when_reopened(services: Services, amina: User) -> None:
    """Thumb, reasons, and the pressed thumb after a reload."""
    conversation_id = ask(services, amina)[0].conversation_id
    answer_id = answer_id_of(services, amina, conversation_id)

    panel, _ = chat_handlers.judge(services, amina, act("rate", answer=answer_id, label="down"))
    open_panel = chat_handlers.show_conversation(services, amina, conversation_id, panel)
    explained = act(
        "explain", answer=answer_id, label="down", reasons=["incomplete"], comment="no carry-over"
    )
    chat_handlers.judge(services, amina, explained)

    assert "What was wrong with it?" in open_panel
    reopened = chat_handlers.show_conversation(services, amina, conversation_id)
    assert "You said: incomplete" in reopened
    assert "no carry-over" in reopened
    assert "aria-pressed='true'" in reopened


def test_a_rating_can_be_taken_back(services: Services, amina: User) -> None:
    """Undo leaves no judgement that counts."""
    answer_id = answer_id_of(services, amina, ask(services, amina)[0].conversation_id)

    chat_handlers.judge(services, amina, act("rate", answer=answer_id, label="up"))
    chat_handlers.judge(services, amina, act("undo-rating", answer=answer_id))

    assert services.feedback.get(amina, "rating", answer_id) is None


def test_an_ideal_answer_is_kept_and_shown(services: Services, amina: User) -> None:
    """A demonstration in place of the answer."""
    conversation_id = ask(services, amina)[0].conversation_id
    answer_id = answer_id_of(services, amina, conversation_id)

    chat_handlers.judge(services, amina, act("ideal", answer=answer_id, text="You get 25 days [1]."))

    kept = services.feedback.get(amina, "demonstration", answer_id)
    assert kept is not None
    assert "You get 25 days [1]." == kept.answers[0].text
    assert "Your ideal answer" in chat_handlers.show_conversation(services, amina, conversation_id)


def test_answering_again_replaces_the_answer_in_sight(services: Services, amina: User) -> None:
    """One visible answer, the earlier one kept."""
    conversation_id = ask(services, amina)[0].conversation_id

    list(chat_turns.ask_again(services, chat_turns.RunningTurns(), amina, conversation_id))

    assert 2 == len(services.conversations.messages(amina.id, conversation_id))
    assert 3 == len(services.conversations.messages(amina.id, conversation_id, with_replaced=True))


def test_stopping_keeps_what_was_written(page_home: Path) -> None:
    """A stopped turn ends with the partial answer stored."""
    with page_services(page_home, delay_seconds=0.05) as services:
        amina, turns = add_user(services, "amina"), chat_turns.RunningTurns()
        steps = chat_turns.ask(services, turns, amina, "", QUESTION)
        conversation_id = next(steps).conversation_id
        next(step for step in steps if step.phase == "writing")

        assert turns.stop(amina.id, conversation_id)

        assert "done" == list(steps)[-1].phase
        assert services.conversations.messages(amina.id, conversation_id)[-1].role == "assistant"


def test_one_answer_at_a_time_in_a_conversation(services: Services, amina: User) -> None:
    """A second question while one is answered is refused, and the place is given back afterwards."""
    turns = chat_turns.RunningTurns()
    first = chat_turns.ask(services, turns, amina, "", QUESTION)
    conversation_id = next(first).conversation_id

    with pytest.raises(UsageError, match="being written"):
        next(chat_turns.ask(services, turns, amina, conversation_id, "Another?"))
    list(first)
    assert list(chat_turns.ask(services, turns, amina, conversation_id, "Another?"))


def test_a_stranger_cannot_stop_a_turn(services: Services, amina: User) -> None:
    """Stopping looks the person up too."""
    turns = chat_turns.RunningTurns()
    conversation_id = next(chat_turns.ask(services, turns, amina, "", QUESTION)).conversation_id

    assert not turns.stop("somebody-else", conversation_id)


def test_a_failed_turn_keeps_the_question_and_offers_another_try(services: Services, amina: User) -> None:
    """The typed text survives; trying again answers it."""
    whole, services.__dict__["assistant"] = services.assistant, _BrokenAssistant()
    steps = chat_turns.ask(services, chat_turns.RunningTurns(), amina, "", QUESTION)
    conversation_id = next(steps).conversation_id
    with pytest.raises(RuntimeError):
        list(steps)
    assert "Try again" in chat_handlers.show_conversation(services, amina, conversation_id)

    services.__dict__["assistant"] = whole
    list(chat_turns.ask_again(services, chat_turns.RunningTurns(), amina, conversation_id))

    assert ["user", "assistant"] == [
        m.role for m in services.conversations.messages(amina.id, conversation_id)
    ]


class _BrokenAssistant:
    def stream(self, *_: object, **__: object) -> Iterator[object]:
        """Fails as a crashed model would."""
        raise RuntimeError("secret path /srv/model")


@pytest.mark.parametrize("question", ["", "   ", "x" * 100_000])
def test_an_impossible_question_is_refused_before_anything_is_stored(
    services: Services, amina: User, question: str
) -> None:
    """Empty or far too long."""
    with pytest.raises(UsageError):
        ask(services, amina, question)
    assert not services.conversations.list(amina.id)


def test_an_unexpected_failure_shows_a_friendly_line_only() -> None:
    """No traceback, no inner words."""

    def fail() -> None:
        raise RuntimeError("secret path /srv/model")

    _, shown = attempt(fail)

    assert UNEXPECTED in shown
    assert "secret" not in shown


def test_a_disabled_or_unknown_person_is_refused(services: Services, amina: User) -> None:
    """The session alone is not enough."""
    services.accounts.disable(amina.id)

    with pytest.raises(AccessDeniedError):
        signed_in(services, "amina")
    with pytest.raises(AccessDeniedError):
        signed_in(services, None)
    with pytest.raises(NotFoundError):
        signed_in(services, "nobody")


@pytest.mark.parametrize(
    "text",
    [
        "<img src=http://evil.example/x>",
        "![x](http://evil.example/x)",
        "[click](http://evil.example)",
        "<http://evil.example>",
        "<script>alert(1)</script>",
        "![x][1]\n\n[1]: http://evil.example",
        "<a href='javascript:alert(1)'>x</a>",
        "<svg onload=alert(1)>",
        "```\n</code><img src=x onerror=alert(1)>\n```",
    ],
)
def test_text_of_models_and_documents_makes_no_markup(text: str) -> None:
    """No image, link, script or handler comes out, whatever goes in."""
    found = _Tags()
    found.feed(render_answer_text(text))

    assert found.tags <= {"p", "br", "pre", "code", "span"}
    assert set(found.attributes) <= {"class"}


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note tag and attributes."""
        self.tags.add(tag)
        self.attributes += [name for name, _ in attrs]


def test_titles_and_questions_are_escaped(services: Services, amina: User) -> None:
    """A title is data."""
    conversation_id = ask(services, amina, "<img src=x onerror=alert(1)> leave?")[0].conversation_id

    side = chat_handlers.show_side(services, amina, conversation_id)
    shown = chat_handlers.show_conversation(services, amina, conversation_id)

    assert "<img" not in side + shown


def test_reasons_on_the_page_are_those_the_store_takes() -> None:
    """No tick that would be refused."""
    offered = (*answer_view.GOOD_REASONS, *answer_view.ABSTAINED_REASONS, *answer_view.BAD_REASONS)

    assert set(REASONS) == set(offered)


@pytest.mark.parametrize(
    ("name", "fields"), [(None, {}), ("ask", None), ("ask", {"question": "x"}), ("ask", {"q": [1]})]
)
def test_a_malformed_act_is_refused(name: object, fields: object) -> None:
    """What a program might send instead of the page."""
    with pytest.raises(UsageError):
        read_act(name, fields)


def test_stopping_ends_a_turn_from_another_thread(page_home: Path) -> None:
    """The stop button's request runs beside the stream."""
    with page_services(page_home, delay_seconds=0.05) as services:
        amina, turns = add_user(services, "amina"), chat_turns.RunningTurns()
        steps = chat_turns.ask(services, turns, amina, "", QUESTION)
        conversation_id = next(steps).conversation_id
        threading.Timer(0.1, lambda: turns.stop(amina.id, conversation_id)).start()

        words = [step.text for step in steps if step.phase == "writing"]

        assert all(len(text.split()) < 9 for text in words)
