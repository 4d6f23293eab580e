"""A few made-up pages and questions, small enough to train on in a second."""

from __future__ import annotations

import gzip
import json
import lzma
import random
from pathlib import Path

_SUBJECTS = (
    "leave",
    "travel",
    "laptop",
    "badge",
    "parking",
    "pension",
    "training",
    "expense",
    "meeting",
    "printer",
)
_VERBS = ("request", "approve", "return", "report", "renew", "cancel")


def page(number: int) -> str:
    """A Markdown page of four sections, different for each number."""
    rng = random.Random(number)
    lines = [f"# Handbook part {number}", ""]
    for subject in rng.sample(_SUBJECTS, 4):
        verb, days = rng.choice(_VERBS), rng.randint(2, 90)
        lines += [
            f"## {subject.capitalize()} rules",
            f"You must {verb} your {subject} within {days} days of the first notice.",
            f"The {subject} desk of part {number} is open on weekdays from nine. If you {verb} the {subject} late, part {number} charges {days + 3} dollars.",
            f"- To {verb} a {subject}, open form {number}{days} and sign it in blue ink.",
            "",
        ]
    return "\n".join(lines)


def write_corpora(folder: Path, *, pages: int = 24) -> Path:
    """Two corpora of pages, `hb_gitlab` and `txt_eltec`, as the loader reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    for source, first in (("hb_gitlab", 0), ("txt_eltec", 1000)):
        with lzma.open(folder / f"{source}.jsonl.xz", "wt", encoding="utf-8") as lines:
            for number in range(first, first + pages):
                row = {"source": source, "path": f"pages/{number}.md", "text": page(number)}
                lines.write(json.dumps(row) + "\n")
    return folder


def write_question_set(folder: Path, *, n: int = 12) -> Path:
    """A question set in SQuAD's form, every third question unanswerable."""
    (folder / "qa_squad2dev").mkdir(parents=True, exist_ok=True)
    with gzip.open(folder / "qa_squad2dev" / "qa.jsonl.gz", "wt", encoding="utf-8") as lines:
        for number in range(n):
            context = (
                f"The tower of city {number} was built in 18{number:02d}. It stands beside the old river gate. "
                f"Its keeper was called Anna Number{number}. Many travellers visited the tower every summer."
            )
            answerable = number % 3 != 0
            row = {
                "title": f"City_{number}",
                "context": context,
                "question": f"When was the tower of city {number} {'built' if answerable else 'demolished'}?",
                "answers": [f"18{number:02d}"] if answerable else [],
                "answerable": answerable,
            }
            lines.write(json.dumps(row) + "\n")
    return folder
