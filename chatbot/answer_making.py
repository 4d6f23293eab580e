"""What comes after the model has written: a completion of a prepared turn becomes an answer, or the refusal.

A function of its arguments: asks no model and no store, and knows nothing of streams, retries or who is waiting.

Different from the textbook (the completion is the answer): of what the model wrote only the sentences that the evidence supports are
kept and cited, and a refusal is always worded by us, however the model put it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

from chatbot.abstention import render_refusal
from chatbot.grounding import check
from chatbot.prompt import is_refusal
from chatbot.protocols import Generator
from chatbot.records import Answer, Completion, PreparedTurn, Sampling
from chatbot.settings import GroundingSettings
from knowledge_base.rows import storable


class AnswerMaker:
    """Makes answers. Keeps nothing between them, so one instance serves all threads."""

    def __init__(self, grounding: GroundingSettings, owners: Callable[[], Mapping[str, str]]) -> None:
        """Put the parts together; arguments as `Assistant`'s."""
        self._grounding = grounding
        self._owners = owners

    def finish(
        self,
        prepared: PreparedTurn,
        completion: Completion,
        generator: Generator,
        sampling: Sampling,
        *,
        seconds: float,
        seconds_to_first_token: float | None,
    ) -> Answer:
        """The answer that a completion amounts to.

        Args:
            prepared: What the model was given.
            completion: What it wrote.
            generator: Which model; named in the answer and asked how it renders the prompt, not to write.
            sampling: How it was drawn.
            seconds: From the question to the last token.
            seconds_to_first_token: From the question to the first; None when nobody watched.
        """
        answer = self.refuse(prepared, generator.policy_id, sampling)
        common = replace(
            answer,
            completion=storable(completion.text),  # a byte-level model may write what no database takes
            prompt=generator.render(prepared.messages),
            logprob=completion.logprob,
            seconds_to_first_token=seconds_to_first_token,
            seconds=seconds,
        )
        if is_refusal(completion.text):
            return common
        if not completion.text and not completion.ended:
            return replace(common, text="", abstained=False)  # stopped before the first word
        text, citations, report = check(common.completion, prepared.evidence, self._grounding)
        return replace(common, text=text, abstained=False, citations=citations, grounding=report)

    def refuse(self, prepared: PreparedTurn, policy_id: str, sampling: Sampling) -> Answer:
        """The refusal, naming the nearest documents and whom to ask; `prompt` and `completion` are empty."""
        return Answer(
            id=uuid4().hex,
            question=prepared.question,
            text=render_refusal(prepared.passages, self._owners()),
            abstained=True,
            citations=(),
            policy_id=policy_id,
            completion="",
            prompt="",
            logprob=None,
            sampling=sampling,
            grounding=None,
            prepared=prepared,
            seconds_to_first_token=None,
            seconds=0.0,
            created_at=datetime.now(UTC),
        )
