"""Loads a model and its tokenizer from a directory, for training.

Knows nothing of what they are trained for. Different from transformers' own loaders: weights are float32 masters whatever they were stored in, dropout is off, and what
cannot be loaded is told in one line.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from alignment.errors import TrainingError
from alignment.models import own_memory, turn_dropout_off
from chatbot.file_damage import damaged_file


def load_tokenizer(directory: Path) -> Any:
    """The tokenizer stored with a policy.

    Raises:
        TrainingError: If there is none.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(directory))
    except (OSError, ValueError) as error:
        raise TrainingError(
            f"No tokenizer can be loaded from {directory}: {why(error, directory)}"
        ) from error


def load_causal_model(directory: Path, device: torch.device) -> Any:
    """A causal language model in float32 with dropout off.

    Raises:
        TrainingError: If the directory holds none.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    try:
        model = AutoModelForCausalLM.from_pretrained(str(directory), dtype=torch.float32)
    except (OSError, ValueError, SafetensorError) as error:
        raise TrainingError(
            f"No causal language model can be loaded from {directory}: {why(error, directory)}"
        ) from error
    return own_memory(turn_dropout_off(model).to(device))


def why(error: Exception, directory: Path) -> str:
    """In one line why something could not be loaded from a directory: the damaged file and what to do, or what the library said."""
    if found := damaged_file(directory):
        return (
            f"{found}: restore it from a backup; of a run's own stage, remove the folder {directory} and resume, and the stage "
            "is done again"
        )
    return (str(error).strip() or type(error).__name__).splitlines()[0]
