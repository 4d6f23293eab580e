"""Write pages that the evidence encoder never learned from, and the questions asked of them, as a folder to ingest and a question file.

    python tools/write_held_out_pages.py DATA OUT [--pages 260] [--questions 1200] [--seed 5]
    tacit init --home HOME
    tacit ingest OUT/pages --collection pages --home HOME
    tacit evaluate OUT/questions.jsonl --collection pages --home HOME --limit 400

DATA holds `text/hb_gitlab.jsonl.xz`. What retrieval is tuned on, so that no figure that is reported has to be. The first of a question's right sentences
is its evidence and its answer; questions were written with the page in view, so they flatter retrieval a little.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

from alignment.asked_questions import asked_questions
from alignment.corpus import read_corpus
from alignment.evidence_encoder_settings import is_held_out_page


def file_name(path: str) -> str:
    """A page's file.

    >>> file_name("content/handbook/_index.md")
    'content__handbook___index.md'
    """
    return Path(path.replace("/", "__")).with_suffix(".md").name


def main() -> None:
    """Write both."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--pages", type=int, default=260)
    parser.add_argument("--questions", type=int, default=1200)
    parser.add_argument("--seed", type=int, default=5)
    args = parser.parse_args()

    corpus = args.data / "text" / "hb_gitlab.jsonl.xz"
    rng = random.Random(args.seed)
    asked = [q for q in asked_questions(corpus) if q.right and is_held_out_page(q.document)]
    pages = sorted({question.document for question in asked})
    chosen = set(rng.sample(pages, min(args.pages, len(pages))))
    (args.out / "pages").mkdir(parents=True, exist_ok=True)
    for document in read_corpus(corpus):
        if f"{document.source}/{document.path}" in chosen:
            (args.out / "pages" / file_name(document.path)).write_text(document.text, "utf-8")
    asked = [question for question in asked if question.document in chosen]
    rng.shuffle(asked)
    rows = [
        {
            "id": f"page-{number}",
            "question": question.question,
            "answerable": True,
            "answer": question.right[0].text,
            "document": file_name(question.document.partition("/")[2]),
            "evidence": question.right[0].text,
            "key_facts": [question.right[0].text],
        }
        for number, question in enumerate(asked[: args.questions])
    ]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (args.out / "questions.jsonl").write_text(lines, "utf-8")
    print(f"{len(chosen)} pages and {len(rows)} questions in {args.out}")


if __name__ == "__main__":
    main()
