"""Policies and reference models in training: where and how precisely they compute, their adapters, and their export as bundles that serving can load.

Knows nothing of PPO: it picks device and precision, turns dropout off, adds LoRA adapters, and exports. Weights are float32
masters (`model_directory`); lower precision is the business of autocast.
"""

from __future__ import annotations

import copy
import inspect
import json
import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from alignment.branch_attention import attending_to_branches, branch, can_branch
from alignment.errors import TrainingError
from alignment.precision import Precision, uses_bfloat16
from alignment.sampling_cache import make_room


def pick_device(wanted: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """The device to train on.

    Raises:
        TrainingError: If `cuda` is wanted and there is none.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise TrainingError(
            "device='cuda' was asked for, but torch sees no GPU: set device=auto, or install torch's CUDA build."
        )
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(wanted)


def autocast_dtype(wanted: Precision, device: torch.device) -> torch.dtype | None:
    """The type of activations, None for float32: bfloat16 where asked for, or where `auto` finds native support."""
    capabilities = torch.cpu.get_capabilities()
    if wanted == "auto" and device.type == "cpu":
        # Also on a machine with a GPU that is not to be used.
        native = bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
        return torch.bfloat16 if native else None
    return torch.bfloat16 if uses_bfloat16(wanted) else None


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[Any]:
    """Run matrix products in `dtype` inside; does nothing for None."""
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


def own_memory(model: nn.Module) -> nn.Module:
    """Move parameters out of the file they may be mapped from, to memory that torch has aligned.

    The last bits of a matrix product depend on alignment; equal weights are to give equal results, now and when resumed.
    """
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()
    return model


def turn_dropout_off(model: nn.Module) -> nn.Module:
    """Set all dropout to zero and the module to evaluation mode, so that a log-probability is a function of weights alone.

    Attention layers that keep their dropout as a number, not as a module, read it only in training mode.
    """
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model.eval()


def end_of_text_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """All token ids that end a completion: the tokenizer's, and those the model's generation settings name.

    Raises:
        TrainingError: If there is none, for then no completion could end.
    """
    ids: set[int] = set()
    generation = getattr(model, "generation_config", None)
    for found in (tokenizer.eos_token_id, getattr(generation, "eos_token_id", None)):
        if isinstance(found, int):
            ids.add(found)
        elif found is not None:
            ids.update(int(i) for i in found)
    if not ids:
        raise TrainingError(
            "The policy's tokenizer has no end-of-text token: set eos_token, else completions never end."
        )
    return frozenset(ids)


class CausalForward:
    """A causal language model as a `TokenForward`: outputs are logits."""

    def __init__(self, model: Any) -> None:
        self.model = model
        core = model.get_base_model() if hasattr(model, "get_base_model") else model
        # Not every architecture takes positions (ALiBi) or a number of logits to keep.
        self._accepted = frozenset(inspect.signature(core.forward).parameters)
        self.can_share = can_share_cache(core)
        self._branches = can_branch(core)

    def __call__(
        self,
        *,
        input_ids: Tensor,
        attention_mask: Tensor,
        position_ids: Tensor,
        keep: int,
        cache: Any = None,
        use_cache: bool,
    ) -> tuple[Tensor, Any]:
        """Logits of the last `keep` tokens (B, keep, V), and the cache."""
        extra: dict[str, Any] = {}
        if "position_ids" in self._accepted:
            extra["position_ids"] = position_ids
        if "logits_to_keep" in self._accepted:
            extra["logits_to_keep"] = keep
        output = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            past_key_values=cache,
            use_cache=use_cache,
            **extra,
        )
        kept = getattr(output, "past_key_values", None)
        if use_cache and kept is None:
            # Sampling would go on without the prompt, and nothing would say so.
            raise TrainingError(
                f"{type(self.model).__name__} gives back no key-value cache to go on from: a policy of this architecture cannot be sampled "
                "from; take a transformer as model.base"
            )
        return output.logits[:, -keep:], kept

    def branch_off(
        self, cache: Any, prompt_mask: Tensor, samples: int
    ) -> tuple[Any, AbstractContextManager[None]]:
        """See `TokenForward.branch_off`."""
        return branch_off(self.model, cache, prompt_mask, samples, branches=self._branches)

    def continue_prompts(
        self, cache: Any, prompt_mask: Tensor, *, samples: int, room: int
    ) -> tuple[Any, AbstractContextManager[None]]:
        """See `rollouts.SamplingForward`."""
        if not self._branches:
            return make_room(cache, repeats=samples, room=room), nullcontext()
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else self.model.dtype
        branched = branch(cache, prompt_mask, branches=samples, room=room, dtype=dtype)
        return branched, attending_to_branches(self.model)


def branch_off(
    model: Any, cache: Any, prompt_mask: Tensor, samples: int, *, branches: bool
) -> tuple[Any, AbstractContextManager[None]]:
    """See `TokenForward.branch_off`; `branches` says whether the model can (`can_branch`), else the cache is repeated."""
    if branches:
        return branch(cache, prompt_mask, branches=samples), attending_to_branches(model)
    cache.batch_repeat_interleave(samples)
    return cache, nullcontext()


def can_share_cache(model: Any) -> bool:
    """Whether a cache of this model is keys and values of full attention only, so that it can be repeated and continued."""
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    windowed = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    return kinds == {"full_attention"} and not windowed and not getattr(model, "_is_stateful", False)


def add_adapters(model: Any, *, rank: int, alpha: float) -> Any:
    """Freeze a causal model and add LoRA adapters to all its linear layers but the output layer (arXiv 2106.09685)."""
    from peft import LoraConfig, get_peft_model

    settings = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=0.0,
        target_modules="all-linear",
        bias="none",
        task_type="CAUSAL_LM",
    )
    return turn_dropout_off(get_peft_model(model, settings))


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters that require gradients, by name, tied ones once."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def snapshot_parameters(model: nn.Module) -> dict[str, Tensor]:
    """Copies of the trainable parameters on the processor's memory."""
    return {name: p.detach().to("cpu", copy=True) for name, p in trainable_parameters(model).items()}


def restore_parameters(model: nn.Module, values: dict[str, Tensor]) -> None:
    """Write back what `snapshot_parameters` copied.

    Raises:
        TrainingError: If the names are not the model's.
    """
    parameters = trainable_parameters(model)
    if parameters.keys() != values.keys():
        raise TrainingError(
            "The saved state belongs to another model: delete it, or start with resume=False."
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(values[name])


def export_policy(
    model: Any, tokenizer: Any, out_dir: Path, *, dtype: torch.dtype, extra: Mapping[str, str] | None = None
) -> None:
    """Write a full bundle (safetensors, config, tokenizer) that appears under its name only when complete.

    A model with adapters is merged into a copy of itself; the adapters are written beside, in `adapter`.

    Args:
        model: The trained causal model, unchanged by this.
        tokenizer: Written with it.
        out_dir: Replaced when it exists.
        dtype: Of the written weights.
        extra: Further text files by name.
    """
    partial = out_dir.with_name(f".{out_dir.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    if hasattr(model, "merge_adapter"):
        model.save_pretrained(str(partial / "adapter"))
        merged = _merged_copy(model)
    else:
        merged = model
    state = {name: tensor.detach().to("cpu", dtype) if tensor.is_floating_point() else tensor.cpu()
             for name, tensor in merged.state_dict().items()}  # fmt: skip
    merged.save_pretrained(str(partial), state_dict=_tied(merged, state))
    _write_dtype(partial / "config.json", dtype)
    tokenizer.save_pretrained(str(partial))
    for name, text in (extra or {}).items():
        (partial / name).write_text(text, encoding="utf-8")
    shutil.rmtree(out_dir, ignore_errors=True)
    partial.replace(out_dir)


def _write_dtype(path: Path, dtype: torch.dtype) -> None:
    # save_pretrained writes the type of the model in memory, which is not that of the tensors it was given.
    config = json.loads(path.read_text(encoding="utf-8"))
    config["dtype"] = str(dtype).removeprefix("torch.")
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _merged_copy(model: Any) -> Any:
    return copy.deepcopy(model).merge_and_unload()


def _tied(model: Any, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Make tied names share one tensor again after the conversion, so that they are written once."""
    owner: dict[int, str] = {}
    for name, tensor in model.state_dict().items():
        first = owner.setdefault(tensor.data_ptr(), name) if tensor.numel() else name
        state[name] = state[first]
    return state
