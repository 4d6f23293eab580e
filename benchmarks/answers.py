"""Tacit's answers beside plain quoting, on one question file, in one run.

    python benchmarks/answers.py [QUESTIONS.jsonl --collection NAME --home DIR] [--limit N] [--policy ID] [--show N]

Without arguments it ingests the sample company and uses its questions.

Quoting: the best one or three evidence sentences, and the best chunk whole. Prints a table of key_fact_recall and words, then what
`tacit evaluate` prints, with the causes of failure counted. `--show 5` prints the five best and the five worst answers in full. Nothing is tuned here: settings are those of the home.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from alignment.answer_metrics import has_all_key_facts, percentile
from alignment.evaluation import QuestionResult, judge_answers, summarise
from chatbot.prompt import strip_citations
from chatbot.records import PreparedTurn
from knowledge_base.evaluation import evaluate_retrieval
from knowledge_base.questions import load_questions
from ui.logging import configure_logging
from ui.wiring import Services, open_services

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "ui" / "sample_company"
Quote = Callable[[PreparedTurn], str]
QUOTES: dict[str, Quote] = {
    "best sentence": lambda turn: " ".join(e.text for e in turn.evidence[:1]),
    "best three sentences": lambda turn: " ".join(e.text for e in turn.evidence[:3]),
    "best chunk": lambda turn: turn.passages[0].text if turn.passages else "",
    "all evidence (a reader's ceiling)": lambda turn: " ".join(e.text for e in turn.evidence),
}


def row(name: str, texts: Sequence[str], facts: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Key fact recall and words of one way to answer."""
    words = [len(text.split()) for text in texts]
    hits = [has_all_key_facts(text, fact) for text, fact in zip(texts, facts, strict=True)]
    return {
        "answers": name,
        "key_fact_recall": round(sum(hits) / len(hits), 3),
        "words_median": statistics.median(words),
        "words_p90": percentile(words, 0.9),
    }


def best_and_worst(
    results: Sequence[QuestionResult], n: int
) -> tuple[list[QuestionResult], list[QuestionResult]]:
    """Right answers that cite nothing wrong, the shortest first; wrong ones, those given with the most conviction first.

    Conviction is how likely the evidence was said to answer. Refusals are neither.
    """
    given = [result for result in results if not result.answer.abstained]
    right = [r for r in given if r.cause == "right"]
    wrong = [r for r in given if r.cause not in {"right", "not judged"}]
    right.sort(key=lambda r: (r.n_citations - r.n_right_citations, len(r.answer.text.split())))
    wrong.sort(key=lambda r: -r.answer.prepared.support)
    return right[:n], wrong[:n]


def print_in_full(title: str, results: Sequence[QuestionResult]) -> None:
    """Question, answer, citations and what was expected."""
    print(f"\n{title}")
    for result in results:
        print(f"\n  {result.question.question}\n    {result.answer.text}")
        for citation in result.answer.citations:
            print(f"      [{citation.number}] {citation.document}")
        print(f"    {result.cause}; expected: {result.question.answer or 'a refusal'}")


def measure(services: Services, args: argparse.Namespace) -> dict[str, Any]:
    """All rows, and the full evaluation of Tacit."""
    questions = load_questions(args.questions)[: args.limit]
    reader = services.reader(None)
    collections = [args.collection]
    answerable = [q for q in questions if q.answerable]
    turns = [services.assistant.prepare(q.question, reader, collections=collections) for q in answerable]
    facts = [q.key_facts for q in answerable]
    rows = [row(name, [quote(turn) for turn in turns], facts) for name, quote in QUOTES.items()]
    results = judge_answers(
        questions,
        lambda q: services.assistant.answer(q, reader, collections=collections, policy_id=args.policy),
    )
    spoken = [
        "" if r.answer.abstained else strip_citations(r.answer.text) for r in results if r.question.answerable
    ]
    rows.append(row("Tacit", spoken, facts))
    grounding = [r.answer.grounding for r in results if r.answer.grounding]
    retrieval = evaluate_retrieval(
        questions, services.retriever, services.knowledge, reader, collections=collections
    )
    return {
        "rows": rows,
        "retrieval": retrieval.as_dict(),
        **summarise(results),
        "causes": dict(Counter(r.cause for r in results).most_common()),
        "fell_back": sum(g.fell_back for g in grounding),
        "asked_model": len(grounding),
        "policy": results[0].answer.policy_id,
        "results": results,
    }


def main() -> None:
    """Print the table and the JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("questions", type=Path, nargs="?", default=SAMPLE / "questions.jsonl")
    parser.add_argument("--collection", default="company")
    parser.add_argument("--home", type=Path, default=ROOT / "var" / "benchmark-answers")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--policy")
    parser.add_argument("--show", type=int, default=0, help="print so many best and worst answers in full")
    args = parser.parse_args()
    configure_logging()  # on stderr: the table and the JSON object have stdout for themselves
    with open_services(args.home, create=True) as services:
        if args.questions == SAMPLE / "questions.jsonl":
            services.ingestor.ingest([SAMPLE / "company"], args.collection)
        result = measure(services, args)
    for line in result["rows"]:
        print(
            f"{line['answers']:<36} {line['key_fact_recall']:.3f}  {line['words_median']:>5.0f} words (p90 {line['words_p90']:.0f})"
        )
    best, worst = best_and_worst(result.pop("results"), args.show)
    if args.show:
        print_in_full("The best answers:", best)
        print_in_full("The worst answers:", worst)
        print()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
