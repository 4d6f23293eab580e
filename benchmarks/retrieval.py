"""Tacit's retrieval beside plain MiniLM and plain BM25, on one set of queries with known documents, in one run.

    python benchmarks/retrieval.py [BEIR_FOLDER --split test] [--home DIR] [--limit N]

A folder in BEIR's form holds `corpus.jsonl(.gz)`, `queries.jsonl(.gz)` and `qrels/SPLIT.tsv`. Without one, the queries are the sample
company's questions and the right document of each is the one that answers it.

Every document is ingested as the Markdown file it would be. Plain MiniLM embeds a whole document (title and text, cut where the model
cuts); plain BM25 has k1 = 0.9, b = 0.4, whole words, no stemming. A document's rank in Tacit is that of its first passage. Prints
nDCG@10 (Järvelin and Kekäläinen 2002, binary gain), recall@100 and milliseconds a query, and a JSON object. Nothing is tuned here.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import re
import statistics
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from knowledge_base.questions import load_questions
from ui.logging import configure_logging
from ui.wiring import Services, open_services

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "ui" / "sample_company"
COLLECTION = "retrieval-benchmark"
DEPTH = 100
_WORD = re.compile(r"\w+")

Search = Callable[[str], Sequence[str]]
"""A query to document names, best first."""


@dataclass(frozen=True)
class Task:
    """Documents, queries and which documents are right."""

    folder: Path
    """The documents as files; a document's name is its path below it."""
    queries: Mapping[str, str]
    right: Mapping[str, frozenset[str]]


def read_beir(source: Path, split: str, folder: Path) -> Task:
    """A BEIR folder, its corpus written out as Markdown files."""
    for row in _rows(source, "corpus"):
        title = " ".join(row.get("title", "").split())
        (folder / f"{row['_id']}.md").write_text(f"# {title}\n\n{row['text']}\n", "utf-8")
    right: dict[str, set[str]] = defaultdict(set)
    for line in (source / "qrels" / f"{split}.tsv").read_text("utf-8").splitlines()[1:]:
        query, document, score = line.split("\t")
        if int(score) > 0:
            right[query].add(f"{document}.md")
    queries = {row["_id"]: row["text"] for row in _rows(source, "queries") if row["_id"] in right}
    return Task(folder, queries, {query: frozenset(right[query]) for query in queries})


def read_sample() -> Task:
    """The sample company's own questions."""
    questions = [q for q in load_questions(SAMPLE / "questions.jsonl") if q.answerable and q.document]
    present = [q for q in questions if (SAMPLE / "company" / q.document).exists()]
    return Task(
        SAMPLE / "company",
        {q.id: q.question for q in present},
        {q.id: frozenset({q.document}) for q in present},
    )


def _rows(source: Path, name: str) -> list[dict[str, Any]]:
    for path in (source / f"{name}.jsonl.gz", source / f"{name}.jsonl"):
        if path.exists():
            with _open(path) as lines:
                return [json.loads(line) for line in lines if line.strip()]
    raise SystemExit(f"{source} has no {name}.jsonl or {name}.jsonl.gz: give a folder in BEIR's form")


def _open(path: Path) -> TextIO:
    return gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")


def tacit(services: Services) -> Search:
    """What `tacit ask` would search with."""
    reader = services.reader(None)

    def search(query: str) -> list[str]:
        passages = services.retriever.retrieve(query, reader, collections=[COLLECTION], top_k=DEPTH)
        return list(dict.fromkeys(passage.document for passage in passages))

    return search


def plain_minilm(services: Services, texts: Mapping[str, str]) -> Search:
    """One vector a document, exact cosine."""
    names = list(texts)
    vectors = services.embedder.encode([texts[name] for name in names])

    def search(query: str) -> list[str]:
        scores = vectors @ services.embedder.encode([query])[0]
        return [names[place] for place in np.argsort(-scores, kind="stable")[:DEPTH]]

    return search


def plain_bm25(texts: Mapping[str, str], k1: float = 0.9, b: float = 0.4) -> Search:
    """Robertson's BM25 with Lucene's idf over whole lower-case words."""
    counts = {name: Counter(_WORD.findall(text.lower())) for name, text in texts.items()}
    mean = statistics.mean(sum(words.values()) for words in counts.values())
    postings: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for name, words in counts.items():
        longness = k1 * (1 - b + b * sum(words.values()) / mean)
        for word, n in words.items():
            postings[word].append((name, n * (k1 + 1) / (n + longness)))

    def search(query: str) -> list[str]:
        scores: dict[str, float] = defaultdict(float)
        for word in _WORD.findall(query.lower()):
            found = postings.get(word, ())
            idf = math.log(1 + (len(counts) - len(found) + 0.5) / (len(found) + 0.5))
            for name, weight in found:
                scores[name] += idf * weight
        return sorted(scores, key=lambda name: (-scores[name], name))[:DEPTH]

    return search


def ndcg(found: Sequence[str], right: frozenset[str], depth: int = 10) -> float:
    """Normalised discounted cumulative gain with binary gains."""
    gain = sum(1 / math.log2(place + 2) for place, name in enumerate(found[:depth]) if name in right)
    return gain / sum(1 / math.log2(place + 2) for place in range(min(len(right), depth)))


def measure(name: str, search: Search, task: Task) -> dict[str, Any]:
    """Figures of one way to search, over all queries."""
    search(next(iter(task.queries.values())))  # the first call loads models
    gains, recalls, milliseconds = [], [], []
    for query, text in task.queries.items():
        started = time.perf_counter()
        found = search(text)
        milliseconds.append(1000 * (time.perf_counter() - started))
        right = task.right[query]
        gains.append(ndcg(found, right))
        recalls.append(len(right.intersection(found)) / len(right))
    return {
        "retrieval": name,
        "ndcg_at_10": round(statistics.mean(gains), 4),
        "recall_at_100": round(statistics.mean(recalls), 4),
        "ms_median": round(statistics.median(milliseconds), 1),
    }


def main() -> None:
    """Print the table and the JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("beir", type=Path, nargs="?")
    parser.add_argument("--split", default="test")
    parser.add_argument("--home", type=Path, default=ROOT / "var" / "benchmark-retrieval")
    parser.add_argument("--limit", type=int, help="only the first queries")
    args = parser.parse_args()
    configure_logging()  # on stderr: the table and the JSON object have stdout for themselves
    with (
        tempfile.TemporaryDirectory() as folder,
        open_services(args.home, create=True) as services,
    ):
        task = read_beir(args.beir, args.split, Path(folder)) if args.beir else read_sample()
        if args.limit:
            kept = dict(list(task.queries.items())[: args.limit])
            task = Task(task.folder, kept, task.right)
        started = time.monotonic()
        services.ingestor.ingest([task.folder], COLLECTION)
        seconds = time.monotonic() - started
        reader = services.reader(None)
        documents = services.knowledge.list_documents(COLLECTION, reader=reader)
        texts = {d.path: services.knowledge.read_document(d.id, reader).text for d in documents}
        rows = [
            measure("plain BM25", plain_bm25(texts), task),
            measure("plain MiniLM", plain_minilm(services, texts), task),
            measure("Tacit", tacit(services), task),
        ]
    for row in rows:
        print(
            f"{row['retrieval']:<14} nDCG@10 {row['ndcg_at_10']:.3f}  recall@100 {row['recall_at_100']:.3f}  {row['ms_median']:>7.1f} ms"
        )
    print(
        json.dumps(
            {
                "rows": rows,
                "documents": len(texts),
                "queries": len(task.queries),
                "ingest_seconds": round(seconds, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
