"""Turns a policy version into a generator: the one place that knows which engine serves which kind of policy.

Knows nothing of which policy is serving (`chatbot.serving` does) or how an engine works.
"""

from __future__ import annotations

from pathlib import Path

from chatbot.best_of_n import REWARD_FOLDER, BestOfN, Choice, ScorerLoader
from chatbot.errors import GenerationError
from chatbot.protocols import Generator
from chatbot.records import PolicyVersion
from chatbot.settings import LocalGeneratorSettings, OpenAIGeneratorSettings


class GeneratorLoader:
    """Implements `PolicyLoader`: policies of stage `external` are asked over HTTP, all others are loaded into this process."""

    def __init__(
        self,
        local: LocalGeneratorSettings | None = None,
        external: OpenAIGeneratorSettings | None = None,
        load_scorer: ScorerLoader | None = None,
    ) -> None:
        """Load nothing yet.

        Args:
            local: Of models in this process.
            external: Of the server that is asked.
            load_scorer: For policies that choose among samples; without one they cannot be loaded.
        """
        self._load_scorer = load_scorer
        self._local = local or LocalGeneratorSettings()
        self._external = external or OpenAIGeneratorSettings()

    def __call__(self, policy: PolicyVersion) -> Generator:
        """Load a policy. Seconds for a small model, minutes for a large one.

        Raises:
            GenerationError: the bundle is missing or damaged, or chooses among samples and nothing here can.
        """
        # Imported here: the engines pull in torch and transformers, which a command that only lists policies never needs.
        if policy.stage == "external":
            from chatbot.openai_generator import OpenAIGenerator

            return OpenAIGenerator(policy.path, policy.id, self._external)
        from chatbot.local_generator import LocalGenerator

        choice = Choice.load(Path(policy.path))
        if choice is None:
            return LocalGenerator(policy.path, policy.id, self._local)
        if self._load_scorer is None:
            raise GenerationError(
                f"policy {policy.id} chooses among samples by a reward, and this program has none"
            )
        scorer = self._load_scorer(Path(policy.path) / REWARD_FOLDER)
        return BestOfN(LocalGenerator(policy.path, policy.id, self._local), choice, scorer)
