"""Trains the judge of whether evidence answers: a model that reads question and sentence together, and one list of sentences a question.

Each of N sentences gets a logit s_i, "none of them" has logit 0, and the loss is the cross-entropy of the softmax over all N + 1: the right
sentence's place, or none's where nothing in the list answers (as answer sentence selection with an empty candidate). Knows nothing of how the result is
served (`chatbot.answerability`).

Different from the usual cross-encoder with a loss on each pair: the sum of exponentials is trained to be the odds that anything answers, so serving
needs no second model and no threshold of a maximum. The wrong sentences are those that an encoder takes for answers, of the question's own page
and of all pages.

    python -m alignment.answer_judge --set data_dir=DATA --set work_dir=WORK_FOLDER
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import structlog
import torch

from alignment.answer_judge_settings import JudgeSettings
from alignment.encoder_pairs import EncoderPair, PairSettings
from alignment.errors import TrainingError
from alignment.evidence_encoder import collect, pairs_once
from alignment.evidence_encoder_settings import EncoderSettings
from alignment.tuning_run import TuningRun, train_from_command_line, write_result
from chatbot.answerability import log_sum_exp, pair_logits
from knowledge_base.embedder import SentenceTransformerEmbedder

_log = structlog.get_logger(__name__)

JUDGE = "judge.safetensors"
_KEPT = PairSettings(stretches=0, look_alikes=20, beside=12)
_MEASURED_SENTENCES = 12
_MEASURED_AT_ONCE = 32


def draw_list(pair: EncoderPair, settings: JudgeSettings, rng: random.Random) -> tuple[list[str], int]:
    """The sentences a question is read with, and the place of the one that answers; `settings.sentences` where none does.

    What answers comes first, since the model reads each sentence by itself and sees no place.
    """
    n = settings.sentences
    answered = bool(pair.right) and rng.random() >= settings.dropped_share
    texts = [rng.choice(pair.right)] if answered else []
    own = rng.sample(pair.beside, min(settings.of_own_page, len(pair.beside), n - len(texts)))
    far = [text for text in pair.look_alikes if text not in own]
    texts += own
    texts += rng.sample(far, min(n - len(texts), len(far)))
    rest = [text for text in pair.beside if text not in own]
    texts += rng.sample(rest, min(n - len(texts), len(rest)))
    while len(texts) < n:  # a short page with few look-alikes: what is there is read twice
        texts.append(rng.choice(texts[1:] or pair.look_alikes or pair.beside))
    return texts, 0 if answered else n


class JudgeRun(TuningRun[EncoderPair]):
    """Learns which sentence answers, or that none does."""

    def __init__(self, settings: JudgeSettings, pairs: Sequence[EncoderPair], start: Path) -> None:
        """See `TuningRun`; one pair a question, with or without what is right."""
        self._settings = settings
        super().__init__(settings, pairs, start)

    def make_head(self) -> torch.nn.Module:
        """One hidden layer, and a logit that begins at the odds of one in N sentences."""
        width = self.model.config.hidden_size
        head = torch.nn.ModuleDict({"dense": torch.nn.Linear(width, width), "out": torch.nn.Linear(width, 1)})
        out: Any = head["out"]
        torch.nn.init.zeros_(out.weight)
        torch.nn.init.constant_(out.bias, -float(np.log(self._settings.sentences)))
        return head

    def logits(self, questions: Sequence[str], texts: Sequence[str]) -> torch.Tensor:
        """A logit for each question with its text, (n,), in float32; pairs of like length are read together."""
        order = sorted(range(len(texts)), key=lambda i: len(questions[i]) + len(texts[i]))
        parts = []
        for chunk in np.array_split(np.array(order), max(1, len(order) // 128)):
            batch = self.tokenizer(
                [questions[i] for i in chunk],
                [texts[i] for i in chunk],
                padding=True,
                truncation="longest_first",
                max_length=self._settings.pair_tokens,
                return_tensors="pt",
            ).to(self.model.device)
            device = self.model.device.type
            with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
                states = self.model(**batch).last_hidden_state
            parts.append(
                pair_logits(states.float(), batch["attention_mask"], dict(self.head.named_parameters()))
            )
        places = torch.empty(len(order), dtype=torch.long)
        places[torch.tensor(order)] = torch.arange(len(order))
        return torch.cat(parts)[places.to(self.model.device)]

    def loss(self, batch: Sequence[EncoderPair]) -> torch.Tensor:
        """Cross-entropy over the sentences of each list and "none"."""
        rng = random.Random(f"{self._settings.seed} draw {self.step}")  # noqa: S311 -- data, not secrets
        lists = [draw_list(pair, self._settings, rng) for pair in batch]
        n = self._settings.sentences
        scores = self.logits(
            [pair.question for pair in batch for _ in range(n)],
            [text for texts, _ in lists for text in texts],
        ).view(len(batch), n)
        with_none = torch.cat([scores, scores.new_zeros(len(batch), 1)], dim=1)
        places = torch.tensor([place for _, place in lists], device=scores.device)
        return torch.nn.functional.cross_entropy(with_none, places)


def measure(run: JudgeRun, held_out: Sequence[EncoderPair]) -> dict[str, float]:
    """How well a judge tells held-out questions with an answer on the page from those without, and chooses the sentence.

    Every question is read with the sentences of its own page nearest to it, and its answer where it has one.

    Returns:
        `auc`: chance that a question with an answer has the higher probability; `first`: share of those whose right sentence has the highest
        logit; `probability_answered`, `probability_unanswered`: mean P; `answered`, `unanswered`: how many.
    """
    run.model.eval()
    found: dict[bool, list[float]] = {True: [], False: []}
    n_first = 0
    with torch.no_grad():
        for start in range(0, len(held_out), _MEASURED_AT_ONCE):
            block = held_out[start : start + _MEASURED_AT_ONCE]
            lists = [[*pair.right[:1], *pair.beside][:_MEASURED_SENTENCES] for pair in block]
            questions = [pair.question for pair, texts in zip(block, lists, strict=True) for _ in texts]
            scores = iter(run.logits(questions, [text for texts in lists for text in texts]).tolist())
            for pair, texts in zip(block, lists, strict=True):
                own = [next(scores) for _ in texts]
                found[bool(pair.right)].append(log_sum_exp(own))
                n_first += bool(pair.right) and max(own) == own[0]
    run.model.train()
    answered, unanswered = (np.array(found[key]) for key in (True, False))
    if not len(answered) or not len(unanswered):
        return {"answered": float(len(answered)), "unanswered": float(len(unanswered))}
    higher = (answered[:, None] > unanswered[None]).mean()
    equal = (answered[:, None] == unanswered[None]).mean()
    return {
        "auc": float(higher + equal / 2),
        "first": n_first / len(answered),
        "probability_answered": float((1 / (1 + np.exp(-answered))).mean()),
        "probability_unanswered": float((1 / (1 + np.exp(-unanswered))).mean()),
        "answered": float(len(answered)),
        "unanswered": float(len(unanswered)),
    }


def train(settings: JudgeSettings, progress: Callable[[str], None] = lambda _: None) -> Path:
    """Train and write the result; returns the file of weights, which `chatbot.answerability.PairJudge` reads.

    Args:
        settings: See `JudgeSettings`.
        progress: Called with a line now and then.

    Raises:
        TrainingError: there is nothing to learn from.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    lists_of = EncoderSettings(
        data_dir=settings.data_dir,
        work_dir=settings.work_dir,
        set_questions=settings.set_questions,
        held_out_percent=settings.held_out_percent,
        seed=settings.seed,
    )
    learn, held_out = collect(lists_of)
    embedder = SentenceTransformerEmbedder(tuned=settings.encoder)
    progress(f"{len(learn):,} questions to learn from, {len(held_out):,} held out; looking for look-alikes")
    pairs = pairs_once(
        learn, embedder, lists_of, kept=_KEPT, unanswered=True, name="lists", progress=progress
    )
    if not pairs:
        raise TrainingError("no question has a sentence to be read with: there is nothing to learn from")
    rng = random.Random(settings.seed)  # noqa: S311 -- a choice, not a secret
    measured = rng.sample(held_out, min(settings.measured_questions, len(held_out)))
    measured_pairs = pairs_once(
        measured, embedder, lists_of, kept=_KEPT, unanswered=True, name="held_out_lists"
    )
    run = JudgeRun(settings, pairs, SentenceTransformerEmbedder().directory)
    finished = run.go(progress)
    figures = measure(run, measured_pairs)
    _log.info("answer_judge_trained", step=run.step, finished=finished, **figures)
    return _export(run, settings, {**figures, "lists": len(pairs), "finished": finished})


def _export(run: JudgeRun, settings: JudgeSettings, figures: dict[str, Any]) -> Path:
    head = {f"head.{name}": value.detach().float().cpu() for name, value in run.head.state_dict().items()}
    return write_result(
        settings.work_dir / JUDGE, {**run.tuned_weights(), **head}, {**figures, "step": run.step}, settings
    )


def main() -> None:
    """Train from the command line."""
    train_from_command_line(__doc__, JudgeSettings, train)


if __name__ == "__main__":
    main()
