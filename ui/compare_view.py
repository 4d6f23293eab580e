"""The compare page's pieces: the question form, the answers side by side, the verdict. Records to HTML.

Before the verdict nothing in the HTML tells which policy wrote which answer. Knows nothing of services or events.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from chatbot.records import PolicyVersion
from ui.answer_view import render_body
from ui.compare_handlers import Trial
from ui.fragments import attributes, badge, button, card, choice, esc, form, select

LETTERS = "ABCDEFGH"
_LEAD = (
    "<div class='t-lead'><h1>Which answer is better?</h1><p>Both come from the same documents. You learn who wrote them after you have "
    "decided. Comparing teaches Tacit more than anything else.</p></div>"
)


def render_lead() -> str:
    """What this page is for."""
    return _LEAD


def render_ask(
    policies: Sequence[PolicyVersion], serving: str, starters: Sequence[str], max_characters: int
) -> str:
    """The question form; with a choice of policies where there are any to choose from.

    Args:
        policies: To choose from; empty leaves the choice out.
        serving: Id of the policy that serves.
        starters: Suggested questions.
        max_characters: Of a question.
    """
    box = attributes(
        name="question", rows=1, required=True, maxlength=max_characters, placeholder="Ask a question", data_enter=True,
        data_autofocus=True, list="t-starters",
    )  # fmt: skip
    ask = f"<div class='t-ask'><label class='t-field'><span class='t-sr'>Your question</span><textarea{box}></textarea></label>"
    ask += "<button class='t-button main'>Answer twice</button></div>"
    how = [("pair", "Two answers, pick the better one"), ("rank", "Four answers, put them in order")]
    options = choice("How", "mode", how, chosen="pair")
    if policies:
        listed = [
            ("", f"serving ({serving})"),
            *[(p.id, f"{p.id} · {p.state}") for p in policies if p.id != serving],
        ]
        options += choice("One policy", "first", listed) + choice("The other policy", "second", listed)
    more = f"<details class='t-more'><summary>Options</summary><div class='t-row'>{options}</div></details>"
    chips = "".join(button(q, "suggest", kind="small", data_question=q) for q in starters)
    suggested = (
        f"<div class='t-next' role='group' aria-label='Suggested questions'>{chips}</div>" if starters else ""
    )
    return f"<section class='t-card'>{form('ask', ask + more, data_keep=True)}{suggested}</section>"


def render_writing(question: str) -> str:
    """While the answers are drawn."""
    return (
        f"<section class='t-card'><p class='t-question-line'>{esc(question)}</p>"
        "<p class='t-looking' role='status'>Writing different answers…</p></section>"
    )


def render_trial(trial: Trial, owners: Mapping[str, str], next_questions: Sequence[str]) -> str:
    """The answers, and either the buttons to judge them or what was said and who wrote them."""
    answers = trial.answers
    head = f"<p class='t-question-line'>{esc(answers[0].question)}</p>"
    if len(answers) == 1:
        return head + _nothing_to_compare(trial, owners) + _next(next_questions)
    winners = _winners(trial)
    shown = "".join(
        _render_answer(trial, place, owners, won=place in winners) for place in range(len(answers))
    )
    css = "four" if len(answers) > 2 else ""
    grid = f"<div class='t-pair {css}'>{shown}</div>"
    if trial.judgement is not None:
        return head + grid + _render_result(trial) + _next(next_questions)
    if len(answers) == 2:
        return head + grid + _verdict_buttons()
    body = f"{grid}<div class='t-row end' style='margin-top:1rem'>{_none_good()}<button class='t-button main'>Save the order</button></div>"
    return head + form("rank", body, data_keep=True)


def _nothing_to_compare(trial: Trial, owners: Mapping[str, str]) -> str:
    body = render_body(trial.answers[0], owners)
    why = "<p class='t-muted' style='margin-top:1rem'>Every answer drawn reads the same, so there is nothing to compare. Try another question.</p>"
    return f"<div class='t-pair' style='grid-template-columns:1fr'><article>{body}{why}</article></div>"


def _render_answer(trial: Trial, place: int, owners: Mapping[str, str], *, won: bool) -> str:
    answer, letter = trial.answers[place], LETTERS[place]
    name = f"Answer {letter}"
    if trial.judgement is not None:
        name += f" {badge(answer.policy_id, 'good' if won else '')}"
    ranks = ""
    if trial.judgement is None and len(trial.answers) > 2:
        places = [("", "place"), *[(str(n), str(n)) for n in range(1, len(trial.answers) + 1)]]
        chooser = select(
            f"rank-{answer.id}", places, required=True, aria_label=f"Place of answer {letter}, 1 is the best"
        )
        ranks = f"<div class='t-row' style='margin-top:.9rem'>{chooser}</div>"
    return f"<article{attributes(class_='won' if won else None)}><h2>{name}</h2>{render_body(answer, owners)}{ranks}</article>"


def _none_good() -> str:
    return "<label class='t-row'><input type='checkbox' name='none-good' value='yes'> None of them is good enough</label>"


def _verdict_buttons() -> str:
    choices = (
        ("left", "A is better"),
        ("right", "B is better"),
        ("tie", "Equally good"),
        ("both bad", "Both are bad"),
    )
    buttons = "".join(
        button(words, "verdict", data_verdict=value, data_focus=value) for value, words in choices
    )
    return f"<div class='t-verdict' role='group' aria-label='Your verdict'>{buttons}</div>"


def _winners(trial: Trial) -> set[int]:
    judgement = trial.judgement
    if judgement is None or judgement.both_bad or len(judgement.ranking) == 1:
        return set()
    # Stored answers stand in the order they were sent in, which is the order shown.
    best = {judgement.answers[index].answer_id for index in judgement.ranking[0]}
    return {place for place, answer in enumerate(trial.answers) if answer.id in best}


def _render_result(trial: Trial) -> str:
    winners = _winners(trial)
    if trial.judgement is not None and trial.judgement.both_bad:
        said = "Noted: none of them is good enough."
    elif not winners:
        said = "Noted: they are equally good."
    else:
        said = f"Noted: {' and '.join(LETTERS[place] for place in sorted(winners))} is best."
    policies = {answer.policy_id for answer in trial.answers}
    wrote = (
        "One policy wrote all of them."
        if len(policies) == 1
        else "The policies that wrote them stand above the answers."
    )
    row = f"<div class='t-row' style='margin-top:.8rem'>{button('Undo', 'undo', kind='small')}</div>"
    return f"<section class='t-card' style='margin-top:1rem' role='status'><p><b>{said}</b> Thank you. {wrote}</p>{row}</section>"


def _next(questions: Sequence[str]) -> str:
    if not questions:
        return ""
    chips = "".join(
        button(question, "suggest", kind="small", data_question=question) for question in questions
    )
    return (
        "<div style='margin-top:1.1rem'>"
        + card("Another one?", f"<div class='t-next'>{chips}</div>")
        + "</div>"
    )
