"""Fit the coefficients of `chatbot.settings.AbstentionSettings` on public question sets, and choose the threshold.

    python tools/fit_abstention.py DATA_DIR

Each question is asked twice: of a collection that holds its passage, and of the same collection without it. Support should tell the
two apart. Three sets count equally: SQuAD 2 dev (answerable questions), NQ with gold passages, and questions that were written for training, as
employees ask them, on pages that nothing was learned from. Retrieval is by cosine alone, with the installation's own embedder and evidence selection. The
figures of a set are those of coefficients fitted on the other two; the coefficients printed last are fitted on all three.

The threshold is the largest at which in no set more than a tenth of the answerable questions is refused (an average over the sets hides the
one that is asked as employees ask): a wrong refusal is final, while an unanswerable question that gets through can still be refused by the model.
"""

from __future__ import annotations

import gzip
import json
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from alignment.asked_questions import asked_questions
from alignment.corpus import read_corpus
from alignment.evidence_encoder_settings import is_held_out_page
from alignment.page_sections import read_sections
from chatbot.abstention import measure
from chatbot.evidence import EvidenceSelector
from knowledge_base.embedder import SentenceTransformerEmbedder
from knowledge_base.records import Passage
from knowledge_base.sentence_vectors import SentenceVectors
from ui.parts import EVIDENCE_ENCODER

Floats = npt.NDArray[np.float64]

_PASSAGES = 8
_MOST_WRONG_REFUSALS = 0.10
_RIDGE = 0.1


@dataclass(frozen=True)
class QuestionSet:
    """Sections (title, heading, text) and questions with the place of their section."""

    name: str
    sections: list[tuple[str, str, str]]
    questions: list[tuple[str, int]]


def main(data: Path) -> None:
    """Fit, print the table, the coefficients and the threshold."""
    embedder = SentenceTransformerEmbedder()
    encoder = SentenceTransformerEmbedder(tuned=EVIDENCE_ENCODER)
    features: dict[str, Floats] = {}
    labels: dict[str, Floats] = {}
    for questions in (_read_squad(data), _read_nq(data), _read_written(data)):
        print(
            f"{questions.name}: {len(questions.sections)} sections, {len(questions.questions)} questions",
            flush=True,
        )
        # One for each set: sentences are remembered by chunk, and every set numbers its own.
        selector = EvidenceSelector(SentenceVectors(encoder))
        rows = list(_measure_set(questions, embedder, selector))
        features[questions.name] = np.array([row[:-1] for row in rows])
        labels[questions.name] = np.array([row[-1] for row in rows])
    print("\nset         AUC, fitted on the others")
    for name, values in features.items():
        weights = _fit({k: v for k, v in features.items() if k != name}, labels)
        print(f"{name:<10}  {_auc(_scores(values, weights), labels[name]):.3f}")
    weights = _fit(features, labels)
    print(f"\nintercept={weights[0]:.2f} sentence={weights[1]:.2f} overlap={weights[2]:.2f}")
    _print_thresholds(features, labels, np.round(weights, 2))


def _measure_set(
    questions: QuestionSet, embedder: Any, selector: EvidenceSelector
) -> Iterator[tuple[float, float, float]]:
    """Best sentence cosine, overlap, and whether the collection held the answer (1 or 0)."""
    sections = embedder.encode([": ".join(filter(None, section)) for section in questions.sections])
    asked = embedder.encode([question for question, _ in questions.questions])
    for (question, place), vector in zip(questions.questions, asked, strict=True):
        similarities = sections @ vector
        for holds in (1.0, 0.0):
            if not holds:
                similarities[place] = -1.0
            best = np.argsort(-similarities)[:_PASSAGES]
            passages = [_as_passage(questions.sections[i], int(i), float(similarities[i])) for i in best]
            strength = measure(question, selector.select(question, passages))
            yield strength.sentence, strength.overlap, holds


def _as_passage(section: tuple[str, str, str], place: int, similarity: float) -> Passage:
    title, heading, text = section
    return Passage(
        chunk_id=place, document_id=title, document=title, title=title, collection="", collection_is_open=True,
        heading=heading, page=None, text=text, start=0, end=len(text), score=similarity, similarity=similarity, rank=1,
    )  # fmt: skip


