"""Files in, searchable documents out: repeatable, atomic per document, honest about failures."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from knowledge_base.chunker import ChunkerSettings
from knowledge_base.database import Database
from knowledge_base.enrichment import enriched, heading_of
from knowledge_base.errors import EmbedderError, NotFoundError, StorageError, UsageError
from knowledge_base.ingestion import IngestionSettings, Ingestor
from knowledge_base.loaders.limits import LoadLimits
from knowledge_base.protocols import Vectors
from knowledge_base.records import IngestProgress, Reader
from knowledge_base.source_files import SourceFiles
from knowledge_base.store import KnowledgeStore
from tests.fakes import FakeEmbedder
from tests.knowledge_base.test_retriever import make_retriever


@pytest.fixture
def store(sqlite_database: Database) -> KnowledgeStore:
    """SQLite alone: what PostgreSQL adds is proved by the store's own tests."""
    return KnowledgeStore(sqlite_database)


@pytest.fixture
def files(tmp_path: Path) -> SourceFiles:
    """Originals beside the database."""
    return SourceFiles(tmp_path / "files")


@pytest.fixture
def ingestor(store: KnowledgeStore, embedder: FakeEmbedder, files: SourceFiles) -> Ingestor:
    """With default settings."""
    return Ingestor(store, embedder, files)


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """A small handbook."""
    folder = tmp_path / "docs"
    (folder / "leave").mkdir(parents=True)
    (folder / "leave" / "sick.md").write_text(
        "# Sick leave\n\n## Notes\n\nBring a doctor's note after three days.\n"
    )
    (folder / "pets.txt").write_text("Dogs may come to the office on Fridays.\n")
    return folder


def test_an_ingested_folder_can_be_searched(
    ingestor: Ingestor, store: KnowledgeStore, files: SourceFiles, docs: Path, alice: Reader
) -> None:
    """The report counts; passages know their place; originals are kept under the document's id."""
    report = ingestor.ingest([docs], "handbook")

    assert (2, 2, 0, ()) == (report.documents, report.chunks, report.skipped, report.failed)
    (best, *_) = make_retriever(store).retrieve("When do I need a doctor's note?", alice)
    assert ("leave/sick.md", "Sick leave") == (best.document, best.title)
    assert (docs / "leave" / "sick.md").read_bytes() == files.path(best.document_id).read_bytes()


def test_ingesting_twice_changes_nothing(
    ingestor: Ingestor, store: KnowledgeStore, embedder: FakeEmbedder, docs: Path
) -> None:
    """Not a chunk id, not a version; nothing is even embedded."""
    ingestor.ingest([docs], "handbook")
    before = (store.chunk_ids().tolist(), store.index_version(), store.list_documents(), embedder.n_encoded)

    report = ingestor.ingest([docs], "handbook")

    assert (0, 0, 2) == (report.documents, report.chunks, report.skipped)
    assert before == (
        store.chunk_ids().tolist(),
        store.index_version(),
        store.list_documents(),
        embedder.n_encoded,
    )


def test_a_changed_file_replaces_its_chunks(
    ingestor: Ingestor, store: KnowledgeStore, docs: Path, alice: Reader
) -> None:
    """The others are skipped; the document keeps its id."""
    ingestor.ingest([docs], "handbook")
    before = {d.path: d.id for d in store.list_documents()}
    (docs / "pets.txt").write_text("No animals in the office.\n")

    report = ingestor.ingest([docs], "handbook")

    assert (1, 1) == (report.documents, report.skipped)
    assert before == {d.path: d.id for d in store.list_documents()}
    texts = {p.text for p in make_retriever(store).retrieve("animals dogs office", alice)}
    assert "No animals in the office." in texts
    assert not any("Fridays" in text for text in texts)


def test_other_chunk_settings_ingest_everything_again(
    ingestor: Ingestor, store: KnowledgeStore, embedder: FakeEmbedder, files: SourceFiles, docs: Path
) -> None:
    """The bytes are the same, but what is made of them is not."""
    ingestor.ingest([docs], "handbook")
    smaller = Ingestor(store, embedder, files, chunker=ChunkerSettings(max_tokens=50, min_tokens=5))

    assert 2 == smaller.ingest([docs], "handbook").documents
    assert 2 == smaller.ingest([docs], "handbook").skipped


