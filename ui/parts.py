"""The parts of the product, each built from a home directory when first asked for: which implementation serves which contract.

Nothing else in the product decides that. Heavy parts (models, the vector index) wait until they are needed, so that `tacit users list`
does not load a language model. Knows nothing of what is done with the parts; acts are in `wiring`.

Different from a dependency injection container: parts are named properties with types, and there is nothing to register or configure.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from alignment.rater_reviews import RaterReviews
from alignment.runs import RunStore
from alignment.schedule import ScheduleStore
from chatbot.accounts import Accounts
from chatbot.answers import AnswerStore
from chatbot.audit import AuditLog
from chatbot.conversations import ConversationStore
from chatbot.feedback import FeedbackStore
from chatbot.passwords import Passwords
from chatbot.policies import PolicyRegistry
from chatbot.sign_in import ApiKeys, SignIn
from knowledge_base.database import Database
from knowledge_base.jobs import JobQueue
from knowledge_base.source_files import SourceFiles
from knowledge_base.store import KnowledgeStore
from ui.home import Home
from ui.settings import Settings
from ui.uploads import Uploads

if TYPE_CHECKING:
    from chatbot.answerability import AnswerJudge
    from chatbot.assistant import Assistant
    from chatbot.best_of_n import CompletionScorer
    from chatbot.generator import GeneratorLoader
    from chatbot.serving import ServingPolicies
    from knowledge_base.embedder import SentenceTransformerEmbedder
    from knowledge_base.ingestion import Ingestor
    from knowledge_base.protocols import LexicalIndex
    from knowledge_base.reranker import CrossEncoderReranker
    from knowledge_base.retriever import HybridRetriever
    from knowledge_base.sentence_vectors import SentenceVectors
    from knowledge_base.spelling import Spelling

EMBEDDED_MODEL = Path(__file__).resolve().parent.parent / "chatbot" / "base_model"
"""The base model that ships with the product."""
EVIDENCE_ENCODER = (
    Path(__file__).resolve().parent.parent / "chatbot" / "evidence_encoder" / "model.safetensors"
)
"""Weights that make the bundled embedder find the sentence that answers."""
ANSWER_JUDGE = EVIDENCE_ENCODER.parent.parent / "answer_judge" / "model.safetensors"
"""Weights that make it judge whether a sentence answers."""


def policy_loader(settings: Settings) -> GeneratorLoader:
    """Turns policies into generators, those that choose among samples by a reward included."""
    from chatbot.generator import GeneratorLoader

    return GeneratorLoader(settings.generation, settings.openai, _load_scorer)


def _load_scorer(directory: Path) -> CompletionScorer:
    from alignment.served_reward import ServedReward  # loads torch

    return ServedReward.load(directory)


@dataclass(frozen=True)
class Parts:
    """One set per process; safe to share between threads."""

    home: Home
    settings: Settings
    db: Database

    @functools.cached_property
    def knowledge(self) -> KnowledgeStore:
        """Collections, documents and chunks."""
        return KnowledgeStore(self.db)

    @functools.cached_property
    def accounts(self) -> Accounts:
        """People."""
        return Accounts(self.db, Passwords(self.settings.passwords))

    @functools.cached_property
    def sign_in(self) -> SignIn:
        """Sessions."""
        return SignIn(self.db, self.settings.sign_in, Passwords(self.settings.passwords))

    @functools.cached_property
    def api_keys(self) -> ApiKeys:
        """Bearer keys."""
        return ApiKeys(self.db)

    @functools.cached_property
    def conversations(self) -> ConversationStore:
        """Conversations, each its owner's."""
        return ConversationStore(self.db)

    @functools.cached_property
    def answers(self) -> AnswerStore:
        """Answers with their lineage."""
        return AnswerStore(self.db)

    @functools.cached_property
    def feedback(self) -> FeedbackStore:
        """Judgements."""
        return FeedbackStore(self.db, self.settings.feedback)

    @functools.cached_property
    def registry(self) -> PolicyRegistry:
        """Policy versions; the base model is among them from the start."""
        registry = PolicyRegistry(self.db)
        if self.settings.model.external:
            registry.ensure_base(self.settings.model.external, {}, stage="external")
        else:
            registry.ensure_base(self.settings.model.base or EMBEDDED_MODEL, {})
        return registry

    @functools.cached_property
    def audit(self) -> AuditLog:
        """Who did what."""
        return AuditLog(self.db)

    @functools.cached_property
    def jobs(self) -> JobQueue:
        """Background work."""
        return JobQueue(self.db)

    @functools.cached_property
    def runs(self) -> RunStore:
        """Training runs."""
        return RunStore(self.db, self.home.runs)

    @functools.cached_property
    def schedule(self) -> ScheduleStore:
        """When training starts by itself."""
        return ScheduleStore(self.db)

    @functools.cached_property
    def rater_reviews(self) -> RaterReviews:
        """Decisions about raters."""
        return RaterReviews(self.db)

    @functools.cached_property
    def source_files(self) -> SourceFiles:
        """Originals of documents."""
        return SourceFiles(self.home.files)

    @functools.cached_property
    def uploads(self) -> Uploads:
        """Files waiting to be ingested."""
        return Uploads(
            self.home.uploads,
            self.jobs,
            self.knowledge,
            self.audit,
            max_bytes=self.settings.server.max_upload_bytes,
        )

    @functools.cached_property
    def embedder(self) -> SentenceTransformerEmbedder:
        """Text to vectors."""
        from knowledge_base.embedder import SentenceTransformerEmbedder

        return SentenceTransformerEmbedder(self.settings.embedder)

    @functools.cached_property
    def evidence_embedder(self) -> SentenceTransformerEmbedder:
        """Question and sentences to vectors: the bundled embedder tuned for it, or the one that the settings name."""
        from knowledge_base.embedder import SentenceTransformerEmbedder

        if self.settings.embedder.model:
            return self.embedder
        return SentenceTransformerEmbedder(self.settings.embedder, tuned=EVIDENCE_ENCODER)

    @functools.cached_property
    def sentences(self) -> SentenceVectors:
        """Sentences of chunks with their vectors."""
        from knowledge_base.sentence_vectors import SentenceVectors

        return SentenceVectors(self.evidence_embedder, self.settings.sentences, self.db)

    @functools.cached_property
    def answer_judge(self) -> AnswerJudge | None:
        """Whether the evidence answers; None where the settings leave that to similarity."""
        from chatbot.answerability import PairJudge
        from knowledge_base.embedder import SentenceTransformerEmbedder

        if not self.settings.abstention.judge:
            return None
        return PairJudge(SentenceTransformerEmbedder().directory, ANSWER_JUDGE)

    @functools.cached_property
    def ingestor(self) -> Ingestor:
        """Documents in and out."""
        from knowledge_base.ingestion import Ingestor

        return Ingestor(
            self.knowledge,
            self.embedder,
            self.source_files,
            limits=self.settings.loading,
            chunker=self.settings.chunker,
            settings=self.settings.ingestion,
            sentences=self.sentences,
        )

    @functools.cached_property
    def retriever(self) -> HybridRetriever:
        """Question to permitted passages."""
        from knowledge_base.faiss_index import FaissIndex
        from knowledge_base.lexical import lexical_index
        from knowledge_base.live_index import LiveIndex
        from knowledge_base.retriever import HybridRetriever

        live = LiveIndex(
            self.knowledge,
            lambda: FaissIndex(self.embedder.dimension),
            embedder_version=self.embedder.version,
        )
        lexical = lexical_index(self.db, self.settings.lexical)
        return HybridRetriever(
            self.knowledge,
            live,
            lexical,
            self.embedder,
            self.settings.retrieval,
            self.reranker,
            self._spelling(lexical) if self.settings.retrieval.tolerate_misspelling else None,
            self.sentences if self.settings.retrieval.sentence_candidates else None,
        )

    def _spelling(self, lexical: LexicalIndex) -> Spelling:
        from knowledge_base.spelling import Spelling, Vocabulary

        # What the embedder reads as one piece it has seen often: a word, though perhaps none of the documents'.
        return Spelling(Vocabulary(self.db), lexical, lambda word: self.embedder.count_tokens(word) == 1)

    @functools.cached_property
    def reranker(self) -> CrossEncoderReranker | None:
        """Reads question and passage together; None unless the settings name one."""
        from knowledge_base.reranker import CrossEncoderReranker

        return CrossEncoderReranker(self.settings.reranker) if self.settings.reranker.model else None

    @functools.cached_property
    def serving(self) -> ServingPolicies:
        """Policies ready to write."""
        from chatbot.serving import ServingPolicies

        return ServingPolicies(self.registry, policy_loader(self.settings), self.settings.serving)

    @functools.cached_property
    def assistant(self) -> Assistant:
        """Question to answer."""
        from chatbot.assistant import Assistant
        from chatbot.evidence import EvidenceSelector

        return Assistant(
            self.retriever,
            EvidenceSelector(self.sentences, self.settings.evidence),
            self.serving,
            self.settings.assistant,
            index_version=lambda: str(self.knowledge.index_version()),
            grounding=self.settings.grounding,
            abstention=self.settings.abstention,
            owners=lambda: {c.name: c.owner for c in self.knowledge.list_collections() if c.owner},
            judge=self.answer_judge,
        )
