"""Trains the encoder that finds evidence: the bundled embedder learns to put a question near the sentence that answers it.

Knows nothing of where pairs come from (`encoder_pairs`) or how the result is served (`SentenceTransformerEmbedder` lays it over the bundled
model). The loss is InfoNCE over the batch (van den Oord et al. 2018, arXiv:1807.03748, eq. 4), as multiple negatives ranking: every other positive
and every look-alike of the batch is wrong for a question.

Different from sentence-transformers' trainer: word embeddings stay as they are, so that the result is half the size and rare words keep their
meaning; nothing asks a hub for anything; the learning rate falls to zero over the steps given; a run continues from its newest checkpoint.

    python -m alignment.evidence_encoder --set data_dir=DATA --set work_dir=WORK_FOLDER
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import structlog
import torch

from alignment.asked_questions import HANDBOOK_QUESTIONS, asked_questions, pages_of_first
from alignment.encoder_pairs import EncoderPair, PairSettings, as_evidence, make_pairs
from alignment.errors import TrainingError
from alignment.evidence_encoder_settings import EncoderSettings, is_held_out_page
from alignment.reader_sources import SourceQuestion, questions_from_sets
from alignment.text_encoder import TextEncoder, info_nce
from alignment.tuning_run import TuningRun, train_from_command_line, write_result
from chatbot.durable_files import written_atomically
from knowledge_base.embedder import SentenceTransformerEmbedder, lay_over
from knowledge_base.protocols import Embedder

_log = structlog.get_logger(__name__)

TUNED = "tuned.safetensors"
_DEPTHS = (1, 3, 6, 14)


def collect(settings: EncoderSettings) -> tuple[list[SourceQuestion], list[SourceQuestion]]:
    """Questions to learn from and held-out ones, split by page.

    Raises:
        TrainingError: the corpus is not there.
    """
    corpus = settings.data_dir / "text" / "hb_gitlab.jsonl.xz"
    if not corpus.exists():
        raise TrainingError(f"{corpus} is missing: set data_dir to the folder of the training corpora")
    sides: dict[bool, list[SourceQuestion]] = {False: [], True: []}
    for question in asked_questions(corpus):
        sides[is_held_out_page(question.document, settings.held_out_percent)].append(question)
    others = [
        question
        for question in questions_from_sets(settings.data_dir)
        if question.right and not is_held_out_page(question.document, settings.held_out_percent)
    ]
    rng = random.Random(f"{settings.seed} sets")  # noqa: S311 -- data, not secrets
    sides[False] += rng.sample(others, min(settings.set_questions, len(others)))
    return sides[False], sides[True]


def recall(
    encoder: TextEncoder, held_out: Sequence[SourceQuestion], settings: EncoderSettings
) -> dict[str, float]:
    """Share of held-out questions whose best right sentence is among the first so many of all their pages' sentences."""
    answered = [question for question in held_out if question.right]
    rng = random.Random(settings.seed)  # noqa: S311 -- a choice, not a secret
    asked = rng.sample(answered, min(settings.measured_questions, len(answered)))
    if not asked:
        return {}
    texts = list(dict.fromkeys(as_evidence(s) for q in asked for s in (*q.right, *q.near)))
    place = {text: number for number, text in enumerate(texts)}
    pool = encoder.encode(texts, settings.text_tokens)
    similarities = encoder.encode([q.question for q in asked], settings.question_tokens) @ pool.T
    ranks = []
    for question, row in zip(asked, similarities, strict=True):
        best = max(float(row[place[as_evidence(sentence)]]) for sentence in question.right)
        ranks.append(int((row > best).sum()))
    return {f"recall@{depth}": float(np.mean([rank < depth for rank in ranks])) for depth in _DEPTHS}


def pairs_once(
    questions: Sequence[SourceQuestion],
    embedder: Embedder,
    settings: EncoderSettings,
    *,
    kept: PairSettings | None = None,
    unanswered: bool = False,
    name: str = "pairs",
    progress: Callable[[str], None] = lambda _: None,
) -> list[EncoderPair]:
    """The pairs, made once for a work folder and these settings: to find the look-alikes takes minutes, and a run may be resumed.

    Args:
        questions: To make them of.
        embedder: Finds the look-alikes.
        settings: Seed and work folder.
        kept: What a pair keeps.
        unanswered: See `make_pairs`.
        name: Of the file.
        progress: See `make_pairs`.
    """
    kept = kept or PairSettings()
    path = settings.work_dir / f"{name}.jsonl"
    made_from = json.dumps([settings.seed, embedder.version, repr(kept), unanswered, _name(questions)])
    if path.exists():
        first, *rows = path.read_text("utf-8").splitlines()
        if first == made_from:
            return [_read_pair(row) for row in rows]
    rng = random.Random(settings.seed)  # noqa: S311 -- data, not secrets
    pairs = make_pairs(questions, embedder, kept, rng, unanswered=unanswered, progress=progress)
    with written_atomically(path) as file:
        file.write("\n".join([made_from, *(json.dumps(asdict(pair)) for pair in pairs)]) + "\n")
    return pairs


