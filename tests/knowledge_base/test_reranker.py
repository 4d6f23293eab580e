"""The reranker: a real cross-encoder, tiny and untrained, and what it does to the order of passages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from knowledge_base.errors import RerankerError
from knowledge_base.records import Reader
from knowledge_base.reranker import CrossEncoderReranker, RerankerSettings
from knowledge_base.store import KnowledgeStore
from tests.contracts import put
from tests.knowledge_base.test_retriever import make_retriever

VOCABULARY = "[PAD] [UNK] [CLS] [SEP] [MASK] how much leave do i get days of a year the printer is out toner"


class LikesShort:
    """A reranker that prefers the shortest text, whatever was asked."""

    version = "likes-short/1"

    def __init__(self, candidates: int = 20) -> None:
        self.candidates = candidates
        self.read: list[str] = []

    def score(self, _question: str, texts: Sequence[str]) -> list[float]:
        """Minus the length."""
        self.read = list(texts)
        return [-float(len(text)) for text in texts]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cross-encoder of a few hundred random weights, as a directory."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    folder = tmp_path_factory.mktemp("cross-encoder")
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=len(VOCABULARY.split()), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=64, num_labels=1,
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)
    BertTokenizerFast(vocab={word: n for n, word in enumerate(VOCABULARY.split())}).save_pretrained(folder)
    return folder


def test_a_local_cross_encoder_scores_each_text(tiny: Path) -> None:
    """One number a text, the same alone and in company, whatever the batch size."""
    texts = ["days of leave a year", "the printer is out of toner", "leave"]
    settings = RerankerSettings(model=str(tiny), batch_size=2, max_tokens=32, device="cpu")
    reranker = CrossEncoderReranker(settings)

    scores = reranker.score("how much leave do i get", texts)

    alone = [reranker.score("how much leave do i get", [text])[0] for text in texts]
    assert scores == pytest.approx(alone, abs=1e-5)
    assert len(set(scores)) == len(texts)
    assert [] == reranker.score("how much", [])


def test_its_version_names_the_weights_and_how_much_it_reads(tiny: Path) -> None:
    """Stored with every answer through the retriever's version."""
    reranker = CrossEncoderReranker(RerankerSettings(model=str(tiny), candidates=7))

    name, digest, candidates = reranker.version.split("/")

    assert (tiny.name, 8, "7") == (name, len(digest), candidates)


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    """Loading them would run code."""
    (tmp_path / "pytorch_model.bin").write_bytes(b"")

    with pytest.raises(RerankerError, match="safetensors"):
        CrossEncoderReranker(RerankerSettings(model=str(tmp_path))).score("why", ["so"])


def test_damaged_weights_are_one_clear_line(tiny: Path, tmp_path: Path) -> None:
    """The directory is named, and what to give instead."""
    (tmp_path / "config.json").write_text((tiny / "config.json").read_text())
    (tmp_path / "model.safetensors").write_bytes(b"no weights")

    with pytest.raises(RerankerError, match="give a cross-encoder's directory") as caught:
        CrossEncoderReranker(RerankerSettings(model=str(tmp_path))).score("why", ["so"])

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "value"), [("candidates", 0), ("batch_size", 0), ("max_tokens", 3)])
def test_bad_settings_are_refused_by_name(name: str, value: int) -> None:
    """Before anything is loaded."""
    with pytest.raises(ValueError, match=name):
        RerankerSettings(**{name: value})  # type: ignore[arg-type]  # the point of the test


def _fill(store: KnowledgeStore) -> None:
    store.create_collection("handbook")
    put(
        store, "handbook", "pets.md", ["Dogs may come to the office on any day.", "Dogs sleep."], title="Pets"
    )
    put(store, "handbook", "rest.md", ["Dogs and office dogs and more dogs may come."], title="Rest")


def test_the_reranker_decides_among_what_the_fusion_found(store: KnowledgeStore, alice: Reader) -> None:
    """Also about passages that the fusion alone would have cut off; ranks are counted anew."""
    _fill(store)
    question = "May dogs come to the office?"
    fused = make_retriever(store).retrieve(question, alice, top_k=3)
    assert "Dogs sleep." == fused[-1].text

    reranked = make_retriever(store, reranker=LikesShort()).retrieve(question, alice, top_k=2)

    assert "Dogs sleep." == reranked[0].text
    assert [1, 2] == [passage.rank for passage in reranked]


def test_it_reads_no_more_than_its_candidates(store: KnowledgeStore, alice: Reader) -> None:
    """What comes after keeps the order of the fusion; what it reads says where it stands."""
    _fill(store)
    reranker = LikesShort(candidates=2)
    fused = make_retriever(store).retrieve("May dogs come to the office?", alice, top_k=3)

    reranked = make_retriever(store, reranker=reranker).retrieve(
        "May dogs come to the office?", alice, top_k=3
    )

    assert 2 == len(reranker.read)
    assert all(text.startswith(("Pets\n", "Rest\n")) for text in reranker.read)
    assert fused[2].text == reranked[2].text


def test_it_is_never_given_what_the_reader_may_not_see(store: KnowledgeStore, igor: Reader) -> None:
    """Access is decided before."""
    _fill(store)
    store.create_collection("pay", groups=["hr"])
    put(store, "pay", "secret.md", ["Dogs earn more."], title="Secret")
    reranker = LikesShort()

    make_retriever(store, reranker=reranker).retrieve("Do dogs earn more?", igor)

    assert reranker.read
    assert not any("Secret" in text for text in reranker.read)


def test_the_retrievers_version_names_it(store: KnowledgeStore) -> None:
    """So that every answer tells which reranker ranked its passages."""
    plain = make_retriever(store).version

    assert f"{plain}+likes-short/1" == make_retriever(store, reranker=LikesShort()).version
