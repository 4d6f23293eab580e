"""Loads a Hugging Face causal model and its tokenizer from a directory, a LoRA adapter's directory or a hub id.

Knows nothing of prompts or sampling. Directories are read with `local_files_only`: no hub is contacted unless the configured id is
not a local directory. Different from the usual recipe: a missing padding token is not replaced by the end token. Left padding is
hidden by the attention mask, so any token may fill the gap, and the end token keeps its one meaning.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from chatbot.errors import GenerationError
from chatbot.file_damage import damaged_file
from chatbot.settings import LocalGeneratorSettings

log = structlog.get_logger(__name__)

_NO_LIMIT = 1_000_000
"""Tokenizers without a limit say 10**30."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A model ready to write."""

    model: Any
    tokenizer: Any
    device: Any
    end_ids: frozenset[int]
    """Any of these ends a completion."""
    pad_id: int
    """Fills masked places; never one of `end_ids` unless the vocabulary has nothing else."""
    context_tokens: int


def load_model(
    path_or_id: str, settings: LocalGeneratorSettings, adapter: str | Path | None = None
) -> LoadedModel:
    """Load weights, tokenizer and, when given or found, a LoRA adapter merged into the weights.

    Args:
        path_or_id: A model's directory, the directory of an adapter (its `adapter_config.json` names the model), or a hub id.
        settings: Type of numbers, device, context.
        adapter: Directory of an adapter for the model at `path_or_id`.

    Raises:
        GenerationError: nothing there, or what is there cannot be loaded.
    """
    from safetensors import SafetensorError

    source, adapter = _resolve(path_or_id, adapter)
    try:
        return _load(source, settings, adapter)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        # What transformers, safetensors and peft raise for missing files, unknown architectures and damaged weights.
        found = damaged_file(Path(source)) or (damaged_file(adapter) if adapter else None)
        reason = found or " ".join(str(error).split())[:300] or type(error).__name__
        remedy = (
            "restore it from a backup; if it is a policy's, `tacit policies rollback` lets the one before serve"
            if found
            else "check the path or id"
        )
        raise GenerationError(f"cannot load the model {path_or_id}: {reason}; {remedy}") from error


def _resolve(path_or_id: str, adapter: str | Path | None) -> tuple[str, Path | None]:
    path = Path(path_or_id).expanduser()
    if not path.is_dir():
        if path.is_absolute() or path_or_id.startswith((".", "~")) or path.exists():
            raise GenerationError(f"no model directory at {path_or_id}; give a directory or a hub id")
        return path_or_id, Path(adapter) if adapter else None
    description = path / "adapter_config.json"
    if adapter is None and description.is_file() and not (path / "config.json").is_file():
        try:
            named = json.loads(description.read_text(encoding="utf-8"))["base_model_name_or_path"]
        except (ValueError, KeyError) as error:
            raise GenerationError(
                f"{description} does not name its model; write the adapter again"
            ) from error
        beside = (path / str(named)).resolve()
        return str(beside if beside.is_dir() else named), path
    return str(path), Path(adapter) if adapter else None


def _load(source: str, settings: LocalGeneratorSettings, adapter: Path | None) -> LoadedModel:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    is_local = Path(source).is_dir()
    device = _choose_device(settings.device)
    dtype = _choose_dtype(settings.dtype, device)
    # An adapter is merged in float32: merged in bfloat16 a small update is rounded away.
    model = AutoModelForCausalLM.from_pretrained(
        source, local_files_only=is_local, dtype=torch.float32 if adapter else dtype, trust_remote_code=False
    )
    tokenizer_source = source
    if adapter:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
        if any((adapter / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json")):
            tokenizer_source = str(adapter)
    tokenizer = AutoTokenizer.from_pretrained(
        tokenizer_source, local_files_only=is_local, trust_remote_code=False
    )
    model = model.to(device=device, dtype=dtype).eval().requires_grad_(False)  # eval: no dropout
    end_ids = _find_end_ids(model, tokenizer)
    loaded = LoadedModel(
        model=model,
        tokenizer=tokenizer,
        device=device,
        end_ids=end_ids,
        pad_id=_choose_pad_id(tokenizer, end_ids),
        context_tokens=_find_context(model, tokenizer, settings.context_tokens),
    )
    log.info("model_loaded", source=source, adapter=str(adapter or ""), dtype=str(dtype), device=str(device))
    return loaded


def _choose_device(name: str) -> Any:
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def _choose_dtype(name: str, device: Any) -> Any:
    import torch

    if name != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    abilities = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    # Measured on a 17M-parameter model: with AMX bfloat16 is up to twice as fast in batches; with AVX-512 alone it is slower.
    return torch.bfloat16 if abilities.get("amx_bf16", False) else torch.float32


def _find_end_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    # Chat models often end a turn with another token than a text; either one ends a completion.
    named = [
        getattr(model.generation_config, "eos_token_id", None),
        getattr(model.config, "eos_token_id", None),
        tokenizer.eos_token_id,
    ]
    found: set[int] = set()
    for value in named:
        found.update(value if isinstance(value, (list, tuple)) else [] if value is None else [value])
    return frozenset(found)


def _choose_pad_id(tokenizer: Any, end_ids: frozenset[int]) -> int:
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id not in end_ids:
        return int(tokenizer.pad_token_id)
    return next((token for token in range(len(tokenizer)) if token not in end_ids), 0)


def _find_context(model: Any, tokenizer: Any, bound: int | None) -> int:
    config = model.config.get_text_config()
    limits = [
        getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None) or _NO_LIMIT,
        tokenizer.model_max_length or _NO_LIMIT,
        bound or _NO_LIMIT,
    ]
    return int(min(limits))
