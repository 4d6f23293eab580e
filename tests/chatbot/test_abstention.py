"""Support grows with the evidence, and a refusal always begins with the fixed sentence."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chatbot.abstention import measure, render_refusal, support
from chatbot.evidence import EvidenceSelector
from chatbot.prompt import REFUSAL, is_refusal
from chatbot.settings import AbstentionSettings
from knowledge_base.sentence_vectors import SentenceVectors
from tests.chatbot.turn_fakes import make_passage
from tests.fakes import FakeEmbedder

PASSAGE = make_passage("You get 25 days of annual leave each year.")
SELECTOR = EvidenceSelector(SentenceVectors(FakeEmbedder(256)))


def test_no_evidence_has_no_support() -> None:
    """Nothing found means certain refusal."""
    assert support("Anything?", [], AbstentionSettings()) == 0.0


def test_a_matching_question_has_more_support_than_a_foreign_one() -> None:
    """The same evidence supports its own question more than another."""
    own, foreign = "How many days of annual leave do I get?", "Who won the world cup in 1998?"

    scores = [support(q, SELECTOR.select(q, [PASSAGE]), AbstentionSettings()) for q in (own, foreign)]

    assert scores[0] > scores[1]


def test_overlap_counts_words_numbers_and_headings() -> None:
    """Two of the three content words are in the text, the third in the heading."""
    passage = make_passage("You get 25 days.", heading="Annual leave")
    question = "Is annual leave 25 days?"

    assert measure(question, SELECTOR.select(question, [passage])).overlap == 1.0


@given(sentence=st.floats(-50, 50), overlap=st.floats(-50, 50), threshold=st.floats(0, 1))
def test_support_is_a_probability(sentence: float, overlap: float, threshold: float) -> None:
    """Any coefficients give a number in [0, 1]."""
    settings = AbstentionSettings(sentence=sentence, overlap=overlap, threshold=threshold)
    question = "annual leave"

    assert 0.0 <= support(question, SELECTOR.select(question, [PASSAGE]), settings) <= 1.0


def test_a_refusal_names_documents_once_and_whom_to_ask() -> None:
    """Two chunks of one document are one document; collections without owner add nobody."""
    passages = [
        make_passage("a", 1, document_id="d1", title="Leave"),
        make_passage("b", 2, document_id="d1", title="Leave"),
        make_passage("c", 3, document_id="d3", title="", document="food/lunch.md", collection="food"),
    ]

    text = render_refusal(passages, {"company": "HR", "food": ""})

    assert text == f"{REFUSAL} The nearest documents: Leave; food/lunch.md. You could ask HR."
    assert is_refusal(text)
