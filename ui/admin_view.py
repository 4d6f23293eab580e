"""The admin page's pieces: collections, documents, uploads, people, the audit trail. Records to HTML; knows nothing of services."""

from __future__ import annotations

import json
from collections.abc import Sequence

from chatbot.accounts import ROLES
from chatbot.audit import AuditEvent
from chatbot.records import User
from knowledge_base.collection_store import may_read
from knowledge_base.records import Collection, Document, Job, Reader
from ui.admin_handlers import DocumentFilter, NewPassword
from ui.fragments import (
    ago,
    attributes,
    badge,
    button,
    card,
    choice,
    esc,
    field,
    form,
    icon,
    progress_bar,
    select,
    table,
)

LEAD = "<div class='t-lead'><h1>Documents and people</h1></div>"


def render_collections(collections: Sequence[Collection]) -> str:
    """Collections with who may read them, and a form for a new one."""
    rows = [
        [
            f"<span><b>{esc(c.title)}</b><br><small>{esc(c.name)}</small></span>",
            esc(c.owner),
            f"{c.n_documents:,}",
            _readers(c),
            _grant_form(c),
        ]
        for c in collections
    ]
    listed = table(
        ("Collection", "Owner", "Documents", "Who may read", "Change"), rows,
        empty="There is no collection yet. Create the first one below.", caption="Collections",
    )  # fmt: skip
    fields = (
        field(
            "Name",
            "name",
            required=True,
            maxlength=64,
            placeholder="handbook",
            pattern="[A-Za-z0-9][A-Za-z0-9._\\-]*",
        )
        + field("Title", "title", maxlength=120, placeholder="Employee handbook")
        + field(
            "Owner",
            "owner",
            maxlength=120,
            placeholder="People Operations",
            title="Whom to ask when the documents hold no answer",
        )
        + field(
            "Groups that may read",
            "groups",
            placeholder="everyone",
            title="With commas between them; everyone when left empty",
        )
        + "<button class='t-button main'>Create</button>"
    )
    new = form("create-collection", f"<div class='t-row'>{fields}</div>")
    more = f"<details class='t-more'{'' if collections else ' open'}><summary>New collection</summary>{new}</details>"
    return card("Collections", listed + more)


def _readers(collection: Collection) -> str:
    if collection.is_open:
        return badge("everyone", "good")
    groups = "".join(
        f"<span class='t-badge'>{esc(group)}"
        f"<button{attributes(data_act='revoke', data_collection=collection.name, data_group=group, aria_label=f'Stop {group} from reading')}"
        f"{attributes(data_confirm=f'Stop the group {group} from reading {collection.title}?', data_confirm_label='Stop it')}>×</button></span>"
        for group in sorted(collection.groups)
    )
    return f"<span class='t-badges'>{groups}</span>" if groups else badge("nobody", "warn")


def _grant_form(collection: Collection) -> str:
    if collection.is_open:
        return button(
            "Restrict to groups", "restrict", kind="small", data_collection=collection.name,
            data_confirm=f"Restrict {collection.title} to its groups? Its judgements also leave training.", data_confirm_label="Restrict",
        )  # fmt: skip
    box = attributes(
        name="group", required=True, maxlength=64, placeholder="group", aria_label="Group to add"
    )
    add = f"<input{box}><button class='t-button small'>Add</button>"
    opener = button(
        "Open to everyone", "open", kind="small quiet", data_collection=collection.name,
        data_confirm=f"Let every employee read {collection.title}? Its text may then also be trained into the model.",
        data_confirm_label="Open it",
    )  # fmt: skip
    return form("grant", add + opener, data_collection=collection.name)


def render_upload(collections: Sequence[Collection]) -> str:
    """Where files are dropped; the browser sends them to our own route."""
    if not collections:
        return ""
    options = [(c.name, c.title) for c in collections]
    pick = (
        f"<label class='t-button main t-pick'>{icon('plus')}<span>Choose files</span>"
        "<input type='file' name='file' multiple aria-label='Choose files'></label>"
    )
    body = (
        f"<form class='t-upload'><div class='t-row'>{choice('Into the collection', 'collection', options)}{pick}</div>"
        "<p class='t-muted' style='margin-top:.6rem'>Or drop them here. PDF, Word, Markdown, HTML or text.</p>"
        "<ul aria-live='polite'></ul></form>"
    )
    return card("Upload", body)


def render_jobs(jobs: Sequence[Job]) -> str:
    """Uploads being read, and what became of the last ones."""
    if not jobs:
        return ""
    rows = [
        [
            esc(job.payload.get("name", "")),
            esc(job.payload.get("collection", "")),
            _job_state(job),
            ago(job.created_at),
        ]
        for job in jobs
    ]
    return card(
        "Recent uploads", table(("File", "Collection", "State", "When"), rows, empty="", caption="Uploads")
    )


def _job_state(job: Job) -> str:
    if job.state == "running":
        done, total = job.progress.get("done", 0), job.progress.get("total", 0)
        return f"{badge('reading', 'warn')} {progress_bar(done, total, 'Reading')}"
    if job.state == "failed":
        return f"{badge('failed', 'bad')} <small>{esc(job.error or '')}</small>"
    failures = (job.result or {}).get("failed") or []
    if job.state == "done" and failures:
        reason = failures[0].get("error", "") if isinstance(failures[0], dict) else failures[0]
        return f"{badge('refused', 'bad')} <small>{esc(reason)}</small>"
    words = {"queued": ("waiting", "warn"), "done": ("ready", "good"), "cancelled": ("cancelled", "")}
    return badge(*words[job.state])


