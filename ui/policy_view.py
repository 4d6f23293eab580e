"""The policies on the ops page: which serves, which gates each passed, what it learned that people like, promotion by hand.

Records to HTML, nothing else. Different from a model registry's list: each verdict is a sentence, and what was learned can be read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from chatbot.policy_rows import DELETED_SINCE
from chatbot.records import PolicyVersion
from ui.fragments import ago, attributes, badge, button, card, esc, field, form, table
from ui.ops_view import STATE_BADGES, render_metrics

_PASSED, _FAILED, _NOT_MEASURED = ("passed", "good"), ("failed", "bad"), ("not measured", "warn")
_NOTICEABLE = 0.05
"""Rewards a standard deviation; below that a line would be noise."""
_TASTES = {
    "similarity": "close in meaning to the question",
    "passage_similarity": "from a passage close in meaning to the question",
    "takes_up_question": "takes up the question's words",
    "keeps_to_question": "says little else than what was asked",
    "heading_takes_up_question": "stands under a heading with the question's words",
    "log_words": "long",
    "words_over_25": "longer than 25 words",
    "words_over_50": "longer than 50 words",
    "has_number": "has a number",
    "starts_whole": "begins like a sentence",
    "ends_whole": "ends like a sentence",
}
"""The features of `chatbot.evidence_order` in plain words."""


def render_policies(policies: Sequence[PolicyVersion], selected: str) -> str:
    """All policies, and the selected one in full."""
    serving = next((p for p in policies if p.state == "serving"), None)
    rows = [
        [
            f"<button class='t-button small quiet'{attributes(data_act='select', data_policy=p.id, data_focus=p.id, aria_pressed=str(p.id == selected).lower())}><code>{esc(p.id)}</code></button>",
            badge(p.state, STATE_BADGES[p.state]),
            esc(p.stage),
            esc(p.parent or "–"),
            _gate_count(p),
            ago(p.created_at),
        ]
        for p in policies
    ]
    can_roll_back = any(p.state == "retired" for p in policies)
    roll_back = button(
        "Roll back", "roll-back", kind="danger small",
        data_confirm=f"Stop serving {serving.id} and go back to what served before?", data_confirm_label="Roll back",
    ) if serving and can_roll_back else ""  # fmt: skip
    listed = table(
        ("Policy", "State", "Stage", "From", "Gates", "Made"),
        rows,
        empty="No policy yet.",
        caption="Policies",
    )
    chosen = next((p for p in policies if p.id == selected), serving)
    return card("Policies", listed, aside=roll_back) + (_render_policy(chosen) if chosen else "")


def _gate_count(policy: PolicyVersion) -> str:
    if not policy.gates:
        return "–"
    verdicts = [_verdict(gate) for gate in policy.gates]
    n_measured = len(verdicts) - verdicts.count(_NOT_MEASURED)
    counted = badge(f"{verdicts.count(_PASSED)} of {n_measured}", "bad" if _FAILED in verdicts else "good")
    n_open = verdicts.count(_NOT_MEASURED)
    # In one box: on a phone each cell is a grid, and a second badge would slip under the labels.
    return (
        f"<span class='t-badges'>{counted}{badge(f'{n_open} not measured', 'warn')}</span>"
        if n_open
        else counted
    )


def _verdict(gate: Mapping[str, Any]) -> tuple[str, str]:
    """Word and kind of a gate's badge; one that stops the candidate has failed, measured or not."""
    if not gate.get("passed"):
        return _FAILED
    return _PASSED if gate.get("measured", True) else _NOT_MEASURED


def _render_policy(policy: PolicyVersion) -> str:
    reason = f"<p class='t-muted'>{esc(policy.reason)}</p>" if policy.reason else ""
    since = str(policy.manifest.get(DELETED_SINCE) or "")
    if since:
        reason += (
            f"<p>{badge('data deleted', 'warn')} Something that it learned from was deleted on {esc(since[:10])}. "
            "Its weights keep that until a new policy takes its place.</p>"
        )
    gates = "".join(
        f"<li>{badge(*_verdict(gate))}"
        f"<span><b>{esc(str(gate.get('name', '')).replace('_', ' '))}</b> · {esc(gate.get('why', ''))}</span></li>"
        for gate in policy.gates
    )
    shown = (
        f"<ul class='t-gates'>{gates}</ul>"
        if gates
        else "<p class='t-muted'>No gates were run for this one.</p>"
    )
    numbers = render_metrics(policy.metrics)
    shown += _render_taste(policy.manifest.get("taste") or {})
    more = f"<details class='t-more'><summary>All metrics</summary>{numbers}</details>" if numbers else ""
    title = f"{policy.id} · why it {'serves' if policy.state == 'serving' else 'may or may not serve'}"
    return card(title, reason + shown + more + _force(policy), aside=_promote(policy))


def _render_taste(taste: Mapping[str, Any]) -> str:
    """What of a sentence was learned to please, the strongest first."""
    worth = sorted((taste.get("worth") or {}).items(), key=lambda item: -abs(item[1]))
    strong = [(name, value) for name, value in worth if abs(value) >= _NOTICEABLE]
    if not strong:
        return ""
    rows = "".join(
        f"<li>{badge(f'{value:+.2f}', 'good' if value > 0 else 'bad')}<span>{esc(_TASTES.get(name, name))}</span></li>"
        for name, value in strong
    )
    used = (
        "It reads such sentences of the evidence first."
        if taste.get("weights")
        else "On held-out questions that did not help, so the evidence stays in the order of similarity."
    )
    return f"<h3 style='margin-top:1.4rem'>What people like to be quoted</h3><p class='t-muted' style='margin-bottom:.6rem'>{used}</p><ul class='t-gates'>{rows}</ul>"


def _promote(policy: PolicyVersion) -> str:
    if policy.state in ("serving", "rejected"):
        return badge(policy.state, STATE_BADGES[policy.state])
    return button(
        "Promote", "promote", kind="main small", data_policy=policy.id,
        data_confirm=f"Let {policy.id} answer from the next question on?", data_confirm_label="Promote",
    )  # fmt: skip


def _force(policy: PolicyVersion) -> str:
    if policy.state != "rejected":
        return ""
    body = (
        field(
            "Why it should serve although it was rejected; goes to the audit trail",
            "reason",
            required=True,
            maxlength=500,
        )
        + "<button class='t-button danger'>Promote anyway</button>"
    )
    asked = form(
        "force-promote", f"<div class='t-row'>{body}</div>", data_policy=policy.id,
        data_confirm=f"{policy.id} failed a gate. Let it serve anyway?", data_confirm_label="Promote anyway",
    )  # fmt: skip
    return f"<details class='t-more'><summary>Promote anyway</summary>{asked}</details>"
