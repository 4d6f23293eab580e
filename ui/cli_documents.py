"""`tacit ingest`, `documents`, `collections`: what the chatbot may know, and who may read it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ui.cli_output import Context, command_options, progress_bar, table

if TYPE_CHECKING:
    from knowledge_base.records import IngestReport

OPERATOR = "command line"
"""Who did it, in the audit trail, when it was done at the command line."""


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--collection", required=True, help="The collection to put them in; made when new.")
@click.option(
    "--groups", help="Comma-separated groups that may read a new collection; without it, every employee may."
)
@command_options
def ingest(context: Context, paths: tuple[Path, ...], collection: str, groups: str | None) -> None:
    """Read files and folders into a collection. Unchanged files are skipped, changed ones replaced."""
    from ui.wiring import open_services

    with open_services(context.home, create=True) as services, progress_bar("Ingesting") as update:
        report = services.ingestor.ingest(
            list(paths),
            collection,
            groups=_split(groups),
            progress=lambda p: update(p.done, p.total, Path(p.path).name),
        )
        services.audit.record(
            OPERATOR, "ingest", collection, documents=report.documents, failed=len(report.failed)
        )
    for failure in report.failed:
        context.complain(f"{failure.path}: {failure.error}")
    context.emit(_as_json(report), _as_text(report, collection))
    if report.failed and not (report.documents or report.skipped):
        raise click.exceptions.Exit(1)


def _split(groups: str | None) -> list[str] | None:
    return None if groups is None else [g.strip() for g in groups.split(",") if g.strip()]


def _as_json(report: IngestReport) -> dict[str, object]:
    return {
        "documents": report.documents,
        "chunks": report.chunks,
        "skipped": report.skipped,
        "failed": [{"path": f.path, "error": f.error} for f in report.failed],
        "seconds": round(report.seconds, 2),
    }


def _as_text(report: IngestReport, collection: str) -> str:
    return (
        f"{collection}: {report.documents} documents, {report.chunks} chunks, {report.skipped} unchanged, "
        f"{len(report.failed)} failed, {report.seconds:.1f} s"
    )


@click.group()
def documents() -> None:
    """List and delete documents."""


@documents.command("list")
@click.option("--collection", help="Only this one.")
@command_options
def list_documents(context: Context, collection: str | None) -> None:
    """All documents, with their ids."""
    from ui.wiring import open_services

    with open_services(context.home) as services:
        found = services.knowledge.list_documents(collection)
    rows = [[d.id, d.collection, d.path, d.n_chunks, f"{d.updated_at:%Y-%m-%d %H:%M}"] for d in found]
    payload = [
        {
            "id": d.id,
            "collection": d.collection,
            "path": d.path,
            "title": d.title,
            "chunks": d.n_chunks,
            "updated_at": d.updated_at,
        }
        for d in found
    ]
    context.emit({"documents": payload}, table(rows, ["id", "collection", "path", "chunks", "updated (UTC)"]))


@documents.command("delete")
@click.argument("document_id")
@command_options
def delete_document(context: Context, document_id: str) -> None:
    """Delete a document wherever its words are kept: chunks, original, answers, training runs."""
    from ui.wiring import open_services

    with open_services(context.home) as services:
        erasure = services.delete_document(document_id, actor=OPERATOR)
    context.emit({"deleted": document_id}, f"deleted {document_id}. {erasure.advice()}".strip())


@click.group()
def collections() -> None:
    """List collections and decide who may read them."""


@collections.command("list")
@command_options
def list_collections(context: Context) -> None:
    """All collections and their readers."""
    from ui.wiring import open_services

    with open_services(context.home) as services:
        found = services.knowledge.list_collections()
    rows = [
        [c.name, "everyone" if c.is_open else ", ".join(sorted(c.groups)) or "nobody", c.n_documents, c.owner]
        for c in found
    ]
    payload = [
        {
            "name": c.name,
            "title": c.title,
            "open": c.is_open,
            "groups": sorted(c.groups),
            "owner": c.owner,
            "documents": c.n_documents,
            "chunks": c.n_chunks,
        }
        for c in found
    ]
    context.emit({"collections": payload}, table(rows, ["name", "readers", "documents", "owner"]))


@collections.command()
@click.argument("name")
@click.argument("group")
@command_options
def grant(context: Context, name: str, group: str) -> None:
    """Let a GROUP read a collection; `everyone` opens it to all employees."""
    _change_readers(context, name, group, allow=True)


@collections.command()
@click.argument("name")
@click.argument("group")
@command_options
def revoke(context: Context, name: str, group: str) -> None:
    """Take a GROUP's right to read a collection; `everyone` closes an open one."""
    _change_readers(context, name, group, allow=False)


def _change_readers(context: Context, name: str, group: str, *, allow: bool) -> None:
    from ui.wiring import open_services

    with open_services(context.home) as services:
        changed = services.change_readers(name, group, allow=allow, actor=OPERATOR)
    readers = "everyone" if changed.is_open else ", ".join(sorted(changed.groups)) or "nobody"
    payload = {"name": changed.name, "open": changed.is_open, "groups": sorted(changed.groups)}
    context.emit(payload, f"{changed.name} may be read by: {readers}")
