"""`tacit search`, `ask`, `evaluate`: questions from the command line, and how well a set of them is answered."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ui.cli_output import Context, command_options, progress_bar

if TYPE_CHECKING:
    from chatbot.records import Answer
    from ui.wiring import Services

as_option = click.option(
    "--as",
    "as_user",
    help="Ask as this user, with that person's rights; else as the operator, who reads all.",
)
collection_option = click.option(
    "--collection", "collections", multiple=True, help="Search only here; may be repeated."
)


@click.command()
@click.argument("question")
@as_option
@collection_option
@click.option("--top-k", default=8, show_default=True, type=click.IntRange(1, 100))
@command_options
def search(
    context: Context, question: str, as_user: str | None, collections: tuple[str, ...], top_k: int
) -> None:
    """Show the passages that would be used for a QUESTION."""
    import time

    from ui.wiring import open_services

    with open_services(context.home) as services:
        reader = services.reader(as_user)
        started = time.perf_counter()
        passages = services.retriever.retrieve(
            question, reader, collections=list(collections) or None, top_k=top_k
        )
        seconds = time.perf_counter() - started
    payload = {
        "passages": [
            {
                "document": p.document,
                "heading": p.heading,
                "page": p.page,
                "text": p.text,
                "score": round(p.score, 6),
                "chunk_id": p.chunk_id,
                "title": p.title,
                "collection": p.collection,
                "similarity": round(p.similarity, 4),
            }
            for p in passages
        ],
        "seconds": round(seconds, 3),
    }
    lines = [
        f"{p.rank}. {p.document} · {p.heading or p.title}\n   {' '.join(p.text.split())[:300]}"
        for p in passages
    ]
    context.emit(payload, lines or ["nothing found in the documents you may read"])


@click.command()
@click.argument("question")
@as_option
@collection_option
@click.option("--policy", help="Answer with this policy version instead of the serving one.")
@command_options
def ask(
    context: Context, question: str, as_user: str | None, collections: tuple[str, ...], policy: str | None
) -> None:
    """Answer a QUESTION from the documents, with citations, or say that they don't hold the answer."""
    from ui.wiring import open_services

    with open_services(context.home) as services:
        user = services.accounts.by_name(as_user) if as_user else None
        answer = services.assistant.answer(
            question, services.reader(as_user), collections=list(collections) or None, policy_id=policy
        )
        services.answers.save(answer, user.id if user else None, "cli")
    context.emit(_answer_json(answer), _answer_text(answer))


def _answer_json(answer: Answer) -> dict[str, Any]:
    citations = [
        {
            "number": c.number,
            "document": c.document,
            "heading": c.heading,
            "page": c.page,
            "text": c.text,
            "title": c.title,
        }
        for c in answer.citations
    ]
    return {
        "answer": answer.text,
        "abstained": answer.abstained,
        "citations": citations,
        "policy": answer.policy_id,
        "seconds": round(answer.seconds, 3),
        "answer_id": answer.id,
    }


def _answer_text(answer: Answer) -> list[str]:
    lines = [answer.text, ""]
    for c in answer.citations:
        page = f", page {c.page}" if c.page else ""
        lines.append(f"[{c.number}] {c.document}{page} · {c.heading or c.title}")
    return lines


@click.command()
@click.argument("questions", type=click.Path(path_type=Path))
@collection_option
@as_option
@click.option("--policy", help="Evaluate this policy version instead of the serving one.")
@click.option("--limit", type=click.IntRange(1), help="Only the first N questions.")
@click.option(
    "--report", type=click.Path(path_type=Path), help="Write a report of every question to this folder."
)
@command_options
def evaluate(
    context: Context,
    questions: Path,
    collections: tuple[str, ...],
    as_user: str | None,
    policy: str | None,
    limit: int | None,
    report: Path | None,
) -> None:
    """Measure retrieval, answers and abstention on a question file."""
    from ui.wiring import open_services

    with open_services(context.home) as services:
        result = run_evaluation(
            services, questions, list(collections) or None, as_user, policy, limit, report
        )
    context.emit(result, _evaluation_text(result))


def run_evaluation(
    services: Services,
    questions: Path,
    collections: list[str] | None,
    as_user: str | None,
    policy: str | None,
    limit: int | None,
    report: Path | None,
) -> dict[str, Any]:
    """What `tacit evaluate` measures, as its JSON object."""
    from alignment.evaluation import evaluate_answers
    from knowledge_base.evaluation import evaluate_retrieval
    from knowledge_base.questions import load_questions

    loaded = load_questions(questions)[:limit]
    reader = services.reader(as_user)
    retrieval = evaluate_retrieval(
        loaded, services.retriever, services.knowledge, reader, collections=collections
    )
    with progress_bar("Answering") as update:
        answers = evaluate_answers(
            loaded,
            lambda q: services.assistant.answer(q, reader, collections=collections, policy_id=policy),
            progress=lambda done, total: update(done, total, ""),
            report_dir=report,
        )
    return {"retrieval": retrieval.as_dict(), **answers}


def _evaluation_text(result: dict[str, Any]) -> list[str]:
    lines = [f"{result['n']} questions"]
    for part in ("retrieval", "answers", "abstention", "seconds"):
        figures = ", ".join(f"{k} {v:.3f}" for k, v in result[part].items() if isinstance(v, int | float))
        lines.append(f"{part}: {figures}")
    return lines
