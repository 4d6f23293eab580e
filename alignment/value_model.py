"""The value model: a reward model's trunk with a new head that predicts, before each token, the return still to come.

Knows nothing of rewards or rollouts. Different from the textbook: the head starts at zero with a bias set to the first step's
mean return, so that early advantages are returns minus their mean and not the noise of a random head; and the reward model's own
head is not used, because it was trained on last tokens only.
"""

from __future__ import annotations

import inspect
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from alignment.branch_attention import can_branch
from alignment.errors import TrainingError
from alignment.models import branch_off, can_share_cache, own_memory, turn_dropout_off


class ValueModel(nn.Module):
    """A transformer trunk and a linear head; a `TokenForward` whose outputs are values."""

    def __init__(self, trunk: Any, hidden_size: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = nn.Linear(hidden_size, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.can_share = can_share_cache(trunk)
        self._branches = can_branch(trunk)
        self._takes_positions = "position_ids" in inspect.signature(trunk.forward).parameters

    @torch.no_grad()
    def start_at(self, mean_return: float) -> None:
        """Predict this everywhere: called once, before the first update."""
        self.head.bias.fill_(mean_return)

    def forward(
        self,
        *,
        input_ids: Tensor,
        attention_mask: Tensor,
        position_ids: Tensor,
        keep: int,
        cache: Any = None,
        use_cache: bool,
    ) -> tuple[Tensor, Any]:
        """Values of the last `keep` tokens (B, keep, 1), in float32 or wider, and the cache."""
        positions = {"position_ids": position_ids} if self._takes_positions else {}
        output = self.trunk(
            input_ids=input_ids,
            attention_mask=attention_mask,
            past_key_values=cache,
            use_cache=use_cache,
            **positions,
        )
        hidden = output.last_hidden_state[:, -keep:]
        with torch.autocast(hidden.device.type, enabled=False):
            values = self.head(hidden.to(self.head.weight.dtype))
        return values, getattr(output, "past_key_values", None)

    def branch_off(
        self, cache: Any, prompt_mask: Tensor, samples: int
    ) -> tuple[Any, AbstractContextManager[None]]:
        """See `TokenForward.branch_off`."""
        return branch_off(self.trunk, cache, prompt_mask, samples, branches=self._branches)


def load_value_model(
    directory: Path, device: torch.device, *, lora_rank: int = 0, lora_alpha: float = 32.0
) -> ValueModel:
    """Make a value model from a reward model's directory (or any model with the policy's tokenizer).

    Args:
        directory: Saved as a sequence classifier or a causal model; only the trunk is used.
        device: Where to train.
        lora_rank: Above 0, freeze the trunk and train adapters of this rank and the head.
        lora_alpha: Scale of the adapters.

    Raises:
        TrainingError: If the directory holds no transformer.
    """
    from transformers import AutoModelForSequenceClassification

    try:
        model = AutoModelForSequenceClassification.from_pretrained(str(directory), dtype=torch.float32)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise TrainingError(
            f"No reward model can be loaded from {directory} to start the value model: {reason}"
        ) from error
    trunk = getattr(model, model.base_model_prefix)
    if lora_rank:
        trunk = _with_adapters(trunk, lora_rank, lora_alpha)
    value_model = ValueModel(trunk, model.config.get_text_config().hidden_size)
    turn_dropout_off(value_model)
    own_memory(value_model.to(device))
    return value_model


def _with_adapters(trunk: Any, rank: int, alpha: float) -> Any:
    from peft import LoraConfig, inject_adapter_in_model

    trunk.requires_grad_(requires_grad=False)
    # Injected in place: the trunk stays the plain transformer class, whose output is read above.
    settings = LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules="all-linear", bias="none"
    )
    return inject_adapter_in_model(settings, trunk)
