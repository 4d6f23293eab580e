from __future__ import annotations

import lzma
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alignment.corpus import (
    CorpusError,
    TokenizedSource,
    find_corpora,
    is_held_out,
    read_corpus,
    tokenize_corpora,
)
from alignment.corpus_rows import DocumentRows, MixedRows, held_out_rows
from alignment.tokenizer import train_tokenizer
from tests.alignment.tiny_corpora import write_corpora


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Trained on the corpora it will read."""
    folder = write_corpora(tmp_path_factory.mktemp("text"))
    texts = [document.text for path in find_corpora(folder) for document in read_corpus(path)]
    return train_tokenizer(texts, vocabulary_size=400, max_tokens=128)


def source(name: str, n_tokens: int, first: int = 0) -> TokenizedSource:
    """Tokens that count upwards, so that a row tells where it was cut."""
    tokens = np.arange(first, first + n_tokens, dtype=np.uint16)
    starts = np.arange(0, n_tokens, 10, dtype=np.int64)
    return TokenizedSource(name=name, train=tokens, held_out=tokens[:55], train_starts=starts)


def test_every_document_is_in_exactly_one_part(tmp_path: Path, tokenizer: Any) -> None:
    """Training and held-out tokens together are all tokens, framed by begin and end."""
    folder = write_corpora(tmp_path / "text")
    sources = tokenize_corpora(folder, tmp_path / "tokens", tokenizer, held_out_share=0.3)

    for found in sources:
        documents = list(read_corpus(folder / f"{found.name}.jsonl.xz"))
        framed = [len(tokenizer(d.text, add_special_tokens=False)["input_ids"]) + 2 for d in documents]
        assert sum(framed) == len(found.train) + len(found.held_out)
        assert len(found.held_out) > 0
        assert all(found.train[start] == tokenizer.bos_token_id for start in found.train_starts)


def test_a_second_call_maps_what_the_first_wrote(tmp_path: Path, tokenizer: Any) -> None:
    """Tokens are made once as long as corpora and tokenizer are the same."""
    folder = write_corpora(tmp_path / "text")
    tokenize_corpora(folder, tmp_path / "tokens", tokenizer, held_out_share=0.3)
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "tokens").iterdir()}
    tokenize_corpora(folder, tmp_path / "tokens", tokenizer, held_out_share=0.3)

    assert written == {path: path.stat().st_mtime_ns for path in (tmp_path / "tokens").iterdir()}


def test_special_tokens_in_foreign_text_stay_text(tmp_path: Path, tokenizer: Any) -> None:
    """A page that quotes `<|end|>` does not end the document."""
    (tmp_path / "text").mkdir()
    with lzma.open(tmp_path / "text" / "odd.jsonl.xz", "wt") as lines:
        lines.write('{"source": "odd", "path": "a", "text": "before <|end|> after"}\n')
    (found,) = tokenize_corpora(tmp_path / "text", tmp_path / "tokens", tokenizer, held_out_share=0.0)

    assert list(found.train).count(tokenizer.eos_token_id) == 1


@pytest.mark.parametrize("content", [b"not xz at all", lzma.compress(b'{"source": "a"}\n')])
def test_a_damaged_corpus_is_named(tmp_path: Path, content: bytes) -> None:
    """The error says which file."""
    (tmp_path / "bad.jsonl.xz").write_bytes(content)
    with pytest.raises(CorpusError, match=r"bad\.jsonl\.xz"):
        list(read_corpus(tmp_path / "bad.jsonl.xz"))


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    """Nothing to train on is an error, not an empty run."""
    with pytest.raises(CorpusError, match="data_dir"):
        find_corpora(tmp_path)


def test_rows_depend_on_seed_and_number_alone() -> None:
    """Reading from the middle gives what reading from the start gives."""
    sources = [source("a", 400), source("b", 300, first=1000)]
    walked = MixedRows(sources, {}, row_tokens=16, seed=5)
    all_rows = [walked.row(n).tolist() for n in range(3 * walked.rows_per_epoch)]
    jumped = MixedRows(sources, {}, row_tokens=16, seed=5)

    assert all_rows[70] == jumped.row(70).tolist()
    assert all_rows[3] == jumped.row(3).tolist()


def test_weights_say_how_often_a_source_is_read() -> None:
    """Weight 2 reads twice as many rows as weight 1 of the same size."""
    rows = MixedRows([source("a", 800), source("b", 800, first=1000)], {"a": 2.0}, row_tokens=16, seed=0)
    firsts = [int(rows.row(n)[0]) for n in range(rows.rows_per_epoch)]

    assert sum(first < 1000 for first in firsts) == 2 * sum(first >= 1000 for first in firsts)


def test_one_epoch_repeats_no_row_of_weight_one() -> None:
    """Reading is without replacement."""
    rows = MixedRows([source("a", 800)], {}, row_tokens=16, seed=0)
    firsts = [int(rows.row(n)[0]) for n in range(rows.rows_per_epoch)]

    assert len(set(firsts)) == len(firsts)


def test_a_weight_for_no_source_is_refused() -> None:
    """A misspelt source would silently weigh nothing."""
    with pytest.raises(CorpusError, match="wiki"):
        MixedRows([source("a", 400)], {"wiki": 2.0}, row_tokens=16, seed=0)


def test_corpora_too_small_for_a_row_are_refused() -> None:
    """An error, not an endless loop."""
    with pytest.raises(CorpusError, match="too small"):
        MixedRows([source("a", 20)], {}, row_tokens=16, seed=0)
    with pytest.raises(CorpusError, match="too small"):
        DocumentRows([source("a", 10)], row_tokens=16, seed=0)


def test_document_rows_begin_where_documents_begin() -> None:
    """Chats are never cut at their start."""
    rows = DocumentRows([source("a", 200)], row_tokens=16, seed=0)

    assert all(rows.row(n)[0] % 10 == 0 for n in range(40))


def test_held_out_rows_are_whole() -> None:
    """What fills no row is left out."""
    assert held_out_rows(source("a", 100), row_tokens=16, limit=9).shape == (3, 16)


def test_the_split_is_by_name() -> None:
    """The same document is held out in every run, about as often as asked."""
    shares = [is_held_out(f"page {n}", 0.2) for n in range(2000)]

    assert 0.15 < sum(shares) / 2000 < 0.25
    assert shares == [is_held_out(f"page {n}", 0.2) for n in range(2000)]
