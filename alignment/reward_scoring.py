"""Scores of completions under a sequence classifier, many completions of one prompt in a single pass.

Knows nothing of judgements or likelihoods. Different from calling the classifier: its own forward pass reads one score per row, at
the last token that is not padding; this reads one per completion from the hidden states, with the head applied at those places only.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import structlog
import torch
from torch import Tensor

from alignment.reward_dataset import lay_out

_log = structlog.get_logger(__name__)
_TOLERANCE = 1e-3


def completion_scores(model: Any, batch: dict[str, Tensor], *, shares_prompts: bool) -> Tensor:
    """Score the completions of a batch made by `lay_out`.

    Args:
        model: `AutoModelForSequenceClassification`; its M labels are the members of an ensemble.
        batch: `input_ids` (B, T), `position_ids` (B, T), `attention_mask` (B, 1, T, T), `ends` (B, K).
        shares_prompts: Whether the model takes such masks (`takes_shared_prompts`); else completions are unrolled into rows.

    Returns:
        (B, K, M) float32; places without a completion hold meaningless finite numbers.
    """
    if not shares_prompts:
        return _scores_one_by_one(model, batch)
    body = getattr(model, model.base_model_prefix)
    # Scaled-dot-product kernels want an additive mask or booleans; eager attention only adds. Additive serves both.
    dtype = torch.get_autocast_dtype(batch["input_ids"].device.type) if _is_autocast(batch) else model.dtype
    mask = torch.zeros(batch["attention_mask"].shape, dtype=dtype, device=batch["input_ids"].device)
    blocked = ~batch["attention_mask"]
    # A padding token looks at itself at least: a row of -inf alone would turn into NaN.
    mask = mask.masked_fill(blocked, torch.finfo(dtype).min)
    states = body(
        input_ids=batch["input_ids"], attention_mask=mask, position_ids=batch["position_ids"], use_cache=False
    ).last_hidden_state  # (B, T, H)
    rows = torch.arange(states.shape[0], device=states.device)[:, None]
    scores: Tensor = model.score(states[rows, batch["ends"]]).float()
    return scores


def _is_autocast(batch: dict[str, Tensor]) -> bool:
    return torch.is_autocast_enabled(batch["input_ids"].device.type)


def _scores_one_by_one(model: Any, batch: dict[str, Tensor]) -> Tensor:
    """The same scores with the prompt repeated before each completion, through the model's own forward pass."""
    ids, ends, mask = batch["input_ids"], batch["ends"], batch["attention_mask"][:, 0]
    rows, places = [], []
    for row in range(ids.shape[0]):
        for number in range(ends.shape[1]):
            if ends[row, number] >= 0:
                rows.append(ids[row][mask[row, ends[row, number]]])
                places.append((row, number))
    pad_id = model.config.get_text_config().pad_token_id
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad_id)
    seen = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
    flat = model(input_ids=padded, attention_mask=seen, use_cache=False).logits.float()
    scores = torch.zeros(*ends.shape, flat.shape[-1], dtype=torch.float32, device=ids.device)
    index = torch.tensor(places, device=ids.device)
    return scores.index_put((index[:, 0], index[:, 1]), flat)


def takes_shared_prompts(model: Any) -> bool:
    """Whether a model scores completions behind a shared prompt as it scores them alone, found out by trying both.

    Sliding-window, linear-attention and state-space models ignore or refuse a mask of four dimensions; for those the answer is no.
    """
    body = getattr(model, getattr(model, "base_model_prefix", ""), None)
    if body is None or not hasattr(model, "score"):
        return False
    if "position_ids" not in inspect.signature(body.forward).parameters:
        return False
    pad_id = model.config.get_text_config().pad_token_id
    tokens = [token for token in range(12) if token != pad_id]
    batch = lay_out([(tokens[:6], [tokens[6:8], tokens[8:11], tokens[3:4]])], pad_id)
    device = next(model.parameters()).device
    batch = {name: tensor.to(device) for name, tensor in batch.items()}
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            together = completion_scores(model, batch, shares_prompts=True)
            alone = completion_scores(model, batch, shares_prompts=False)
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        _log.info("reward_prompts_not_shared", reason=str(error)[:200])
        return False
    finally:
        model.train(was_training)
    scale = 1.0 + float(alone.abs().max())
    return bool((together - alone).abs().max() <= _TOLERANCE * scale)


def score_in_batches(
    model: Any,
    elements: Sequence[tuple[Sequence[int], Sequence[Sequence[int]]]],
    *,
    batch_tokens: int,
    shares_prompts: bool,
    bfloat16: bool,
) -> list[list[list[float]]]:
    """Scores of many elements, of each of their completions (M,), longest first so that batches are evenly full; returned in the order given.

    Args:
        model: The classifier, in evaluation mode.
        elements: (prompt ids, completions' ids) of each.
        batch_tokens: Most tokens of a padded batch; one element always fits.
        shares_prompts: See `completion_scores`.
        bfloat16: Multiply in bfloat16.
    """
    lengths = [len(prompt) + sum(map(len, completions)) for prompt, completions in elements]
    order = sorted(range(len(elements)), key=lambda index: (-lengths[index], index))
    device = next(model.parameters()).device
    scores: list[list[list[float]]] = [[] for _ in elements]
    at = 0
    while at < len(order):
        size = max(1, batch_tokens // max(lengths[order[at]], 1))
        chosen = order[at : at + size]
        batch = lay_out([elements[index] for index in chosen], model.config.get_text_config().pad_token_id)
        batch = {name: tensor.to(device) for name, tensor in batch.items()}
        with torch.inference_mode(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=bfloat16):
            found = completion_scores(model, batch, shares_prompts=shares_prompts).cpu()
        for row, index in enumerate(chosen):
            scores[index] = found[row, : len(elements[index][1])].tolist()
        at += size
    return scores
