"""Corpora as tokens on disk.

Reads folders of `*.jsonl.xz` (`{"source", "path", "text"}` a line) and tokenises each source once into memory-mapped arrays of
16-bit tokens. Knows nothing of models, optimisers or the order of reading. Differs from the usual preparation step in that the
held-out part is chosen by a document's name, not by position: it stays the same when corpora grow.
"""

from __future__ import annotations

import hashlib
import json
import lzma
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import structlog

from alignment.errors import TrainingError

_log = structlog.get_logger(__name__)
_BATCH_DOCUMENTS = 256
_MAX_VOCABULARY = 2**16

Part = Literal["train", "held_out"]
Tokens = npt.NDArray[np.uint16]


class CorpusError(TrainingError):
    """A corpus that cannot be read or is too small; the message says which and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusDocument:
    """One text of a corpus."""

    source: str
    path: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizedSource:
    """One source's tokens, memory-mapped, documents one after another, each between begin and end tokens."""

    name: str
    train: Tokens
    held_out: Tokens
    train_starts: npt.NDArray[np.int64]
    """Offset of each training document's first token."""


def find_corpora(data_dir: Path) -> list[Path]:
    """The corpus files of a folder, sorted.

    Raises:
        CorpusError: If there are none.
    """
    found = sorted(data_dir.glob("*.jsonl.xz"))
    if not found:
        raise CorpusError(f"No *.jsonl.xz in {data_dir}. Set data_dir to a folder of corpora.")
    return found


def read_corpus(path: Path) -> Iterator[CorpusDocument]:
    """The documents of one `*.jsonl.xz` file, in file order.

    Raises:
        CorpusError: For a line that is not an object with source, path and text, and for a damaged file.
    """
    try:
        with lzma.open(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                yield _parse_document(line, path, number)
    except (lzma.LZMAError, EOFError, UnicodeDecodeError) as error:
        raise CorpusError(f"{path} is damaged: {error}. Fetch it again.") from error


def _parse_document(line: str, path: Path, number: int) -> CorpusDocument:
    try:
        row = json.loads(line)
        return CorpusDocument(source=str(row["source"]), path=str(row["path"]), text=str(row["text"]))
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise CorpusError(f'{path}, line {number}: expected {{"source", "path", "text"}}.') from error


def is_held_out(key: str, share: float) -> bool:
    """Whether a document belongs to the held-out part; decided by its name alone, so the same in every run.

    Args:
        key: Source and path of the document, without any `#piece` suffix.
        share: Wanted share of held-out documents, 0 to 1.
    """
    digest = hashlib.sha256(key.encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < share


def tokenize_corpora(
    data_dir: Path, out_dir: Path, tokenizer: Any, *, held_out_share: float, parse_special: bool = False
) -> list[TokenizedSource]:
    """Tokenise every corpus of a folder once; later calls with the same files and tokenizer map what is there.

    Args:
        data_dir: Folder of `*.jsonl.xz`.
        out_dir: Where the token arrays are kept.
        tokenizer: A Hugging Face fast tokenizer with fewer than 65,536 tokens.
        held_out_share: Share of documents kept out of training.
        parse_special: Whether `<|user|>` and the like in the text become special tokens. Only for text we made ourselves.

    Raises:
        CorpusError: If a corpus is missing, damaged or empty.
    """
    if len(tokenizer) > _MAX_VOCABULARY:
        raise CorpusError(f"Tokens are stored in 16 bits; {len(tokenizer)} tokens do not fit.")
    out_dir.mkdir(parents=True, exist_ok=True)
    vocabulary_hash = hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()
    sources = []
    for path in find_corpora(data_dir):
        size = path.stat().st_size
        fingerprint = f"{vocabulary_hash} {path.name} {size} {held_out_share} {parse_special}"
        name = path.name.removesuffix(".jsonl.xz")
        if not _is_current(out_dir / f"{name}.json", fingerprint):
            _tokenize_source(
                path, out_dir, tokenizer, fingerprint, held_out_share, parse_special=parse_special
            )
        sources.append(_map_source(name, out_dir))
    return sources


def _is_current(meta_path: Path, fingerprint: str) -> bool:
    return meta_path.exists() and json.loads(meta_path.read_text())["fingerprint"] == fingerprint


def _tokenize_source(
    path: Path, out_dir: Path, tokenizer: Any, fingerprint: str, held_out_share: float, *, parse_special: bool
) -> None:
    name = path.name.removesuffix(".jsonl.xz")
    counts = {"train": 0, "held_out": 0}
    starts: list[int] = []
    files = {part: (out_dir / f"{name}.{part}.bin").open("wb") for part in counts}
    try:
        for part, ids in _encoded_documents(path, tokenizer, held_out_share, parse_special=parse_special):
            if part == "train":
                starts.append(counts[part])
            files[part].write(np.asarray(ids, dtype=np.uint16).tobytes())
            counts[part] += len(ids)
    finally:
        for file in files.values():
            file.close()
    if counts["train"] == 0:
        raise CorpusError(f"{path} holds no training text. Remove it or lower held_out_share.")
    np.save(out_dir / f"{name}.starts.npy", np.asarray(starts, dtype=np.int64))
    # The description is written last: without it the arrays count as not there.
    partial = out_dir / f"{name}.json.partial"
    partial.write_text(json.dumps({"fingerprint": fingerprint, **counts}))
    partial.replace(out_dir / f"{name}.json")
    _log.info(
        "corpus_tokenized", source=name, train_tokens=counts["train"], held_out_tokens=counts["held_out"]
    )


def _encoded_documents(
    path: Path, tokenizer: Any, held_out_share: float, *, parse_special: bool
) -> Iterator[tuple[Part, list[int]]]:
    batch: list[CorpusDocument] = []
    for document in read_corpus(path):
        batch.append(document)
        if len(batch) == _BATCH_DOCUMENTS:
            yield from _encode_batch(batch, tokenizer, held_out_share, parse_special=parse_special)
            batch = []
    yield from _encode_batch(batch, tokenizer, held_out_share, parse_special=parse_special)


def _encode_batch(
    batch: list[CorpusDocument], tokenizer: Any, held_out_share: float, *, parse_special: bool
) -> Iterator[tuple[Part, list[int]]]:
    if not batch:
        return
    begin, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    encoded = tokenizer(
        [document.text for document in batch],
        add_special_tokens=False,
        split_special_tokens=not parse_special,
        verbose=False,  # documents are longer than the context; they are cut into rows later
    )["input_ids"]
    for document, ids in zip(batch, encoded, strict=True):
        key = f"{document.source}/{document.path.partition('#')[0]}"
        framed = list(ids) if parse_special else [begin, *ids, end]
        yield ("held_out" if is_held_out(key, held_out_share) else "train"), framed


def _map_source(name: str, out_dir: Path) -> TokenizedSource:
    return TokenizedSource(
        name=name,
        train=_map_tokens(out_dir / f"{name}.train.bin"),
        held_out=_map_tokens(out_dir / f"{name}.held_out.bin"),
        train_starts=np.load(out_dir / f"{name}.starts.npy"),
    )


def _map_tokens(path: Path) -> Tokens:
    if path.stat().st_size == 0:  # an empty file cannot be mapped
        return np.empty(0, dtype=np.uint16)
    return np.memmap(path, dtype=np.uint16, mode="r")