def test_a_failing_file_is_reported_and_the_rest_goes_on(
    ingestor: Ingestor, store: KnowledgeStore, docs: Path
) -> None:
    """A renamed binary, an empty file, one without text, one of an unknown kind that was named."""
    (docs / "program.md").write_bytes(b"\x7fELF\x02\x01\x01" + bytes(range(256)) * 40)
    (docs / "empty.md").write_text("")
    (docs / "front.md").write_text("---\ntitle: Nothing else\n---\n")
    (docs / "sheet.xyz").write_text("1,2")

    report = ingestor.ingest([docs, docs / "sheet.xyz"], "handbook")

    assert 2 == report.documents
    assert {"program.md", "empty.md", "front.md", "sheet.xyz"} == {f.path for f in report.failed}
    assert all("\n" not in f.error and ":" in f.error for f in report.failed)
    assert 2 == len(store.list_documents())


def test_a_file_that_fails_keeps_its_last_good_version(
    ingestor: Ingestor, store: KnowledgeStore, files: SourceFiles, docs: Path, alice: Reader
) -> None:
    """Text and original alike."""
    ingestor.ingest([docs], "handbook")
    (docs / "pets.txt").write_bytes(b"\x7fELF" + bytes(range(256)) * 40)

    report = ingestor.ingest([docs], "handbook")

    assert ["pets.txt"] == [f.path for f in report.failed]
    (pets,) = [d for d in store.list_documents() if d.path == "pets.txt"]
    assert "Fridays" in store.read_document(pets.id, alice).text
    assert b"Fridays" in files.path(pets.id).read_bytes()


def test_groups_restrict_a_new_collection_only(ingestor: Ingestor, store: KnowledgeStore, docs: Path) -> None:
    """One that exists keeps its rule; contradicting it is refused before anything is read."""
    ingestor.ingest([docs], "pay", groups=["hr"])
    assert frozenset({"hr"}) == store.get_collection("pay").groups

    ingestor.ingest([docs], "pay")
    ingestor.ingest([docs], "pay", groups=["hr"])
    assert not store.get_collection("pay").is_open
    with pytest.raises(UsageError, match="exists and is for hr"):
        ingestor.ingest([docs], "pay", groups=["all"])


def test_a_wrong_path_creates_no_collection(ingestor: Ingestor, store: KnowledgeStore, docs: Path) -> None:
    """The call is refused as a whole."""
    with pytest.raises(UsageError, match="does not exist"):
        ingestor.ingest([docs, docs / "nope"], "handbook")

    assert [] == store.list_collections()


class _StopsAfter:
    """A progress callback that ends the ingest, as a cancelled job does."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.seen: list[IngestProgress] = []

    def __call__(self, progress: IngestProgress) -> None:
        """Raise once enough were seen."""
        self.seen.append(progress)
        if len(self.seen) == self.n:
            raise KeyboardInterrupt


def test_an_interrupted_ingest_keeps_what_was_counted_and_goes_on(
    store: KnowledgeStore, embedder: FakeEmbedder, files: SourceFiles, tmp_path: Path
) -> None:
    """Documents are committed one by one."""
    folder = tmp_path / "many"
    folder.mkdir()
    for n in range(6):
        (folder / f"{n}.txt").write_text(f"Document number {n}.")
    ingestor = Ingestor(store, embedder, files, settings=IngestionSettings(chunks_per_batch=2))
    with pytest.raises(KeyboardInterrupt):
        ingestor.ingest([folder], "handbook", progress=_StopsAfter(3))
    assert 3 == len(store.list_documents())

    report = ingestor.ingest([folder], "handbook")

    assert (3, 3) == (report.documents, report.skipped)
    assert 6 == len(list((tmp_path / "files").iterdir()))


def test_progress_counts_every_file_and_estimates_the_rest(ingestor: Ingestor, docs: Path) -> None:
    """The last report says that nothing is left."""
    seen: list[IngestProgress] = []

    ingestor.ingest([docs], "handbook", progress=seen.append)

    assert [(1, 2), (2, 2)] == [(p.done, p.total) for p in seen]
    assert 0.0 == seen[-1].eta_seconds


def test_a_full_disk_ends_the_ingest_and_harms_nothing(
    ingestor: Ingestor, store: KnowledgeStore, files: SourceFiles, docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One clear line; a later run goes on."""
    ingestor.ingest([docs / "leave"], "handbook")

    def full(self: Path, target: Path) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", full)
        with pytest.raises(StorageError, match=r"disk of .* is full: free some space"):
            ingestor.ingest([docs], "handbook")

    assert ["sick.md"] == [d.path for d in store.list_documents()]
    assert 1 == len(list(files.directory.iterdir()))
    assert 2 == ingestor.ingest([docs], "handbook").documents


class _BreaksOnSecondBatch(FakeEmbedder):
    """Fails once, as a killed process would, between two batches."""

    calls = 0

    def encode(self, texts: Sequence[str]) -> Vectors:
        """The second call fails."""
        self.calls += 1
        if self.calls == 2:
            raise EmbedderError("gone")
        return super().encode(texts)


