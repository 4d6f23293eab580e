"""Which rows SFT sees, how often, and as which tokens.

Knows nothing of training. Different from the usual recipe, which imitates everything there is: pairs derived from documents teach a model that
cannot do it yet to answer from evidence and to cite. One that can loses by them, since their targets are a section's own words cut to three
sentences, and says less than it knows. So a model that finds them likely already learns from what people wrote alone.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from alignment.precision import Precision
from alignment.records import PromptCompletion

_ROWS_TO_TRY = 64
"""Derived pairs that the base model's loss is measured on: 2,000 tokens, enough to tell a model that answers so from one that does not."""


def only_demonstrations(rows: Sequence[PromptCompletion]) -> list[PromptCompletion]:
    """Those that a person wrote."""
    return [row for row in rows if row.origin == "demonstration"]


def derived_loss(
    model: Any,
    tokenizer: Any,
    rows: Sequence[PromptCompletion],
    *,
    max_length: int,
    batch_size: int,
    precision: Precision,
    seed: int,
) -> float | None:
    """How unlikely the model finds derived pairs, in nats per completion token; None where none fits.

    Args:
        model: A causal language model; left on the device that training will use.
        tokenizer: Its tokenizer, with a padding token.
        rows: Of all origins; refusals are not tried, since they are the same few words each time.
        max_length: Longest prompt and completion together, in tokens.
        batch_size: Rows per forward pass.
        precision: Of the matrix products.
        seed: Decides which rows are tried where there are many.
    """
    derived = [row for row in rows if row.origin == "derived"]
    tried = random.Random(seed).sample(derived, min(len(derived), _ROWS_TO_TRY))  # noqa: S311 -- a choice, not a secret
    encoded, _ = encode_rows(tried, tokenizer, max_length)
    if not encoded:
        return None
    return _mean_loss(model, encoded, tokenizer.pad_token_id, batch_size, precision)


def weigh_rows(
    rows: Sequence[PromptCompletion], *, repeats: int, authors: Mapping[str, float], seed: int
) -> list[PromptCompletion]:
    """The rows in a random order, demonstrations several times.

    Args:
        rows: Of all origins.
        repeats: How often a demonstration is seen.
        authors: What a demonstration weighs, by who wrote it; those who are not in it have 1.
        seed: Decides the order.
    """
    rng = random.Random(seed)  # noqa: S311 -- an order, not a secret

    def times(row: PromptCompletion) -> int:
        if row.origin != "demonstration":
            return 1
        wanted = repeats * authors.get(row.labeler_id, 1.0)
        whole = math.floor(wanted + 1e-9)
        # A part of a repetition is a chance: rounded, many a cap would change nothing. Where nobody is held down nothing is drawn.
        part = max(wanted - whole, 0.0)
        return whole + (part > 1e-9 and rng.random() < part)

    repeated = [row for row in rows for _ in range(times(row))]
    rng.shuffle(repeated)
    return repeated


def encode_rows(
    rows: Sequence[PromptCompletion], tokenizer: Any, max_length: int
) -> tuple[list[dict[str, list[int]]], int]:
    """Token ids and labels (-100 on the prompt) of the rows that fit, and how many different rows do not."""
    from alignment.padding import encode_completion, encode_prompt

    encoded, too_long = [], set()
    for row in rows:
        prompt = encode_prompt(tokenizer, row.prompt)
        completion = encode_completion(tokenizer, row.completion)
        if len(prompt) + len(completion) > max_length:
            too_long.add((row.prompt, row.completion))
            continue
        encoded.append({"input_ids": prompt + completion, "labels": [-100] * len(prompt) + completion})
    return encoded, len(too_long)


def _mean_loss(
    model: Any,
    encoded: Sequence[dict[str, list[int]]],
    pad_token_id: int,
    batch_size: int,
    precision: Precision,
) -> float:
    import torch
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    from alignment.models import autocast, autocast_dtype, pick_device

    device = pick_device("auto")
    model.to(device).eval()
    collate = DataCollatorForLanguageModeling(pad_token_id)
    total, n_tokens = 0.0, 0
    for start in range(0, len(encoded), batch_size):
        batch = {name: ids.to(device) for name, ids in collate(encoded[start : start + batch_size]).items()}
        with torch.no_grad(), autocast(device, autocast_dtype(precision, device)):
            loss = model(**batch).loss  # the mean over the batch's labels
        n_labels = int((batch["labels"] != -100).sum())
        total += float(loss) * n_labels
        n_tokens += n_labels
    return total / n_tokens
