"""Everything decided before the model writes: what is searched for, what is shown to the model, whether it is asked at all.

Takes a question and the generator whose context the prompt must fit; returns one value, a `PreparedTurn`. Knows nothing of sampling,
grounding or streams: it counts tokens with the generator, it never lets it write.

Different from the textbook (retrieve, then fill the context): evidence is chosen while counting the whole rendered prompt, so a prompt
never has to be cut afterwards, and weak evidence ends the turn here, before any text could be made up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from chatbot.abstention import support
from chatbot.answerability import AnswerJudge
from chatbot.evidence import EvidenceSelector
from chatbot.evidence_order import EvidenceOrder
from chatbot.follow_up import is_follow_up, make_search_text, tidy_history
from chatbot.prompt import PROMPT_VERSION, Message, build_messages, read_question
from chatbot.prompt_budget import PromptBudget, as_numbered
from chatbot.protocols import Generator
from chatbot.records import EvidenceSentence, PreparedTurn
from chatbot.settings import AbstentionSettings, AssistantSettings
from knowledge_base.errors import UsageError
from knowledge_base.protocols import Retriever
from knowledge_base.quotable import with_place
from knowledge_base.records import Reader


class TurnPreparation:
    """Prepares turns. Keeps nothing between them, so one instance serves all threads."""

    def __init__(
        self,
        retriever: Retriever,
        evidence_selector: EvidenceSelector,
        settings: AssistantSettings,
        abstention: AbstentionSettings,
        index_version: Callable[[], str],
        judge: AnswerJudge | None = None,
    ) -> None:
        """Put the parts together; arguments as `Assistant`'s."""
        self._retriever = retriever
        self._selector = evidence_selector
        self._settings = settings
        self._abstention = abstention
        self._index_version = index_version
        self._judge = judge

    def check_question(self, question: str) -> None:
        """Turn away what is no question; asks neither a model nor a store.

        Args:
            question: As typed.

        Raises:
            UsageError: it is empty or too long.
        """
        if not question.strip():
            raise UsageError("the question is empty: type one")
        limit = self._settings.max_question_characters
        if len(question) > limit:
            raise UsageError(
                f"the question has {len(question):,} characters; at most {limit:,}: "
                "put the text into a document and ingest it"
            )

    def prepare(
        self,
        question: str,
        reader: Reader,
        generator: Generator,
        *,
        collections: Sequence[str] | None,
        history: Sequence[Message],
    ) -> PreparedTurn:
        """Search, choose the evidence, build the prompt, decide whether to ask the model.

        Args:
            question: Has passed `check_question`.
            reader: Decides what may be seen.
            generator: Whose context the prompt must fit.
            collections: Names to search in; None for all permitted.
            history: Earlier turns, oldest first; only a follow-up question is shown them.

        Raises:
            UsageError: not even the question alone fits the model's context.
            NotFoundError: an unknown collection.
        """
        budget = PromptBudget(generator, self._settings.max_new_tokens)
        words = self._settings.follow_up_words
        search_text = make_search_text(question, history, words)
        # The joined question is searched for in any case; it is put to the model where its context has room for it.
        asked = search_text if budget.fits(search_text, (), ()) else question
        # A question that stands alone is shown no history: it costs context, and small models mix the topics up.
        shown = tidy_history(history, self._settings.history_turns) if is_follow_up(question, words) else []
        shown = budget.cut_history(asked, shown)
        passages = self._retriever.retrieve(
            search_text, reader, collections=collections, top_k=self._settings.top_k
        )
        evidence = self._selector.select(
            search_text, passages, lambda chosen: budget.fits(asked, chosen, shown)
        )
        strength, least = self._strength(search_text, evidence)
        prepared = PreparedTurn(
            question=question,
            search_text=search_text,
            passages=tuple(passages),
            evidence=tuple(evidence),
            messages=tuple(build_messages(asked, as_numbered(evidence), shown)),
            answerable=bool(evidence) and strength >= least,
            support=strength,
            versions=self._versions(),
        )
        return for_policy(prepared, generator, self._settings.max_new_tokens)

    def _strength(self, question: str, evidence: Sequence[EvidenceSentence]) -> tuple[float, float]:
        """How likely the evidence answers, and from where on the model is asked."""
        if self._judge is None:
            return support(question, evidence, self._abstention), self._abstention.threshold
        texts = [with_place(item.heading, item.text) for item in evidence]
        return self._judge.probability(question, texts), self._abstention.judge_threshold

    def _versions(self) -> dict[str, str]:
        judged = {"judge": self._judge.version} if self._judge else {}
        return judged | {
            "index": self._index_version(),
            "retriever": self._retriever.version,
            "evidence": self._selector.version,
            "prompt": PROMPT_VERSION,
        }


def for_policy(prepared: PreparedTurn, generator: Generator, max_new_tokens: int) -> PreparedTurn:
    """A turn as a policy wants to read it; one whose policy learned no order is returned as it is.

    Args:
        prepared: A turn, in any order.
        generator: Of the policy.
        max_new_tokens: Room to leave for the answer.
    """
    order = generator.evidence_order
    if order is None:
        return prepared
    budget = PromptBudget(generator, max_new_tokens)
    return in_order(prepared, order, budget.fits)


def in_order(
    prepared: PreparedTurn,
    order: EvidenceOrder,
    fits: Callable[[str, Sequence[EvidenceSentence], Sequence[Message]], bool] = lambda *_: True,
) -> PreparedTurn:
    """A turn with its evidence sorted and numbered anew; without evidence it stays as it is.

    Args:
        prepared: A turn, in any order.
        order: See `EvidenceOrder`.
        fits: Whether question, evidence and history leave room for an answer. Another order can need more lines of headings; then
            the last sentences go.
    """
    question = read_question(prepared.messages[-1].content)
    if not prepared.evidence or question is None:
        return prepared
    history = prepared.messages[1:-1]
    evidence = order.sort(prepared.search_text, prepared.evidence)
    while len(evidence) > 1 and not fits(question, evidence, history):
        evidence.pop()
    messages = build_messages(question, as_numbered(evidence), history)
    return replace(prepared, evidence=tuple(evidence), messages=tuple(messages))