def _read_squad(data: Path) -> QuestionSet:
    rows = _read_gzip(data / "qa_squad2dev" / "qa.jsonl.gz")
    sections: dict[str, int] = {}
    titles: list[tuple[str, str, str]] = []
    for row in rows:
        if row["context"] not in sections:
            sections[row["context"]] = len(titles)
            titles.append((row["title"], "", row["context"]))
    asked = [(row["question"], sections[row["context"]]) for row in rows if row["answerable"]]
    return QuestionSet("squad2dev", titles, random.Random(0).sample(asked, 140))


def _read_nq(data: Path) -> QuestionSet:
    rows = random.Random(0).sample(_read_gzip(data / "qa_nqoracle" / "qa.jsonl.gz"), 420)
    sections = [(row["title"], "", row["context"]) for row in rows]
    return QuestionSet("nqoracle", sections, [(row["question"], i) for i, row in enumerate(rows[:140])])


def _read_written(data: Path) -> QuestionSet:
    corpus = data / "text" / "hb_gitlab.jsonl.xz"
    asked = [q for q in asked_questions(corpus) if is_held_out_page(q.document)]
    places: dict[tuple[str, str], int] = {}
    sections: list[tuple[str, str, str]] = []
    for document in read_corpus(corpus):
        name = f"{document.source}/{document.path}"
        if is_held_out_page(name):
            for section in read_sections(document):
                title, _, heading = section.path.partition(" > ")
                places[name, section.path] = len(sections)
                sections.append((title, heading, " ".join(section.sentences)[:900]))
    held = [
        (q.question, places[q.document, q.right[0].heading])
        for q in asked
        if q.right and q.right[0].text in sections[places[q.document, q.right[0].heading]][2]
    ]
    return QuestionSet("written", sections, random.Random(0).sample(held, 280))


def _read_gzip(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _fit(features: dict[str, Floats], labels: dict[str, Floats]) -> Floats:
    """Ridge logistic regression by Newton's method; every set has the same total weight. Returns intercept first."""
    x = np.concatenate([np.column_stack([np.ones(len(v)), v]) for v in features.values()])  # (n, 3)
    y = np.concatenate([labels[name] for name in features])
    share = np.concatenate([np.full(len(v), 100 / len(v)) for v in features.values()])
    penalty = np.diag([0.0, *[_RIDGE] * (x.shape[1] - 1)])
    weights = np.zeros(x.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-x @ weights))
        gradient = x.T @ (share * (p - y)) + penalty @ weights
        hessian = (x * (share * p * (1 - p))[:, None]).T @ x + penalty
        weights -= np.linalg.solve(hessian, gradient)
    return weights


def _scores(values: Floats, weights: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-(weights[0] + values @ weights[1:]))))


def _auc(scores: Floats, labels: Floats) -> float:
    """How often a supported question scores above an unsupported one; ties count half."""
    positive, negative = scores[labels == 1][:, None], scores[labels == 0][None]
    return float((positive > negative).mean() + (positive == negative).mean() / 2)


def _print_thresholds(features: dict[str, Floats], labels: dict[str, Floats], weights: Floats) -> None:
    print(
        "\nthreshold   "
        + "  ".join(f"{name:>18}" for name in features)
        + "     (answerable / unanswerable refused)"
    )
    chosen = 0.0
    for threshold in np.arange(0.02, 0.62, 0.02):
        refused = {name: _scores(values, weights) < threshold for name, values in features.items()}
        wrong = {name: refused[name][labels[name] == 1].mean() for name in features}
        right = {name: refused[name][labels[name] == 0].mean() for name in features}
        print(f"{threshold:<10.2f}  " + "  ".join(f"{wrong[n]:>8.3f} /{right[n]:>8.3f}" for n in features))
        if max(wrong.values()) <= _MOST_WRONG_REFUSALS:
            chosen = float(threshold)
    print(f"\nthreshold={chosen:.2f}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python tools/fit_abstention.py DATA_DIR")
    main(Path(sys.argv[1]))
