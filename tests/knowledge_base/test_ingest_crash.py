"""`kill -9` in the middle of an ingest: what was counted is there, and the next run goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from knowledge_base.database import Database
from knowledge_base.ingestion import IngestionSettings, Ingestor
from knowledge_base.source_files import SourceFiles
from knowledge_base.store import KnowledgeStore
from tests.fakes import FakeEmbedder

N_DOCUMENTS = 40

_CHILD = """
import sys
from pathlib import Path
from knowledge_base.database import Database
from knowledge_base.ingestion import IngestionSettings, Ingestor
from knowledge_base.source_files import SourceFiles
from knowledge_base.store import KnowledgeStore
from tests.fakes import FakeEmbedder

url, files, folder = sys.argv[1:]
ingestor = Ingestor(
    KnowledgeStore(Database(url)), FakeEmbedder(), SourceFiles(Path(files)), settings=IngestionSettings(chunks_per_batch=3)
)
ingestor.ingest([Path(folder)], "handbook", progress=lambda p: print("counted", p.path, flush=True))
"""


@pytest.mark.crash
@pytest.mark.parametrize("kill_after", [1, 4, 11])
def test_a_killed_ingest_loses_nothing_that_was_counted(
    sqlite_database: Database, tmp_path: Path, kill_after: int
) -> None:
    """Every document is whole or absent, and one more run completes the folder."""
    folder = tmp_path / "docs"
    folder.mkdir()
    for n in range(N_DOCUMENTS):
        (folder / f"{n:02}.txt").write_text(f"Document number {n} says something of its own.")
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, sqlite_database.url, str(tmp_path / "files"), str(folder)],
        stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert child.stdout is not None
    counted: list[str] = []
    while len(counted) < kill_after and (line := child.stdout.readline()):
        if line.startswith("counted "):
            counted.append(line.split()[1])
    child.send_signal(signal.SIGKILL)
    counted += [line.split()[1] for line in child.stdout if line.startswith("counted ")]
    assert -signal.SIGKILL == child.wait()

    store, files = KnowledgeStore(sqlite_database), SourceFiles(tmp_path / "files")
    kept = store.list_documents()
    assert set(counted) <= {d.path for d in kept}
    assert all(files.has(d.id) and d.n_chunks == len(store.document_chunks(d.id)) == 1 for d in kept)

    ingestor = Ingestor(store, FakeEmbedder(), files, settings=IngestionSettings(chunks_per_batch=3))
    report = ingestor.ingest([folder], "handbook")
    assert (N_DOCUMENTS - len(kept), len(kept)) == (report.documents, report.skipped)
    assert N_DOCUMENTS == len(store.chunk_ids())