def _read_pair(row: str) -> EncoderPair:
    pair = json.loads(row)
    texts = {name: tuple(pair[name]) for name in ("right", "stretches", "look_alikes", "beside")}
    return EncoderPair(question=pair["question"], **texts)


def _name(questions: Sequence[SourceQuestion]) -> str:
    asked = "\n".join(f"{question.document} {question.question}" for question in questions)
    return hashlib.sha256(asked.encode()).hexdigest()


def train(settings: EncoderSettings, progress: Callable[[str], None] = lambda _: None) -> Path:
    """Train and write the result; returns the file of tuned weights.

    Args:
        settings: See `EncoderSettings`.
        progress: Called with a line now and then.

    Raises:
        TrainingError: there is nothing to learn from.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    learn, held_out = collect(settings)
    embedder = SentenceTransformerEmbedder(tuned=settings.start)
    progress(f"{len(learn):,} questions to learn from, {len(held_out):,} held out; looking for look-alikes")
    pairs = replayed(pairs_once(learn, embedder, settings, progress=progress), learn, settings)
    if not pairs:
        raise TrainingError("no question has an answer and a look-alike: there is nothing to learn from")
    run = _Run(settings, pairs, embedder.directory)
    before = recall(run.encoder, held_out, settings) if run.step == 0 else {}
    finished = run.go(progress)
    after = recall(run.encoder, held_out, settings)
    _log.info("evidence_encoder_trained", step=run.step, finished=finished, before=before, after=after)
    return _export(
        run, settings, {"before": before, "after": after, "pairs": len(pairs), "finished": finished}
    )


def replayed(
    pairs: Sequence[EncoderPair], learn: Sequence[SourceQuestion], settings: EncoderSettings
) -> list[EncoderPair]:
    """The pairs of new pages' questions and a share of the others': what is known teaches little and takes as long."""
    if settings.learned == 0 or settings.replay_share == 1:
        return list(pairs)
    known = pages_of_first(settings.learned, HANDBOOK_QUESTIONS)
    fresh = {question.question for question in learn if question.document not in known}
    rng = random.Random(f"{settings.seed} replay")  # noqa: S311 -- data, not secrets
    return [pair for pair in pairs if pair.question in fresh or rng.random() < settings.replay_share]


class _Run(TuningRun[EncoderPair]):
    """Brings questions near their answers."""

    def __init__(self, settings: EncoderSettings, pairs: Sequence[EncoderPair], start: Path) -> None:
        self._settings = settings
        super().__init__(settings, pairs, start)
        if settings.start and self.step == 0:
            lay_over(self.model, settings.start)
        self.encoder = TextEncoder(self.model, self.tokenizer)

    def loss(self, batch: Sequence[EncoderPair]) -> torch.Tensor:
        """InfoNCE over the batch."""
        settings = self._settings
        rng = random.Random(f"{settings.seed} draw {self.step}")  # noqa: S311 -- data, not secrets
        texts = [pair.draw_positive(settings.stretch_share, rng) for pair in batch]
        texts += [text for pair in batch for text in pair.draw_negatives(rng)]
        same = torch.tensor(
            [
                [j != i and text in (*pair.right, texts[i]) for j, text in enumerate(texts)]
                for i, pair in enumerate(batch)
            ],
            device=self.model.device,
        )
        questions = self.encoder([pair.question for pair in batch], settings.question_tokens)
        return info_nce(questions, self.encoder(texts, settings.text_tokens), same, settings.scale)


def _export(run: _Run, settings: EncoderSettings, figures: dict[str, Any]) -> Path:
    """Weights in bfloat16 without the word embeddings, and a card of figures beside them."""
    return write_result(
        settings.work_dir / TUNED, run.tuned_weights(), {**figures, "step": run.step}, settings
    )


def main() -> None:
    """Train from the command line."""
    train_from_command_line(__doc__, EncoderSettings, train)


if __name__ == "__main__":
    main()
