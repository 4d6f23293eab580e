"""All settings of the knowledge base in one value; each part is declared beside its owner.

Importing this loads no model and no index.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from knowledge_base.chunker import ChunkerSettings
from knowledge_base.embedder import EmbedderSettings
from knowledge_base.ingestion import IngestionSettings
from knowledge_base.lexical import LexicalSettings
from knowledge_base.loaders.limits import LoadLimits
from knowledge_base.retriever import RetrievalSettings


@dataclass(frozen=True, kw_only=True)
class KnowledgeBaseSettings:
    """How documents are read, cut, embedded and found."""

    limits: LoadLimits = field(default_factory=LoadLimits)
    """What one document may cost."""
    chunker: ChunkerSettings = field(default_factory=ChunkerSettings)
    """How documents are cut."""
    embedder: EmbedderSettings = field(default_factory=EmbedderSettings)
    """Which model makes the vectors."""
    ingestion: IngestionSettings = field(default_factory=IngestionSettings)
    """How documents are taken in."""
    lexical: LexicalSettings = field(default_factory=LexicalSettings)
    """How words are weighed."""
    retrieval: RetrievalSettings = field(default_factory=RetrievalSettings)
    """How passages are found and ranked."""
