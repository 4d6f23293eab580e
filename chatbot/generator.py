"""Turns a policy version into a generator: the one place that knows which engine serves which kind of policy.

Knows nothing of which policy is serving (`chatbot.serving` does) or how an engine works.
"""

from __future__ import annotations

from chatbot.protocols import Generator
from chatbot.records import PolicyVersion
from chatbot.settings import LocalGeneratorSettings, OpenAIGeneratorSettings


class GeneratorLoader:
    """Implements `PolicyLoader`: policies of stage `external` are asked over HTTP, all others are loaded into this process."""

    def __init__(
        self,
        local: LocalGeneratorSettings | None = None,
        external: OpenAIGeneratorSettings | None = None,
    ) -> None:
        self._local = local or LocalGeneratorSettings()
        self._external = external or OpenAIGeneratorSettings()

    def __call__(self, policy: PolicyVersion) -> Generator:
        """Load a policy. Seconds for a small model, minutes for a large one.

        Raises:
            GenerationError: the bundle is missing or damaged.
        """
        # Imported here: the engines pull in torch and transformers, which a command that only lists policies never needs.
        if policy.stage == "external":
            from chatbot.openai_generator import OpenAIGenerator

            return OpenAIGenerator(policy.path, policy.id, self._external)
        from chatbot.local_generator import LocalGenerator

        return LocalGenerator(policy.path, policy.id, self._local)
