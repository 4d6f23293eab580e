"""An answer as people see it: text with citations, sources, and what they may say about it. Records to HTML, nothing else.

Knows nothing of services. An answer that abstains looks different on purpose: it shows the nearest documents and whom to ask instead of
pretending. Panels come open only where the person has just done something.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chatbot.answer_json import StoredEvidence
from chatbot.answers import StoredAnswer
from chatbot.judgements import REASONS
from chatbot.prompt import REFUSAL
from chatbot.records import Citation, Judgement
from ui.answer_text import citation_href, render_answer_text
from ui.document_page import source_link
from ui.fragments import attributes, button, esc, form, icon

GOOD_REASONS = ("correct", "clear", "great source")
ABSTAINED_REASONS = ("should have answered",)
BAD_REASONS = tuple(r for r in REASONS if r not in (*GOOD_REASONS, *ABSTAINED_REASONS))
_NEAREST = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedView:
    """An answer with what this person has said about it."""

    answer: StoredAnswer
    rating: Judgement | None = None
    ideal: Judgement | None = None
    """The demonstration this person wrote in its place."""
    open_panel: str = ""
    """`rating` or `ideal`: the panel to show open."""
    can_regenerate: bool = False


def render_body(answer: StoredAnswer, owners: Mapping[str, str]) -> str:
    """Text and sources.

    Args:
        answer: Which.
        owners: Collection name to whom to ask, for answers that abstain.
    """
    if answer.abstained:
        return _render_unknown(answer, owners)
    text = render_answer_text(answer.text, answer.citations)
    return f"<div class='t-text'>{text}</div>{_render_sources(answer.citations)}"


def _render_unknown(answer: StoredAnswer, owners: Mapping[str, str]) -> str:
    nearest: dict[str, StoredEvidence] = {}
    for sentence in answer.evidence:
        nearest.setdefault(sentence.document_id, sentence)
    if not nearest:
        return f"<div class='t-text t-unknown'>{render_answer_text(answer.text)}</div>"
    shown = list(nearest.values())[:_NEAREST]
    asked = dict.fromkeys(owners[s.collection] for s in shown if owners.get(s.collection))
    who = f"<p class='t-muted'>You could ask {esc(' or '.join(asked))}.</p>" if asked else ""
    items = "".join(
        _source(
            source_link(s.document_id, s.start, s.end),
            icon("file"),
            s.title or s.document,
            s.heading,
            s.page,
            s.text,
        )
        for s in shown
    )
    return (
        f"<div class='t-unknown'><div class='t-text'><p>{esc(REFUSAL)}</p></div>{who}</div>"
        f"<p class='t-label'>The nearest documents</p><ul class='t-sources'>{items}</ul>"
    )


def _render_sources(citations: Sequence[Citation]) -> str:
    if not citations:
        return ""
    items = "".join(
        _source(
            citation_href(c),
            f"<span class='t-chip'>{c.number}</span>",
            c.title or c.document,
            c.heading,
            c.page,
            c.text,
        )
        for c in citations
    )
    return f"<ol class='t-sources' aria-label='Sources'>{items}</ol>"


def _source(href: str, mark: str, title: str, heading: str, page: int | None, text: str) -> str:
    parts = [title]
    if heading and heading != title:
        # Headings of evidence begin with the title, which stands there already.
        parts.append(heading.removeprefix(f"{title} > ").replace(" > ", " › "))
    if page is not None:
        parts.append(f"page {page}")
    return (
        f"<li><a href='{esc(href)}' target='_blank' rel='noopener'>{mark}<b>{esc(' · '.join(parts))}</b>"
        f"<span class='t-snippet'>{esc(' '.join(text.split()))}</span></a></li>"
    )


def render_judging(view: JudgedView) -> str:
    """The row of buttons under an answer, and the panel that is open."""
    answer, rating = view.answer, view.rating
    given = None if rating is None else rating.label
    buttons = [
        button(
            "Good answer", "undo-rating" if given is True else "rate", kind="quiet small", drawn="up", only_icon=True,
            data_answer=answer.id, data_label="up", aria_pressed=str(given is True).lower(), data_focus=f"up-{answer.id}",
        ),
        button(
            "Bad answer", "undo-rating" if given is False else "rate", kind="quiet small", drawn="down", only_icon=True,
            data_answer=answer.id, data_label="down", aria_pressed=str(given is False).lower(), data_focus=f"down-{answer.id}",
        ),
        button(
            "Write the ideal answer", "close" if view.open_panel == "ideal" else "write-ideal", kind="quiet small",
            drawn="pen", only_icon=True, data_answer=answer.id, aria_pressed=str(view.ideal is not None).lower(),
            data_focus=f"ideal-{answer.id}",
        ),
        _copy_button(answer.text),
    ]  # fmt: skip
    if view.can_regenerate:
        buttons.append(
            button(
                "Answer again", "again", kind="quiet small", drawn="again", only_icon=True, data_focus="again"
            )
        )
    policy = (
        f"<span class='t-policy' title='The policy version that wrote this'>{esc(answer.policy_id)}</span>"
    )
    return f"<div class='t-actions'>{''.join(buttons)}{policy}</div>{_panel(view)}"


def _copy_button(text: str) -> str:
    own = attributes(
        type="button",
        class_="t-button quiet small icon",
        data_copy=text,
        aria_label="Copy the answer",
        title="Copy the answer",
    )
    return f"<button{own}>{icon('copy')}</button>"


def _panel(view: JudgedView) -> str:
    if view.open_panel == "ideal":
        return _ideal_panel(view)
    if view.open_panel == "rating" and view.rating is not None:
        return _reasons_panel(view.answer, view.rating)
    return _said(view)


def _reasons_panel(answer: StoredAnswer, rating: Judgement) -> str:
    liked = rating.label is True
    reasons = (
        GOOD_REASONS if liked else (*ABSTAINED_REASONS, *BAD_REASONS) if answer.abstained else BAD_REASONS
    )
    title = "Thank you. What was good about it?" if liked else "Thank you. What was wrong with it?"
    comment = (
        "<label class='t-field'><span>Anything else (optional)</span>"
        f"<textarea name='comment' rows='1' maxlength='2000'>{esc(rating.comment)}</textarea></label>"
    )
    row = (
        "<div class='t-row'><button class='t-button main small'>Save</button>"
        + button("Skip", "close", kind="quiet small")
        + "</div>"
    )
    body = f"<fieldset><legend>{title}</legend>{ticks('reasons', reasons, rating.reasons)}</fieldset>{comment}{row}"
    label = "up" if liked else "down"
    inner = form("explain", body, data_answer=answer.id, data_label=label, data_keep=True)
    return f"<div class='t-panel'>{inner}</div>"


def ticks(name: str, options: Sequence[str], chosen: Sequence[str]) -> str:
    """Boxes to tick, as pills."""
    boxes = "".join(
        f"<label><input{attributes(type='checkbox', name=name, value=option, checked=option in chosen)}>{esc(option)}</label>"
        for option in options
    )
    return f"<div class='t-ticks'>{boxes}</div>"


def _ideal_panel(view: JudgedView) -> str:
    written = view.ideal.answers[0].text if view.ideal else ""
    start = written or ("" if view.answer.abstained else view.answer.completion or view.answer.text)
    body = (
        "<label class='t-field'><span class='t-title'>How should the answer read?</span>"
        f"<textarea name='text' rows='3' required maxlength='4000' data-autofocus>{esc(start)}</textarea>"
        "<small>Tacit learns from it, so colleagues may come to read it. Keep the [1] marks of the evidence you rely on.</small></label>"
        "<div class='t-row'><button class='t-button main small'>Save the ideal answer</button>"
        + button("Cancel", "close", kind="quiet small")
        + (
            button("Take it back", "undo-ideal", kind="danger small", data_answer=view.answer.id)
            if view.ideal
            else ""
        )
        + "</div>"
    )
    return f"<div class='t-panel'>{form('ideal', body, data_answer=view.answer.id, data_keep=True)}</div>"


def _said(view: JudgedView) -> str:
    parts = []
    if view.rating is not None and (view.rating.reasons or view.rating.comment):
        said = ", ".join(view.rating.reasons)
        quote = f" <q>{esc(view.rating.comment)}</q>" if view.rating.comment else ""
        parts.append(f"You said: {esc(said)}{quote}")
    if view.ideal is not None:
        parts.append(f"Your ideal answer: <q>{esc(view.ideal.answers[0].text)}</q>")
    return "".join(f"<p class='t-said'>{part}</p>" for part in parts)
