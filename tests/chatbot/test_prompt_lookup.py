"""A guess is what stood after the newest tokens before, and nothing else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chatbot.prompt_lookup import PromptLookup

TOKENS = st.lists(st.integers(0, 4), max_size=40)


def last_continuation(ids: list[int], most: int) -> list[int]:
    """The same by looking at every place: three tokens of context if they stood there before, else two."""
    for size in (3, 2):
        places = [
            end for end in range(size, len(ids)) if ids[end - size : end] == ids[-size:] and len(ids) >= size
        ]
        if places:
            return ids[places[-1] : places[-1] + most]
    return []


@given(TOKENS, TOKENS, st.integers(0, 6))
def test_a_guess_is_what_followed_the_last_time(prompt: list[int], completion: list[int], most: int) -> None:
    """Whether the tokens came with the prompt or one by one."""
    text = PromptLookup(prompt)
    for token in completion:
        text.add(token)

    assert text.guess(most) == last_continuation(prompt + completion, most)


def test_no_room_no_guess() -> None:
    """A row that may get one more token has nothing to guess."""
    assert PromptLookup([1, 2, 3, 1, 2]).guess(-1) == []


def test_a_longer_context_counts_more_than_a_later_place() -> None:
    """Three tokens that stood there before say more than two."""
    assert PromptLookup([7, 1, 2, 30, 8, 1, 2, 40, 7, 1, 2]).guess(1) == [30]
