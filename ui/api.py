"""The HTTP interface for programs: health, metrics, documents, feedback. Same rules as the pages, checked by the same services.

Every route takes the person from the gate (`state.user`). Knows nothing of models; answers come from `openai_api`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Form, Request, UploadFile
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse
from pydantic import BaseModel, ConfigDict, Field

from chatbot.errors import SignInError
from chatbot.records import Role, User
from knowledge_base.errors import AccessDeniedError, UsageError
from knowledge_base.records import Document
from ui.document_page import render_document

if TYPE_CHECKING:
    from ui.wiring import Services


class FeedbackBody(BaseModel):
    """A judgement by a program, on answers that were given to the same person; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")

    kind: str = Field(description="rating, comparison, ranking or demonstration")
    answer_id: str | None = None
    answer_ids: list[str] = []
    label: bool | None = None
    ranking: list[list[int]] = []
    both_bad: bool = False
    question: str | None = None
    answer: str | None = None
    reasons: list[str] = []
    comment: str = ""


def current_user(request: Request) -> User:
    """The person the gate let in."""
    user = getattr(request.state, "user", None)
    if not isinstance(user, User):
        raise SignInError("sign in, or send a bearer key")
    return user


def require_role(request: Request, role: Role) -> User:
    """The person, when they have the role."""
    user = current_user(request)
    if user.role != role:
        raise AccessDeniedError(f"this needs the role {role}")
    return user


def make_router(services: Services) -> APIRouter:
    """All routes of this module, on the given services."""
    router = APIRouter()
    _add_health(router, services)
    _add_documents(router, services)
    _add_feedback(router, services)
    return router


def _add_health(router: APIRouter, services: Services) -> None:
    @router.get("/healthz")
    def healthz() -> dict[str, str]:
        """The process is alive."""
        return {"status": "ok"}

    @router.get("/readyz")
    def readyz() -> JSONResponse:
        """The database answers and a policy is loaded; 503 with the reason otherwise."""
        problem = services.readiness_problem()
        if problem:
            return JSONResponse({"status": "not ready", "reason": problem}, status_code=503)
        return JSONResponse({"status": "ready", "policy": services.registry.serving().id})

    @router.get("/metrics")
    def metrics(request: Request) -> PlainTextResponse:
        """Prometheus metrics, for ops (send a bearer key)."""
        require_role(request, "ops")
        from ui.metrics import render_metrics

        return PlainTextResponse(render_metrics(services), media_type="text/plain; version=0.0.4")


def _as_json(document: Document) -> dict[str, Any]:
    return {
        "id": document.id,
        "collection": document.collection,
        "path": document.path,
        "title": document.title,
        "chunks": document.n_chunks,
        "bytes": document.size_bytes,
        "updated_at": document.updated_at.isoformat(),
    }


def _add_documents(router: APIRouter, services: Services) -> None:
    @router.get("/api/documents")
    def list_documents(request: Request, collection: str | None = None) -> dict[str, Any]:
        """Documents the person may read."""
        reader = current_user(request).as_reader()
        return {
            "documents": [_as_json(d) for d in services.knowledge.list_documents(collection, reader=reader)]
        }

    @router.post("/api/documents", status_code=202)
    def upload(request: Request, file: UploadFile, collection: Annotated[str, Form()]) -> dict[str, str]:
        """Take a file for ingesting; returns at once with the job's id."""
        user = require_role(request, "admin")
        job = services.uploads.accept(
            name=file.filename or "", stream=file.file, collection=collection, actor=user.name
        )
        return {"job": job.id}

    @router.delete("/api/documents/{document_id}")
    def delete(request: Request, document_id: str) -> dict[str, str]:
        """Delete a document, its chunks and its original file."""
        user = require_role(request, "admin")
        services.delete_document(document_id, actor=user.name)
        return {"deleted": document_id}

    @router.get("/api/documents/{document_id}/file")
    def original(request: Request, document_id: str) -> FileResponse:
        """The file as it was ingested, for people who may read it."""
        document = services.knowledge.read_document(document_id, current_user(request).as_reader()).document
        path = services.original_file(document_id)
        # Always a download: an uploaded HTML file shown inline would run its scripts with our cookie.
        return FileResponse(path, filename=Path(document.path).name, content_disposition_type="attachment")

    @router.get("/documents/{document_id}")
    def view(
        request: Request, document_id: str, start: int | None = None, end: int | None = None
    ) -> HTMLResponse:
        """The document's text with the cited place marked."""
        document = services.knowledge.read_document(document_id, current_user(request).as_reader())
        return HTMLResponse(render_document(document, start=start, end=end))


def _add_feedback(router: APIRouter, services: Services) -> None:
    @router.post("/api/feedback", status_code=201)
    def give(request: Request, body: FeedbackBody) -> dict[str, str]:
        """Store a judgement."""
        user = current_user(request)
        handlers: dict[str, Callable[[User, FeedbackBody], str]] = {
            "rating": lambda u, b: _rate(services, u, b),
            "comparison": lambda u, b: _rank(services, u, b),
            "ranking": lambda u, b: _rank(services, u, b),
            "demonstration": lambda u, b: _demonstrate(services, u, b),
        }
        handler = handlers.get(body.kind)
        if handler is None:
            raise UsageError(f"kind {body.kind!r} is unknown: use one of {', '.join(handlers)}")
        return {"id": handler(user, body)}


def _rate(services: Services, user: User, body: FeedbackBody) -> str:
    if body.answer_id is None or body.label is None:
        raise UsageError("a rating needs answer_id and label")
    judgement = services.feedback.rate(
        user, body.answer_id, body.label, reasons=body.reasons, comment=body.comment, surface="api"
    )
    return judgement.id


def _rank(services: Services, user: User, body: FeedbackBody) -> str:
    if len(body.answer_ids) < 2:
        raise UsageError("a comparison needs two or more answer_ids")
    judgement = services.feedback.rank(
        user, body.answer_ids, body.ranking, both_bad=body.both_bad, comment=body.comment, surface="api"
    )
    return judgement.id


def _demonstrate(services: Services, user: User, body: FeedbackBody) -> str:
    if not body.answer:
        raise UsageError("a demonstration needs answer, and answer_id or question")
    judgement = services.feedback.demonstrate(
        user, text=body.answer, answer_id=body.answer_id, question=body.question, surface="api"
    )
    return judgement.id