def render_documents(
    documents: Sequence[Document],
    n_matching: int,
    collections: Sequence[Collection],
    wanted: DocumentFilter,
    reader: Reader,
) -> str:
    """The documents that match the filter."""
    readable = {c.name for c in collections if may_read(reader, c)}
    rows = [
        [
            _document_name(d, can_open=d.collection in readable),
            esc(d.collection),
            f"{d.n_chunks:,}",
            f"{max(1, round(d.size_bytes / 1024)):,} kB",
            ago(d.updated_at),
            button(
                "Delete", "delete-document", kind="small quiet danger", drawn="bin", only_icon=True, data_id=d.id,
                data_confirm=f"Delete {d.path}? Answers stop using it at once.", data_confirm_label="Delete",
            ),
        ]
        for d in documents
    ]  # fmt: skip
    options = [("", "All collections"), *[(c.name, c.title) for c in collections]]
    box = attributes(
        name="search",
        value=wanted.search,
        type="search",
        placeholder="Path or title",
        aria_label="Search documents",
    )
    chooser = select("collection", options, chosen=wanted.collection, aria_label="Collection")
    asked = form("filter", f"<div class='t-row'>{chooser}<input{box}></div>", data_live=True, data_keep=True)
    listed = table(
        ("Document", "Collection", "Chunks", "Size", "Ingested", "Delete"), rows,
        empty="No document matches." if wanted.search or wanted.collection else "There are no documents yet. Upload some above.",
        caption="Documents",
    )  # fmt: skip
    more = (
        f"<p class='t-muted'>The first {len(documents)} of {n_matching:,} are shown: search for the rest.</p>"
        if n_matching > len(documents)
        else ""
    )
    return card(f"Documents · {n_matching:,}", asked + "<div style='height:.8rem'></div>" + listed + more)


def _document_name(document: Document, *, can_open: bool) -> str:
    title = esc(document.title)
    shown = (
        f"<a href='/documents/{esc(document.id)}' target='_blank' rel='noopener'>{title}</a>"
        if can_open
        else f"<b>{title}</b>"
    )
    return f"<span>{shown}<br><small>{esc(document.path)}</small></span>"


def render_people(users: Sequence[User], me: User, secret: NewPassword | None = None) -> str:
    """Everyone, a form for one more, and a password just made."""
    rows = [[_person(u), _person_form(u), _person_acts(u, me)] for u in users]
    shown = "" if secret is None else _secret(secret)
    listed = table(("Person", "Role and groups", "Account"), rows, empty="Nobody yet.", caption="People")
    fields = (
        field("Name", "name", required=True, maxlength=64, placeholder="amina")
        + choice("Role", "role", [(r, r) for r in ROLES], chosen="employee")
        + field("Groups", "groups", placeholder="hr, finance", title="With commas between them")
        + "<button class='t-button main'>Add</button>"
    )
    new = f"<details class='t-more' data-close><summary>New person</summary>{form('add-user', f'<div class=t-row>{fields}</div>')}</details>"
    return card("People", shown + listed + new)


def _secret(secret: NewPassword) -> str:
    copy = attributes(
        type="button",
        class_="t-button small icon quiet",
        data_copy=secret.password,
        aria_label="Copy the password",
    )
    return (
        f"<div class='t-secret' role='status'><span>Password of <b>{esc(secret.user)}</b>, shown only now:</span>"
        f"<code>{esc(secret.password)}</code><button{copy}>{icon('copy')}</button>{button('Hide', 'hide', kind='small quiet')}</div>"
    )


def _person(user: User) -> str:
    state = f" {badge('disabled', 'bad')}" if user.disabled_at else ""
    return f"<span><b>{esc(user.name)}</b>{state}</span>"


def _person_form(user: User) -> str:
    roles = select("role", [(r, r) for r in ROLES], chosen=user.role, aria_label=f"Role of {user.name}")
    groups = attributes(
        name="groups",
        value=", ".join(sorted(user.groups)),
        placeholder="no groups",
        aria_label=f"Groups of {user.name}",
    )
    return form(
        "set-user",
        f"{roles}<input{groups}><button class='t-button small'>Save</button>",
        data_user=user.id,
        data_keep=True,
    )


def _person_acts(user: User, me: User) -> str:
    reset = button(
        "New password", "reset-password", kind="small quiet", data_user=user.id,
        data_confirm=f"Give {user.name} a new password? All their sessions end.", data_confirm_label="New password",
    )  # fmt: skip
    if user.id == me.id:
        return f"<div class='t-row'>{reset}</div>"
    enable = button("Enable", "enable", kind="small", data_user=user.id)
    disable = button(
        "Disable", "disable", kind="small quiet danger", data_user=user.id,
        data_confirm=f"Disable {user.name}? They are signed out at once.", data_confirm_label="Disable",
    )  # fmt: skip
    delete = button(
        "Delete", "delete-user", kind="small quiet danger", drawn="bin", data_user=user.id,
        data_confirm=f"Delete {user.name} for good? Their conversations, judgements and ideal answers are erased, "
        "in training runs too. This cannot be undone.",
        data_confirm_label="Delete for good",
    )  # fmt: skip
    return f"<div class='t-row'>{reset}{enable if user.disabled_at else disable}{delete}</div>"


def render_audit(events: Sequence[AuditEvent]) -> str:
    """The newest events."""
    rows = [
        [
            ago(e.at),
            esc(e.actor),
            f"<code>{esc(e.action)}</code>",
            esc(e.subject),
            f"<small>{esc(_detail(e))}</small>",
        ]
        for e in events
    ]
    return card(
        "Audit trail",
        table(("When", "Who", "Did", "To", "Detail"), rows, empty="Nothing yet.", caption="Audit trail"),
    )


def _detail(event: AuditEvent) -> str:
    parts = (
        f"{name}: {value if isinstance(value, str) else json.dumps(value)}"
        for name, value in event.detail.items()
        if value
    )
    return ", ".join(parts)
