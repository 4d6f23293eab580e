"""One turn, from question to answer. Read this file first.

    question ── retrieve ──▶ passages ── select ──▶ evidence ── strong enough? ── no ──▶ refusal, the model is not asked
                                                        │ yes
                                                        ▼
                                prompt ── generate ──▶ completion ── ground ──▶ answer with citations

The assistant owns the order of the steps; those before the model writes are in `turn_preparation`, those after in `answer_making`. It
knows nothing of storage, accounts or pages: what it needs comes as protocols, what it makes is returned, and it keeps nothing between
turns, so one instance serves all threads.

Different from the textbook: everything decided before the model writes is one value (`PreparedTurn`), and an answer is a function of
it and a completion. So serving, comparing samples, simulation and training all cut, ground and cite in the same place.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import structlog

from chatbot.answer_making import AnswerMaker
from chatbot.answerability import AnswerJudge
from chatbot.evidence import EvidenceSelector
from chatbot.prompt import Message
from chatbot.protocols import Generator
from chatbot.records import Answer, Completion, PreparedTurn, Sampling
from chatbot.settings import AbstentionSettings, AssistantSettings, GroundingSettings
from chatbot.turn_events import TextWritten, TurnEvent, TurnFinished, TurnPrepared
from chatbot.turn_preparation import TurnPreparation, for_policy
from knowledge_base.errors import UsageError
from knowledge_base.protocols import Retriever
from knowledge_base.records import Reader

log = structlog.get_logger(__name__)

_SAMPLING_ROUNDS = 3
_SEEDS_A_ROUND = 1_009
"""Far from the seeds that a caller counts up."""
"""How often `sample` tries again to get answers that differ."""


class Policies(Protocol):
    """Where generators come from; `chatbot.serving.ServingPolicies` is the real one."""

    def generator(self, policy_id: str | None = None) -> Generator:
        """The generator of a policy; None for the serving one."""


class Assistant:
    """Answers questions. Thread-safe."""

    def __init__(
        self,
        retriever: Retriever,
        evidence_selector: EvidenceSelector,
        policies: Policies,
        settings: AssistantSettings | None = None,
        index_version: Callable[[], str] = lambda: "",
        *,
        grounding: GroundingSettings | None = None,
        abstention: AbstentionSettings | None = None,
        owners: Callable[[], Mapping[str, str]] = dict,
        judge: AnswerJudge | None = None,
    ) -> None:
        """Put the parts of a turn together; nothing is loaded yet.

        Args:
            retriever: Question to permitted passages.
            evidence_selector: Passages to numbered sentences.
            policies: Where the model comes from.
            settings: Limits and defaults of a turn.
            index_version: Names the state of the index; stored with each answer.
            grounding: When a sentence counts as supported.
            abstention: When the evidence is too weak to ask the model.
            owners: Collection name to whom to ask; for refusals.
            judge: Reads question and evidence to say whether to ask the model; None leaves that to similarity and shared words.
        """
        self._policies = policies
        self._settings = settings or AssistantSettings()
        self._preparation = TurnPreparation(
            retriever,
            evidence_selector,
            self._settings,
            abstention or AbstentionSettings(),
            index_version,
            judge,
        )
        self._answers = AnswerMaker(grounding or GroundingSettings(), owners)

    def prepare(
        self,
        question: str,
        reader: Reader,
        *,
        collections: Sequence[str] | None = None,
        history: Sequence[Message] = (),
        policy_id: str | None = None,
    ) -> PreparedTurn:
        """Everything before the model writes.

        Args:
            question: As typed.
            reader: Decides what may be seen.
            collections: Names to search in; None for all permitted.
            history: Earlier turns, oldest first; only a follow-up question is shown them.
            policy_id: Whose context the prompt must fit; None for the serving policy.

        Raises:
            UsageError: the question is empty or too long.
            NotFoundError: an unknown collection or policy.
            GenerationError: the policy cannot be loaded.
        """
        self._preparation.check_question(question)
        return self._preparation.prepare(
            question,
            reader,
            self._policies.generator(policy_id),
            collections=collections,
            history=history,
        )

    def answer(
        self,
        question: str,
        reader: Reader,
        *,
        collections: Sequence[str] | None = None,
        history: Sequence[Message] = (),
        policy_id: str | None = None,
        sampling: Sampling | None = None,
    ) -> Answer:
        """Answer a question in one go; arguments and errors as `prepare`, sampling greedy unless given."""
        events = self.stream(
            question, reader, collections=collections, history=history, policy_id=policy_id, sampling=sampling
        )
        for event in events:
            if isinstance(event, TurnFinished):
                return event.answer
        raise AssertionError("a turn ends with TurnFinished")

    def stream(
        self,
        question: str,
        reader: Reader,
        *,
        collections: Sequence[str] | None = None,
        history: Sequence[Message] = (),
        policy_id: str | None = None,
        sampling: Sampling | None = None,
        stop: threading.Event | None = None,
    ) -> Iterator[TurnEvent]:
        """Answer a question while telling what happens; arguments and errors as `answer`.

        The question is checked before the first event. Setting `stop`, or closing the iterator, ends the writing soon; after `stop`
        the answer is made of what was written until then. A refusal without asking the model has no `TextWritten`.
        """
        self._preparation.check_question(question)
        return self._run(
            question,
            reader,
            collections,
            history,
            policy_id,
            sampling or self._settings.sampling(),
            stop or threading.Event(),
        )

    def sample(
        self,
        prepared: PreparedTurn,
        n: int,
        sampling: Sampling | None = None,
        policy_id: str | None = None,
    ) -> list[Answer]:
        """Several answers to one prepared turn, in one batch.

        Args:
            prepared: From `prepare`.
            n: How many answers to return.
            sampling: Temperature above 0, else all are the same; default `varied_sampling` of the settings.
            policy_id: Who writes; None for the serving policy.

        Returns:
            n answers, those that read differently first. A model that has only one thing to say is asked again with other
            seeds a few times; then answers repeat.
        """
        return self.sample_many([prepared], n, sampling, policy_id, rounds=_SAMPLING_ROUNDS)[0]

    def sample_many(
        self,
        prepared: Sequence[PreparedTurn],
        n: int,
        sampling: Sampling | None = None,
        policy_id: str | None = None,
        *,
        rounds: int = 2,
    ) -> list[list[Answer]]:
        """`n` answers to each of several prepared turns, in one batch, and further ones for turns with equal answers.

        Args:
            prepared: From `prepare`.
            n: How many answers each.
            sampling: Temperature above 0, else all are the same; default `varied_sampling` of the settings.
            policy_id: Who writes; None for the serving policy.
            rounds: How often a turn is asked at most until its answers read differently; at temperature 0 once.

        Returns:
            n answers for each turn, those that read differently first; where the model has fewer things to say, answers repeat.
        """
        if n < 1:
            raise UsageError(f"n is {n}: ask for at least 1 answer")
        sampling = sampling or self._settings.varied_sampling()
        generator = self._policies.generator(policy_id)
        prepared = [for_policy(turn, generator, self._settings.max_new_tokens) for turn in prepared]
        different: list[dict[str, Answer]] = [{} for _ in prepared]
        repeats: list[list[Answer]] = [[] for _ in prepared]
        for place, turn in enumerate(prepared):
            if not turn.answerable:
                repeats[place] = [self.refuse(turn, generator.policy_id, sampling) for _ in range(n)]
        for round_number in range(rounds if sampling.temperature > 0 else 1):
            drawn = sampling
            if sampling.seed is not None:
                drawn = replace(sampling, seed=sampling.seed + round_number * _SEEDS_A_ROUND)
            waiting = [p for p, turn in enumerate(prepared) if turn.answerable and len(different[p]) < n]
            for place, answer in self._draw(
                prepared, [p for p in waiting for _ in range(n)], generator, drawn
            ):
                if different[place].setdefault(answer.text, answer) is not answer:
                    repeats[place].append(answer)
        return [[*ours.values(), *more][:n] for ours, more in zip(different, repeats, strict=True)]

    def _draw(
        self,
        prepared: Sequence[PreparedTurn],
        places: Sequence[int],
        generator: Generator,
        sampling: Sampling,
    ) -> Iterator[tuple[int, Answer]]:
        """One answer for each place, all in one batch."""
        if not places:
            return
        started = time.perf_counter()
        completions = generator.generate([prepared[place].messages for place in places], sampling)
        seconds = (time.perf_counter() - started) / len(places)
        for place, completion in zip(places, completions, strict=True):
            yield place, self.finish(prepared[place], completion, generator, sampling, seconds=seconds)

    def finish(
        self,
        prepared: PreparedTurn,
        completion: Completion,
        generator: Generator,
        sampling: Sampling,
        *,
        seconds: float = 0.0,
        seconds_to_first_token: float | None = None,
    ) -> Answer:
        """The answer that a completion of a prepared turn amounts to. Asks no model and no store.

        A completion that refuses becomes the refusal; of any other, what the evidence supports is kept and cited.
        """
        return self._answers.finish(
            prepared,
            completion,
            generator,
            sampling,
            seconds=seconds,
            seconds_to_first_token=seconds_to_first_token,
        )

    def refuse(self, prepared: PreparedTurn, policy_id: str, sampling: Sampling) -> Answer:
        """The answer given without asking the model."""
        return self._answers.refuse(prepared, policy_id, sampling)

    def _run(
        self,
        question: str,
        reader: Reader,
        collections: Sequence[str] | None,
        history: Sequence[Message],
        policy_id: str | None,
        sampling: Sampling,
        stop: threading.Event,
    ) -> Iterator[TurnEvent]:
        started = time.perf_counter()
        # Taken once: a promotion in the middle of the turn does not change who answers it.
        generator = self._policies.generator(policy_id)
        prepared = self._preparation.prepare(
            question, reader, generator, collections=collections, history=history
        )
        yield TurnPrepared(prepared=prepared)
        if not prepared.answerable:
            refusal = self.refuse(prepared, generator.policy_id, sampling)
            yield self._finished(replace(refusal, seconds=time.perf_counter() - started))
            return
        first_token: float | None = None
        completion: Completion | None = None
        for delta in generator.stream(prepared.messages, sampling, stop):
            if delta.text:
                first_token = first_token or time.perf_counter() - started
                yield TextWritten(text=delta.text)
            completion = delta.completion or completion
        if completion is None:
            raise AssertionError("a stream's last piece carries the completion")
        seconds = time.perf_counter() - started
        answer = self.finish(
            prepared, completion, generator, sampling, seconds=seconds, seconds_to_first_token=first_token
        )
        yield self._finished(answer)

    def _finished(self, answer: Answer) -> TurnFinished:
        # The canonical line of a turn. Questions and answers stay out of the log: it has other readers than they have.
        report = answer.grounding
        log.info(
            "turn",
            answer=answer.id,
            policy=answer.policy_id,
            abstained=answer.abstained,
            asked_model=bool(answer.prompt),
            support=round(answer.prepared.support, 3),
            evidence=len(answer.prepared.evidence),
            citations=len(answer.citations),
            dropped=len(report.dropped) if report else 0,
            fell_back=bool(report and report.fell_back),
            seconds=round(answer.seconds, 3),
        )
        return TurnFinished(answer=answer)
