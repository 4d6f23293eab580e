"""A whole home with real parts, small: four documents, the real embedder, a random Llama as base model, simulated judgements."""

from __future__ import annotations

import json
from pathlib import Path

from tests.chatbot.tiny_models import make_tiny_model
from ui.cli import run

TINY_CYCLE = (
    "cycle.gate_questions=3",
    "cycle.judge_min_judgements=1",
    "cycle.optimise_uninformed=true",
    "snapshot.max_derived=14",
    "snapshot.max_derived_held_out=10",
    "snapshot.max_rollouts=8",
    "snapshot.held_out_share=0.4",
    "sft.max_steps=2",
    "sft.batch_size=4",
    "sft.micro_batch_size=2",
    "sft.save_steps=1",
    "reward.max_steps=2",
    "reward.batch_size=2",
    "reward.micro_batch_size=2",
    "ppo.steps=2",
    "ppo.prompts_per_step=2",
    "ppo.samples_per_prompt=2",
    "ppo.minibatches=1",
    "ppo.epochs=1",
    "ppo.max_new_tokens=8",
    "ppo.max_prompt_tokens=1900",
    "ppo.value_warmup_steps=1",
)
"""A cycle of a few seconds: every stage takes real steps, none learns anything."""

SECTIONS = {
    "leave.md": (
        "Leave",
        {
            "Annual leave": "Every employee gets 25 days of annual leave each year. Unused days end in March.",
            "Sick leave": "Call your manager before ten in the morning. A doctor's note is needed from day four.",
            "Parental leave": "Parents get 16 weeks of paid parental leave. It may be split into two parts.",
        },
    ),
    "travel.md": (
        "Travel",
        {
            "Hotels": "The hotel limit in London is 180 pounds per night. Book through the travel desk.",
            "Trains": "Rail travel under four hours is second class. Keep the ticket for your claim.",
            "Taxis": "A taxi is paid for after ten in the evening. Add the receipt to the claim.",
        },
    ),
    "it.md": (
        "IT",
        {
            "Passwords": "A password needs fourteen characters. Change it when you think that somebody knows it.",
            "Laptops": "A broken laptop is replaced within two working days. Bring it to the service desk.",
            "Backups": "Files on the shared drive are backed up every night. Your desktop is not backed up.",
        },
    ),
    "office.md": (
        "Office",
        {
            "Parking": "Parking permits are given out by reception. There are forty places behind the building.",
            "Visitors": "Visitors sign in at reception and wear a badge. Meet them at the door.",
            "Kitchen": "The kitchen closes at six in the evening. Label what you put into the fridge.",
        },
    ),
}
RESTRICTED = "# Pay bands\n\nThe middle of pay band T3 is 52000 euros per year.\n"

QUESTIONS = (
    (
        "How many days of annual leave do I get?",
        "Every employee gets 25 days of annual leave each year.",
        "25",
    ),
    ("What is the hotel limit in London?", "The hotel limit in London is 180 pounds per night.", "180"),
    ("How long does a password need to be?", "A password needs fourteen characters.", "fourteen"),
    ("Who gives out parking permits?", "Parking permits are given out by reception.", "reception"),
    ("When does the kitchen close?", "The kitchen closes at six in the evening.", "six"),
    (
        "Are files on the shared drive backed up?",
        "Files on the shared drive are backed up every night.",
        "night",
    ),
)
PREFERENCE = """
def prefer(question, answers):
    '''Whoever writes less is better.'''
    lengths = sorted({len(a.completion) for a in answers})
    return [[i for i, a in enumerate(answers) if len(a.completion) == n] for n in lengths]
"""


def make_tiny_home(folder: Path) -> Path:
    """Folder with `home/` (20 judgements), `docs/`, `pay/`, `questions.jsonl` and `prefer.py`; returns it."""
    model = make_tiny_model(folder / "model", "llama", context=2048)
    home = folder / "home"
    home.mkdir()
    (home / "settings.toml").write_text(f'[model]\nbase = "{model}"\n[assistant]\nmax_new_tokens = 12\n')
    for name, (title, sections) in SECTIONS.items():
        body = "\n\n".join(f"## {heading}\n\n{text}" for heading, text in sections.items())
        _write(folder / "docs" / name, f"# {title}\n\n{body}\n")
    _write(folder / "pay" / "bands.md", RESTRICTED)
    _write(folder / "questions.jsonl", "\n".join(_question_lines()) + "\n")
    _write(folder / "prefer.py", PREFERENCE)
    assert run(["ingest", str(folder / "docs"), "--collection", "handbook", "--home", str(home)]) == 0
    pay = ["ingest", str(folder / "pay"), "--collection", "pay", "--groups", "hr", "--home", str(home)]
    assert run(pay) == 0
    judge = ["simulate", f"{folder / 'questions.jsonl'}", "--preferences", f"{folder / 'prefer.py'}:prefer"]
    assert run([*judge, "--turns", "8", "--users", "3", "--home", str(home)]) == 0
    # What a random model writes is replaced by the same quotation each time; people tell these answers apart.
    _write(folder / "judged.jsonl", "\n".join(_judged_lines()) + "\n")
    assert run(["feedback", "import", str(folder / "judged.jsonl"), "--home", str(home)]) == 0
    return folder


def _judged_lines() -> list[str]:
    """A comparison and a rating a question."""
    lines: list[dict[str, object]] = []
    for question, evidence, _ in QUESTIONS:
        answer, padded = f"{evidence} [1]", f"Short answer: {evidence} [1] I hope that helps."
        common = {"question": question, "user": "sim-01"}
        lines += [
            {**common, "kind": "comparison", "answers": [answer, padded], "ranking": [[0], [1]]},
            {**common, "kind": "rating", "answer": answer, "label": True},
        ]
    return [json.dumps(line) for line in lines]


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, "utf-8")


def _question_lines() -> list[str]:
    documents = ["leave.md", "travel.md", "it.md", "office.md", "office.md", "it.md"]
    return [
        json.dumps(
            {
                "id": f"q{n}",
                "question": question,
                "answerable": True,
                "answer": evidence,
                "document": document,
                "evidence": evidence,
                "key_facts": [fact],
            }
        )
        for n, ((question, evidence, fact), document) in enumerate(zip(QUESTIONS, documents, strict=True))
    ]
