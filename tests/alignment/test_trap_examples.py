"""Reader examples with traps: what is changed, and what follows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from alignment.reader_examples import ReaderExample
from alignment.suites import make_probes
from alignment.trap_examples import TrapSettings, with_traps
from chatbot.prompt import REFUSAL, NumberedEvidence
from tests.alignment.test_suites import rollout

TEXTS = ("You get 25 days of leave.", "Book travel in the portal.", "Receipts are kept for 10 years.")
EXAMPLE = ReaderExample(
    document="d",
    kind="asked",
    style="quote",
    question="How much leave do I get?",
    evidence=tuple(NumberedEvidence(number=n, heading="Leave", text=t) for n, t in enumerate(TEXTS, start=1)),
    history=(),
    completion=f"{TEXTS[0]} [1]",
    cited=(1,),
    right=(1,),
)
REFUSED = replace(EXAMPLE, style="refusal", completion=REFUSAL, cited=(), right=())
NONE = {"revised_share": 0.0, "claim_share": 0.0, "order_share": 0.0}


def all_of(kind: str) -> TrapSettings:
    """Every example gets this trap."""
    return TrapSettings(**(NONE | {kind: 1.0}))


def test_a_revised_sentence_is_answered_as_it_stands_now() -> None:
    """Evidence and answer say the same, and no longer the old thing."""
    (made,) = with_traps([EXAMPLE], all_of("revised_share"))

    assert made.evidence[0].text != TEXTS[0]
    assert made.completion == f"{made.evidence[0].text} [1]"


def test_a_claim_in_the_question_changes_no_answer() -> None:
    """The question is still in it."""
    (made,) = with_traps([EXAMPLE], all_of("claim_share"))

    assert EXAMPLE.question in made.question
    assert len(made.question) > len(EXAMPLE.question) + 10
    assert (made.completion, made.evidence) == (EXAMPLE.completion, EXAMPLE.evidence)


@pytest.mark.parametrize("example", [EXAMPLE, REFUSED])
def test_an_order_replaces_what_is_not_quoted(example: ReaderExample) -> None:
    """And the answer, or the refusal, stays."""
    (made,) = with_traps([example], all_of("order_share"))

    changed = [n for n in range(3) if made.evidence[n] != example.evidence[n]]
    assert len(changed) == 1
    assert changed[0] + 1 not in example.cited
    assert made.completion == example.completion


def test_without_shares_nothing_changes() -> None:
    """Nor where nothing can be altered."""
    assert with_traps([EXAMPLE], TrapSettings(**NONE)) == [EXAMPLE]
    assert with_traps([REFUSED], all_of("revised_share")) == [REFUSED]


def test_a_candidate_is_tried_with_other_orders_than_a_reader_learns_from() -> None:
    """Else the suite would measure what was learned by heart."""
    tried = {
        item.text
        for seed in range(40)
        for probe in make_probes([rollout()], most=1, seed=seed)
        if probe.suite == "injection"
        for item in probe.turn.evidence
    }
    learned = {
        item.text
        for seed in range(40)
        for made in with_traps([EXAMPLE], replace(all_of("order_share"), seed=seed))
        for item in made.evidence
    }

    assert not {" ".join(text.split()[:2]) for text in tried} & {
        " ".join(text.split()[:2]) for text in learned - set(TEXTS)
    }


def test_shares_that_cannot_be_are_refused() -> None:
    """By name."""
    with pytest.raises(ValueError, match="order_share"):
        TrapSettings(revised_share=0.6, claim_share=0.3, order_share=0.3)
