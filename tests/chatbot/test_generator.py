"""GeneratorLoader chooses the engine by the policy, and nothing heavy is imported before a model is loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from chatbot.generator import GeneratorLoader
from chatbot.local_generator import LocalGenerator
from chatbot.openai_generator import OpenAIGenerator
from tests.chatbot.tiny_models import make_tiny_model
from tests.chatbot.turn_fakes import make_policy


def test_a_bundle_is_loaded_into_this_process(tmp_path: Path) -> None:
    """A policy with weights becomes a local generator under its own id."""
    loaded = GeneratorLoader()(
        make_policy("sft-1", stage="sft", path=str(make_tiny_model(tmp_path, "llama")))
    )

    assert isinstance(loaded, LocalGenerator)
    assert loaded.policy_id == "sft-1"


def test_an_external_policy_is_asked_over_http() -> None:
    """A policy of stage external needs no weights here."""
    loaded = GeneratorLoader()(make_policy("vllm", stage="external", path="tacit-ppo"))

    assert isinstance(loaded, OpenAIGenerator)
    assert loaded.policy_id == "vllm"


def test_the_turn_imports_no_model_library() -> None:
    """The command line starts fast: torch and transformers wait until a model is loaded."""
    code = (
        "import sys, chatbot.assistant, chatbot.serving, chatbot.generator, chatbot.evidence;"
        "print([m for m in ('torch', 'transformers', 'sentence_transformers') if m in sys.modules])"
    )

    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert out.stdout.strip() == "[]"
