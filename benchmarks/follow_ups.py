"""Are follow-up questions found as well as the same questions asked on their own?

    python benchmarks/follow_ups.py QUESTIONS.jsonl --collection NAME --home DIR [--pairs FILE.jsonl]

A pair names a question of the file, what was asked before it, and the question as it is asked then: "How long are they kept?". Three searches
for each: the question on its own, the follow-up after what was asked before, and the follow-up as if nothing had been asked. Prints
recall@1, recall@5, MRR and the right evidence among the chosen sentences, a row for each, and a JSON object. Nothing is tuned here: the pairs
were written after the rules of `chatbot.follow_up`, by somebody who had the questions before them and not the documents.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from alignment.answer_metrics import citation_supports
from chatbot.prompt import Message
from knowledge_base.evaluation import evaluate_retrieval
from knowledge_base.questions import EvaluationQuestion, load_questions
from ui.logging import configure_logging
from ui.wiring import Services, open_services

PAIRS = Path(__file__).resolve().parent / "questions" / "follow_ups_18f.jsonl"


@dataclass(frozen=True)
class Pair:
    """A question, and how it is asked after another one."""

    question: EvaluationQuestion
    before: str
    follow_up: str


def read_pairs(path: Path, questions: list[EvaluationQuestion]) -> list[Pair]:
    """The pairs of a file; every one must name a question that has an answer."""
    known = {question.id: question for question in questions if question.answerable}
    pairs = []
    for line in path.read_text("utf-8").splitlines():
        row = json.loads(line)
        if row["id"] not in known:
            raise SystemExit(
                f"{path.name} names {row['id']}, which is no answerable question of the question file"
            )
        pairs.append(Pair(known[row["id"]], row["before"], row["follow_up"]))
    return pairs


def measure(services: Services, pairs: list[Pair], collection: str) -> list[dict[str, Any]]:
    """One row for each way of asking."""
    ways: dict[str, list[tuple[str, tuple[Message, ...]]]] = {
        "on its own": [(pair.question.question, ()) for pair in pairs],
        "after the earlier question": [
            (pair.follow_up, (Message(role="user", content=pair.before),)) for pair in pairs
        ],
        "the follow-up alone": [(pair.follow_up, ()) for pair in pairs],
    }
    reader = services.reader(None)
    rows = []
    for name, asked in ways.items():
        turns = [
            services.assistant.prepare(text, reader, collections=[collection], history=history)
            for text, history in asked
        ]
        searched = [
            replace(pair.question, question=turn.search_text) for pair, turn in zip(pairs, turns, strict=True)
        ]
        found = evaluate_retrieval(
            searched, services.retriever, services.knowledge, reader, collections=[collection]
        )
        n_shown = sum(
            any(
                citation_supports(item.text, pair.question.evidence or "", pair.question.key_facts)
                for item in turn.evidence
            )
            for pair, turn in zip(pairs, turns, strict=True)
        )
        rows.append({"asked": name, **found.as_dict(), "evidence_shown": n_shown / len(pairs)})
    return rows


def main() -> None:
    """Print the table and the JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("questions", type=Path)
    parser.add_argument("--collection", required=True)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--pairs", type=Path, default=PAIRS)
    args = parser.parse_args()
    configure_logging()  # on stderr: the table and the JSON object have stdout for themselves
    pairs = read_pairs(args.pairs, load_questions(args.questions))
    with open_services(args.home) as services:
        rows = measure(services, pairs, args.collection)
    for row in rows:
        print(
            f"{row['asked']:<28} recall@1 {row['recall@1']:.3f}  recall@5 {row['recall@5']:.3f}  "
            f"MRR {row['mrr@10']:.3f}  evidence shown {row['evidence_shown']:.3f}"
        )
    print(json.dumps({"pairs": len(pairs), "rows": rows}))


if __name__ == "__main__":
    main()
