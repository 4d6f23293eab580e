"""What has been said with its citation is not said again, and everything else passes as it was written."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import chatbot.writing
from chatbot.local_generator import LocalGenerator
from chatbot.prompt import Message
from chatbot.records import Completion, Sampling
from chatbot.repetition import UnrepeatedText
from chatbot.settings import LocalGeneratorSettings
from tests.chatbot.tiny_models import make_tiny_model

ASKED = [Message(role="user", content="How many days?")]


def _write(text: str, size: int = 3) -> tuple[str, bool]:
    """What is shown of a text that arrives in pieces, and whether it repeated itself."""
    unrepeated = UnrepeatedText()
    shown = [unrepeated.add(text[at : at + size]) for at in range(0, len(text), size)]
    return "".join([*shown, unrepeated.end()]), unrepeated.said_again


@pytest.mark.parametrize("size", [1, 3, 7, 100])
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Ask Ana. [1] Ask Ana. [1]", "Ask Ana. [1]"),
        ("Ask Ana. [1] Ask Ana. [2] Then wait. [3]", "Ask Ana. [1]"),
        ("Ask Ana [1]. Ask Ana [1]. Then wait.", "Ask Ana [1]"),
        ("Ask Ana. Then wait. [1][2] Ask Ana.\nThen wait. [1]", "Ask Ana. Then wait. [1][2]"),
        ("Ask Ana. [1] Ask Bo. [2] Ask Ana.", "Ask Ana. [1] Ask Bo. [2]"),
    ],
)
def test_the_second_time_is_left_out(text: str, shown: str, size: int) -> None:
    """Whatever it cites the second time, however the text arrives, and with or without a mark at its end."""
    assert shown == _write(text, size)[0]


@pytest.mark.parametrize("size", [1, 4, 100])
@pytest.mark.parametrize(
    "text",
    [
        "Ask Ana. [1] Ask Ana about leave. [1]",
        "Ask Ana. [1] [2] [3]",
        "Ask Ana. [1] Ask An",
        "You get 25 days [1] and, after ten years, 28 [2].",
        "No marks, no marks, no marks.",
        "",
    ],
)
def test_what_is_new_passes(text: str, size: int) -> None:
    """A longer sentence with the same beginning, marks in a row, a sentence cut short: all stay as they were written."""
    assert (text, False) == _write(text, size)


@given(
    st.lists(st.sampled_from(["Ask Ana.", "Ask Ana first.", " ", "[1]", "[", "]", "\n", "3", "é"])),
    st.integers(1, 9),
)
@example(["Ask Ana.", "[1]", "Ask Ana.", "[", "3"], 1)
def test_pieces_do_not_matter_and_nothing_is_made_up(parts: list[str], size: int) -> None:
    """In pieces of any size the same is shown: the beginning of what was written, all of it where nothing was repeated."""
    text = "".join(parts)

    shown, said_again = _write(text, size)

    assert (shown, said_again) == _write(text, 1)
    assert text.startswith(shown)


class _Dictated:
    """Draws the tokens of a text in place of the model's own."""

    ids: Sequence[int] = ()

    def __init__(self, *_: Any, **__: Any) -> None:
        self._n_written = defaultdict[int, int](int)

    def draw(self, _: Any, rows: Sequence[int]) -> tuple[list[int], list[float]]:
        """The next tokens of each row."""
        tokens = []
        for row in rows:
            tokens.append(self.ids[self._n_written[row]])
            self._n_written[row] += 1
        return tokens, [-0.5] * len(rows)

    def give_back(self, row: int, n: int) -> None:
        """They are dictated again."""
        self._n_written[row] -= n


@pytest.fixture
def generator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalGenerator:
    """A model that writes "Ask the office. [1]" three times and more."""
    made = LocalGenerator(
        str(make_tiny_model(tmp_path, "llama")), "base", LocalGeneratorSettings(dtype="float32")
    )
    monkeypatch.setattr(_Dictated, "ids", made.tokenizer("Ask the office. [1] " * 4)["input_ids"])
    monkeypatch.setattr(chatbot.writing, "TokenDrawer", _Dictated)
    return made


def test_a_model_that_repeats_itself_is_stopped_there(generator: LocalGenerator) -> None:
    """The text ends before the repetition; the model did not end it, and its tokens are told as it wrote them."""
    once, again = generator.generate([ASKED, ASKED], Sampling(max_new_tokens=200))

    assert once == again
    assert once.text == "Ask the office. [1]"
    assert not once.ended
    assert "Ask the office. [1] Ask the office. [1]" == generator.tokenizer.decode(once.token_ids)


def test_a_stream_never_shows_the_repetition(generator: LocalGenerator) -> None:
    """Not even for a moment: the pieces joined are the text."""
    deltas = list(generator.stream(ASKED, Sampling(max_new_tokens=200), threading.Event()))

    whole = deltas[-1].completion
    assert isinstance(whole, Completion)
    assert "Ask the office. [1]" == whole.text == "".join(delta.text for delta in deltas)
