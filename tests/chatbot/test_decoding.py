"""Drawing tokens follows the distribution; joining tokens never breaks a character."""

from __future__ import annotations

import threading
import time
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alignment.rollouts import SamplingRule, draw_tokens
from chatbot.decoding import TextPieces, TokenDrawer, is_looping
from chatbot.fair_lock import FairLock
from chatbot.records import Sampling
from tests.chatbot.tiny_models import _make_tokenizer

TOKENIZER = _make_tokenizer("llama", chat_template=False)


def test_draws_follow_the_distribution() -> None:
    """Over many rows the shares are those of the softmax, at temperature 1."""
    logits = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05])).repeat(4_000, 1)

    tokens, logprobs = TokenDrawer(Sampling(temperature=1.0, seed=1), 4_000).draw(logits, range(4_000))

    shares = torch.bincount(torch.tensor(tokens), minlength=4) / 4_000
    assert shares.tolist() == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.03)
    assert logprobs[0] == pytest.approx(logits[0, tokens[0]].item())


def test_the_nucleus_leaves_the_tail_out() -> None:
    """With top_p 0.7 the two likeliest tokens remain; with 0 only the likeliest."""
    logits = torch.log(torch.tensor([0.05, 0.3, 0.15, 0.5])).repeat(500, 1)

    assert set(
        TokenDrawer(Sampling(temperature=1.0, top_p=0.7, seed=1), 500).draw(logits, range(500))[0]
    ) == {1, 3}
    assert set(
        TokenDrawer(Sampling(temperature=1.0, top_p=0.0, seed=1), 500).draw(logits, range(500))[0]
    ) == {3}


def test_what_the_model_finds_unlikely_is_not_drawn_at_any_temperature() -> None:
    """With min_p 0.4 tokens of less than 0.2 are left out, however flat the temperature makes them; the others are drawn as it says."""
    logits = torch.log(torch.tensor([0.05, 0.3, 0.15, 0.5])).repeat(4_000, 1)

    tokens = TokenDrawer(Sampling(temperature=4.0, min_p=0.4, seed=1), 4_000).draw(logits, range(4_000))[0]

    assert set(tokens) == {1, 3}
    expected = 0.3**0.25 / (0.3**0.25 + 0.5**0.25)
    assert tokens.count(1) / 4_000 == pytest.approx(expected, abs=0.03)


def test_what_is_drawn_is_what_was_trained_when_both_limits_are_set() -> None:
    """With 0.5, 0.3 and 0.2, `min_p` 0.5 and `top_p` 0.6 leave the two likeliest, in serving as in rollouts."""
    logits = torch.log(torch.tensor([0.5, 0.3, 0.2])).repeat(500, 1)
    rule = SamplingRule(
        samples_per_prompt=1, max_new_tokens=1, temperature=1.0, top_p=0.6, min_p=0.5, end_ids=frozenset()
    )

    served = TokenDrawer(Sampling(temperature=1.0, top_p=0.6, min_p=0.5, seed=1), 500).draw(
        logits, range(500)
    )[0]
    trained, _ = draw_tokens(logits, rule, torch.Generator().manual_seed(1))

    assert set(served) == set(trained.tolist()) == {0, 1}


def test_logprobs_are_at_temperature_one() -> None:
    """A hot draw reports the same log-probability as a greedy one of the same token."""
    logits = torch.tensor([[2.0, 0.0, -1.0]])
    expected = torch.log_softmax(logits, -1)[0].tolist()

    for temperature in (0.0, 0.5, 3.0):
        tokens, logprobs = TokenDrawer(Sampling(temperature=temperature, seed=2), 1).draw(logits, [0])
        assert logprobs == pytest.approx([expected[tokens[0]]])


def test_a_row_draws_alike_in_any_company() -> None:
    """Row 2 of a call draws the same alone as among others."""
    logits = torch.zeros(4, 50)
    sampling = Sampling(temperature=1.0, seed=9)

    among = TokenDrawer(sampling, 4).draw(logits, [0, 1, 2, 3])[0]

    assert among[2] == TokenDrawer(sampling, 4).draw(logits[:1], [2])[0][0]


def test_a_number_given_back_draws_the_next_token() -> None:
    """Three tokens drawn at once of which one is written, then the rest: the tokens are those of one at a time."""
    torch.manual_seed(0)
    logits, sampling = torch.randn(5, 50), Sampling(temperature=1.0, seed=3)
    one_by_one = TokenDrawer(sampling, 2)
    expected = [one_by_one.draw(logits[n : n + 1], [1])[0][0] for n in range(5)]

    drawer = TokenDrawer(sampling, 2)
    begun = drawer.draw(logits[:3], [1, 1, 1])[0][:1]
    drawer.give_back(1, 2)
    begun += drawer.draw(logits[1:3], [1, 1])[0]
    drawer.give_back(1, 0)

    assert begun + drawer.draw(logits[3:], [1, 1])[0] == expected


@given(st.text(st.characters(codec="utf-8", exclude_characters="\ufffd"), max_size=40))
@settings(max_examples=150, deadline=None)
def test_any_text_comes_back_whole(text: str) -> None:
    """Tokens of any text, emoji and all, join to that text without outer white space, and no piece is broken."""
    pieces = TextPieces(TOKENIZER)

    written = [pieces.add(token) for token in TOKENIZER(text, add_special_tokens=False)["input_ids"]]

    assert "".join(written) == text.strip()
    assert not any("\ufffd" in piece for piece in written)


@given(st.lists(st.integers(0, len(TOKENIZER) - 1), max_size=60))
@settings(max_examples=100, deadline=None)
def test_random_tokens_never_show_broken_characters(ids: list[int]) -> None:
    """Bytes that form no character are left out, and later text still arrives."""
    pieces = TextPieces(TOKENIZER)
    tail = TOKENIZER(" then leave.", add_special_tokens=False)["input_ids"]

    text = "".join(pieces.add(token) for token in [*ids, *tail])

    assert "\ufffd" not in text
    assert text.endswith("then leave.")


def test_the_lock_is_handed_over_in_order() -> None:
    """Two threads that take the lock again and again take turns."""
    lock, order = FairLock(), list[str]()
    ready = threading.Barrier(2)

    def take(name: str) -> None:
        ready.wait()
        for _ in range(20):
            with lock:
                order.append(name)
                time.sleep(0.002)

    threads = [threading.Thread(target=take, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    middle = order[5:35]
    assert all(first != second for first, second in pairwise(middle))


def test_the_lock_is_free_after_an_error() -> None:
    """An exception inside does not keep the lock."""
    lock = FairLock()
    with pytest.raises(ValueError, match="x"), lock:
        raise ValueError("x")

    with lock:
        pass


@given(
    start=st.lists(st.integers(0, 9), max_size=20),
    loop=st.lists(st.integers(0, 9), min_size=1, max_size=64),
)
def test_any_stretch_said_often_enough_is_a_loop(start: list[int], loop: list[int]) -> None:
    """Twice when it is long, 24 tokens together when it is short."""
    times = max(2, -(-24 // len(loop)))

    assert is_looping(start + loop * times)


@given(n=st.integers(0, 200))
def test_what_never_repeats_is_no_loop(n: int) -> None:
    """All tokens different."""
    assert not is_looping(list(range(n)))
