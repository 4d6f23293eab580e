"""Writes a trained checkpoint as the base model that ships with the product: weights, tokenizer and model card in one folder.

Knows nothing of training; it takes whatever folder a run left behind. Weights are rounded to bfloat16, which halves the file and
is the precision they were trained in.

    python -m alignment.base_model_export --checkpoint FOLDER --out chatbot/base_model --card card.json
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

_log = structlog.get_logger(__name__)
MAX_EXPORT_BYTES = 60 * 1000 * 1000
"""What a shipped model may weigh: it stays in the repository's history for good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """What a reader of the folder has to know about the weights in it."""

    name: str
    summary: str
    """What the model is for and what it is not."""
    architecture: str
    data: Sequence[str]
    """One line for each source: name, what it is, licence."""
    licences: str
    """What the data's licences ask of those who pass the weights on."""
    tokens_seen: int
    """Tokens over pretraining and reader training."""
    figures: Mapping[str, float | int]
    """Measured on held-out data; names carry units."""
    seed: int
    machine: str
    commands: Sequence[str]
    """In order; with the same data and seed they make the same model up to rounding."""
    limits: Sequence[str]
    """What it does badly."""

    def render(self) -> str:
        """The card as Markdown with the front matter the Hugging Face hub reads."""
        figures = "\n".join(f"| {name} | {_number(value)} |" for name, value in self.figures.items())
        sections = {
            "Architecture": self.architecture,
            "Data": _bullets(self.data),
            "Licences": self.licences,
            "Training": f"{self.tokens_seen:,} tokens seen; seed {self.seed}; {self.machine}.",
            "Figures": f"| figure | value |\n|---|---|\n{figures}",
            "Limits": _bullets(self.limits),
            "Commands": "```\n" + "\n".join(self.commands) + "\n```",
        }
        front = "---\nlanguage: en\nlibrary_name: transformers\npipeline_tag: text-generation\nlicense: cc-by-sa-4.0\n---"
        body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items())
        return f"{front}\n\n# {self.name}\n\n{self.summary}\n\n{body}\n"


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def export_base_model(checkpoint_dir: Path, out_dir: Path, card: ModelCard) -> Path:
    """Write weights (bfloat16 safetensors), config, generation config, tokenizer and `README.md`.

    Args:
        checkpoint_dir: A folder that transformers loads, tokenizer included.
        out_dir: Made if absent; files of the same names are replaced.
        card: Becomes `README.md`.

    Raises:
        ValueError: If the pad token is the end token (such a model never learns to stop), or the files weigh too much.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    tokenizer = AutoTokenizer.from_pretrained(checkpoint_dir)
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        raise ValueError(f"{checkpoint_dir}: the tokenizer needs a pad token that is not its end token")
    model = AutoModelForCausalLM.from_pretrained(checkpoint_dir, dtype=torch.bfloat16)
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        max_new_tokens=160,
        do_sample=False,
    )
    out_dir.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out_dir)
    tokenizer.save_pretrained(out_dir)
    (out_dir / "README.md").write_text(card.render(), encoding="utf-8")
    for path in out_dir.iterdir():
        path.chmod(0o644)  # safetensors writes for its owner alone; a server may run as somebody else
    size = sum(path.stat().st_size for path in out_dir.iterdir())
    if size > MAX_EXPORT_BYTES:
        raise ValueError(
            f"{out_dir} weighs {size:,} bytes, more than {MAX_EXPORT_BYTES:,}. Train a smaller model."
        )
    _log.info("base_model_exported", path=str(out_dir), bytes=size)
    return out_dir


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m alignment.base_model_export", description="Export a checkpoint."
    )
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--card", type=Path, required=True, help="JSON object with the fields of ModelCard")
    given = parser.parse_args(arguments)
    try:
        card = ModelCard(**json.loads(given.card.read_text(encoding="utf-8")))
        export_base_model(given.checkpoint, given.out, card)
    except TypeError:
        names = ", ".join(field.name for field in dataclasses.fields(ModelCard))
        sys.stderr.write(f"{given.card}: expected an object with exactly {names}.\n")
        return 2
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
