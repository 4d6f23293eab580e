"""Writes an evaluation as pages that a person can read: every question, its answer, the verdict and the cause of a failure.

Knows nothing of how results came about. Two files of the same content: `report.html`, which stands alone (no script, nothing loaded
from anywhere), and `report.md`; and `results.jsonl` for other programs.
"""

from __future__ import annotations

import html
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alignment.answer_metrics import citation_supports
from alignment.calibration import ReliabilityBin, as_svg, expected_calibration_error, reliability
from alignment.evaluation import QuestionResult
from knowledge_base.errors import StorageError

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse}td,th{border:1px solid #ccc;padding:.3rem .6rem;text-align:left}"
    "article{border-left:4px solid #b33;padding:.1rem 1rem;margin:1.2rem 0}article.right{border-color:#3a3}"
    ".cause{font-weight:600}.muted{color:#666}"
    ".reliability path{stroke:#999;fill:none}.reliability .right{stroke-dasharray:4}.reliability circle{fill:#2a6;fill-opacity:.7}"
    ".reliability text{font:11px system-ui,sans-serif;fill:#666}"
    "@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}td,th{border-color:#444}.muted{color:#999}"
    ".reliability text{fill:#999}}"
)


def write_report(results: Sequence[QuestionResult], summary: dict[str, Any], directory: Path) -> None:
    """Write `report.html`, `report.md` and `results.jsonl` into a directory, made if missing.

    Raises:
        StorageError: the directory cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "report.html").write_text(_as_html(results, summary), encoding="utf-8")
        (directory / "report.md").write_text(_as_markdown(results, summary), encoding="utf-8")
        lines = (json.dumps(_as_row(result), ensure_ascii=False) for result in results)
        (directory / "results.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    except OSError as error:
        raise StorageError(
            f"the report cannot be written to {directory} ({error.strerror}): choose another directory"
        ) from error


def count_causes(results: Sequence[QuestionResult]) -> list[tuple[str, int]]:
    """How often each cause occurred, most frequent first."""
    return Counter[str](result.cause for result in results).most_common()


def _figures(summary: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [("questions", str(summary["n"]))]
    for group in ("answers", "abstention", "seconds"):
        rows += [(f"{group}: {name}", f"{value:.3f}") for name, value in summary[group].items()]
    return rows


def _as_row(result: QuestionResult) -> dict[str, Any]:
    answer = result.answer
    return {
        "id": result.question.id,
        "question": result.question.question,
        "answerable": result.question.answerable,
        "expected": result.question.answer,
        "answer": answer.text,
        "abstained": answer.abstained,
        "cause": result.cause,
        "has_key_facts": result.has_key_facts,
        "token_f1": result.token_f1,
        "rouge_l": result.rouge_l,
        "citations": [{"number": c.number, "document": c.document, "text": c.text} for c in answer.citations],
        "evidence": [item.text for item in answer.prepared.evidence],
        "seconds": answer.seconds,
    }


def _as_markdown(results: Sequence[QuestionResult], summary: dict[str, Any]) -> str:
    lines = ["# Evaluation", "", "| figure | value |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in _figures(summary)]
    lines += ["", "| cause | questions |", "|---|---|"]
    lines += [f"| {cause} | {n} |" for cause, n in count_causes(results)]
    if bins := reliability(_evidence_predictions(results)):
        lines += ["", _calibration(bins), "", "| said | was so | questions |", "|---|---|---|"]
        lines += [f"| {part.mean_probability:.2f} | {part.share_true:.2f} | {part.n} |" for part in bins]
    for result in results:
        lines += ["", f"## {_one_line(result.question.id)}: {_one_line(result.question.question)}", ""]
        lines.append(f"**{result.cause}**{_scores(result)}")
        lines += ["", f"> {_one_line(result.answer.text)}", ""]
        lines.append(f"Expected: {_expected(result)}")
        lines += [
            f"- [{c.number}] {_one_line(c.document)}: {_one_line(c.text)}" for c in result.answer.citations
        ]
    return "\n".join(lines) + "\n"


def _as_html(results: Sequence[QuestionResult], summary: dict[str, Any]) -> str:
    figures = "".join(
        f"<tr><td>{html.escape(n)}</td><td>{html.escape(v)}</td></tr>" for n, v in _figures(summary)
    )
    causes = "".join(f"<tr><td>{html.escape(c)}</td><td>{n}</td></tr>" for c, n in count_causes(results))
    articles = "".join(_as_article(result) for result in results)
    bins = reliability(_evidence_predictions(results))
    plot = f"<h2>Reliability</h2><p>{_calibration(bins)}</p>{as_svg(bins, 'Reliability')}" if bins else ""
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Evaluation</title><style>{_STYLE}</style>'
        f"<h1>Evaluation</h1><table>{figures}</table><h2>Causes</h2><table>{causes}</table>{plot}<h2>Questions</h2>{articles}</html>\n"
    )


def _evidence_predictions(results: Sequence[QuestionResult]) -> list[tuple[float, bool]]:
    """For each question with a known truth: how likely the evidence was said to answer it, and whether it supports the answer.

    The probability is `PreparedTurn.support`, by which Tacit decides whether to ask the model.
    """
    return [
        (result.answer.prepared.support, _evidence_answers(result))
        for result in results
        if result.question.answerable is False
        or (result.question.answerable and (result.question.evidence or result.question.key_facts))
    ]


def _evidence_answers(result: QuestionResult) -> bool:
    question = result.question
    return question.answerable is not False and any(
        citation_supports(item.text, question.evidence or "", question.key_facts)
        for item in result.answer.prepared.evidence
    )


def _calibration(bins: Sequence[ReliabilityBin]) -> str:
    error = expected_calibration_error(bins)
    return f"How likely the evidence was said to answer, and how often it did; the expected calibration error is {error:.3f}."


def _as_article(result: QuestionResult) -> str:
    citations = "".join(
        f"<li>[{c.number}] <span class=muted>{html.escape(c.document)}</span> {html.escape(c.text)}</li>"
        for c in result.answer.citations
    )
    kind = "right" if result.cause == "right" else "wrong"
    return (
        f"<article class={kind}><h3>{html.escape(result.question.id)}: {html.escape(result.question.question)}</h3>"
        f"<p><span class=cause>{html.escape(result.cause)}</span>{html.escape(_scores(result))}</p>"
        f"<blockquote>{html.escape(result.answer.text)}</blockquote>"
        f"<p class=muted>Expected: {html.escape(_expected(result))}</p><ul>{citations}</ul></article>"
    )


def _scores(result: QuestionResult) -> str:
    return "" if result.token_f1 is None else f", token F1 {result.token_f1:.2f}"


def _expected(result: QuestionResult) -> str:
    if result.question.answerable is False:
        return "an abstention"
    facts = "; ".join(result.question.key_facts)
    return _one_line(result.question.answer or "") + (f" (key facts: {facts})" if facts else "")


def _one_line(text: str) -> str:
    return " ".join(text.split())