def test_a_failure_between_batches_leaves_whole_documents_only(
    store: KnowledgeStore, files: SourceFiles, docs: Path
) -> None:
    """Every stored document has its chunks and its original."""
    ingestor = Ingestor(store, _BreaksOnSecondBatch(), files, settings=IngestionSettings(chunks_per_batch=1))
    with pytest.raises(EmbedderError):
        ingestor.ingest([docs], "handbook")

    (document,) = store.list_documents()
    assert document.n_chunks == len(store.document_chunks(document.id)) > 0
    assert files.has(document.id)


def test_another_embedder_is_refused_before_any_work(
    ingestor: Ingestor, store: KnowledgeStore, files: SourceFiles, docs: Path
) -> None:
    """Vectors of two kinds are never mixed."""
    ingestor.ingest([docs], "handbook")

    with pytest.raises(EmbedderError, match="tacit reembed"):
        Ingestor(store, FakeEmbedder(version="other/1"), files).ingest([docs], "new")
    assert ["handbook"] == [c.name for c in store.list_collections()]


def test_an_upload_becomes_a_document_of_its_plain_name(
    ingestor: Ingestor, store: KnowledgeStore, files: SourceFiles
) -> None:
    """Folders in the name are dropped, and nothing temporary remains."""
    store.create_collection("handbook")

    report = ingestor.ingest_upload("..\\../etc/rules.txt", b"No smoking.", "handbook")

    assert (1, ()) == (report.documents, report.failed)
    (document,) = store.list_documents()
    assert "rules.txt" == document.path
    assert [document.id] == [p.name for p in files.directory.iterdir()]


@pytest.mark.parametrize("name", ["", "..", ".bashrc", "/", "x" * 300 + ".md", "a\nb.md", "a\0b.md"])
def test_an_upload_without_a_usable_name_is_refused(
    ingestor: Ingestor, store: KnowledgeStore, name: str
) -> None:
    """Before anything is written."""
    store.create_collection("handbook")

    with pytest.raises(UsageError, match="cannot be a document's name"):
        ingestor.ingest_upload(name, b"x", "handbook")


def test_an_upload_that_cannot_be_read_is_reported(
    store: KnowledgeStore, embedder: FakeEmbedder, files: SourceFiles
) -> None:
    """Too large, or into a collection that does not exist."""
    ingestor = Ingestor(store, embedder, files, limits=LoadLimits(max_file_bytes=10))
    store.create_collection("handbook")

    (failure,) = ingestor.ingest_upload("big.txt", b"more than ten bytes", "handbook").failed

    assert "limit is 10 bytes" in failure.error
    with pytest.raises(NotFoundError):
        ingestor.ingest_upload("a.txt", b"x", "nope")


def test_deleting_removes_the_original_too(
    ingestor: Ingestor, store: KnowledgeStore, files: SourceFiles, docs: Path
) -> None:
    """Of one document, and of a whole collection."""
    ingestor.ingest([docs], "handbook")
    first, second = store.list_documents()

    ingestor.delete_document(first.id)
    with pytest.raises(NotFoundError):
        files.path(first.id)
    assert 1 == ingestor.delete_collection("handbook")
    assert not files.has(second.id)


def test_orphaned_originals_are_swept(ingestor: Ingestor, files: SourceFiles, docs: Path) -> None:
    """Those of living documents stay."""
    ingestor.ingest([docs], "handbook")
    (files.directory / ("0" * 32)).write_bytes(b"left by a crash")

    assert 0 == ingestor.sweep_files()
    assert 1 == ingestor.sweep_files(older_than=timedelta(seconds=-5))
    assert 2 == len(list(files.directory.iterdir()))


def test_a_lost_original_is_restored_by_the_next_ingest(
    ingestor: Ingestor, store: KnowledgeStore, files: SourceFiles, docs: Path
) -> None:
    """Although the bytes did not change."""
    ingestor.ingest([docs], "handbook")
    files.remove(store.list_documents()[0].id)

    assert (1, 1) == ((report := ingestor.ingest([docs], "handbook")).documents, report.skipped)


def test_ids_that_are_none_open_no_file(files: SourceFiles) -> None:
    """No path of anybody's choosing is ever opened."""
    for document_id in ("../../etc/passwd", "", "abc", "0" * 31 + "/"):
        with pytest.raises(NotFoundError):
            files.path(document_id)


def test_a_chunk_is_embedded_under_its_title_and_headings() -> None:
    """The title is not said twice."""
    assert "Pay" == heading_of(("Sick leave", "Pay"), "Sick Leave ")
    assert "Sick leave > Pay\nText." == enriched("Sick leave", "Pay", "Text.")
    assert "Sick leave\nText." == enriched("Sick leave", "", "Text.")
