"""Turns headings and statements of a company's documents into questions an employee might type.

Knows nothing of files, evidence or models: text in, text out, every choice drawn from the caller's random generator. Differs from
neural question generation in that it needs no model: a few patterns that are mostly right, and many surface forms (polite,
hurried, lower-case, search words only), because a reader trained on well-formed questions alone fails on real ones.
"""

from __future__ import annotations

import random
import re


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_IMPERATIVES = _words(
    "accept access activate add adjust analyze apply approve archive arrange assign attach ask avoid "
    "book build calculate cancel change check choose clean clear close combine compare complete "
    "configure connect contact convert copy correct create customize debug define delete deploy "
    "determine disable display download edit enable enter escalate export file fill filter find fix "
    "follow generate get give group handle identify import improve install invite join launch learn link "
    "log maintain make manage measure merge migrate modify monitor move open order organize pay perform "
    "plan post prepare prevent print process provide publish purchase receive record register remove "
    "rename renew reopen replace report request reset resolve restart restore retrieve return reverse "
    "review run save schedule search secure select send set setup share show sign sort specify split "
    "start stop submit subscribe sync synchronize test track transfer troubleshoot turn undo uninstall "
    "unlock update upgrade upload use validate verify view work write"
)
_GENERIC = _words(
    "about additional also attributes background changelog contents context description details example "
    "examples faq further general goals info information inputs introduction links members more next "
    "note notes other outputs overview parameters prerequisites purpose questions reading references "
    "related requirements resources scope see steps summary syntax table team tips toc"
)
_LEAD_INS = (
    "Hi, ", "Hello, ", "Quick question: ", "Hey, ", "Could you tell me: ", "I was wondering, ", "Hi there! ", "New here. ",
    "Sorry if this is obvious, but ", "Can you help? ",
)  # fmt: skip
_ABOUT = (
    "What is {0}?", "What should I know about {0}?", "Tell me about {0}.", "What do the documents say about {0}?",
    "How does {0} work?", "Can you explain {0}?", "What's the deal with {0}?", "What are the rules on {0}?",
    "I need information on {0}.", "Where can I read about {0}?", "What about {0}?", "{0}?", "{0}", "How do we handle {0}?",
    "What is our approach to {0}?", "Explain {0} please.", "Any guidance on {0}?",
)  # fmt: skip
_DO = (
    "How do I {0}?", "How can I {0}?", "What do I need to do to {0}?", "How should I {0}?", "What's the way to {0}?",
    "I want to {0}. How?", "I need to {0}, what are the steps?", "How do we {0}?", "Where do I {0}?", "how to {0}",
    "I'd like to {0}.", "What is the process to {0}?", "steps to {0}", "Can I {0}?",
)  # fmt: skip
_KEYWORDS = (
    "{0}", "{0}?", "What about {0}?", "Anything on {0}?", "Tell me about {0}.", "What do we say about {0}?",
    "I need something on {0}.", "What's the rule for {0}?", "{0} please", "looking for {0}",
)  # fmt: skip

_STOP = _words(
    "a about above after again all also am an and any are as at be because been before being below "
    "between both but by can could did do does doing don down during each few for from further get had "
    "has have having he her here hers him his how i if in into is it its itself just let may me might "
    "more most must my need no nor not now of off on once one only or other our ours out over own please "
    "s same say she should so some such t tell than that the their them then there these they thing this "
    "those through to too under until up us use used very was we were what when where which while who "
    "whom why will with would you your yours"
)
_NO_SUBJECTS = _words(
    "this these that those it there they he she we i what which who how why where when if while since "
    "although because for in on at as by from with after before during here each once"
)
"""First words that show a matched subject to be none, or one that means nothing outside its page."""
_WORD = re.compile(r"[a-z0-9]+")


def content_words(text: str) -> list[str]:
    """Lower-case words that carry meaning, plurals folded roughly, in order.

    >>> content_words("How many days of Leave do I get?")
    ['many', 'day', 'leave']
    """
    return [_fold(word) for word in _WORD.findall(text.lower()) if word not in _STOP]


def _fold(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def question_from_heading(heading: str, title: str, rng: random.Random) -> str | None:
    """A question the section under a heading answers, or none when the heading says too little.

    Args:
        heading: The section's own heading.
        title: The document's title; put in when the heading alone would be ambiguous.
        rng: Draws the phrasing.
    """
    topic = _clean_topic(heading)
    words = content_words(topic)
    if not words or all(word in _GENERIC for word in words):
        topic, title = _clean_topic(title), ""
        words = content_words(topic)
    if not 1 <= len(words) <= 9:
        return None
    if topic.endswith("?"):
        return vary(topic, rng)
    context = _clean_topic(title)
    if context and context.lower() not in topic.lower() and (len(words) < 2 or rng.random() < 0.3):
        topic = f"{topic} {rng.choice(('in', 'for', 'with'))} {_lower_first(context)}"
    return vary(_ask_about(topic, rng), rng)


def _ask_about(topic: str, rng: random.Random) -> str:
    match = re.match(r"(?i)^(?:how to|how do (?:i|we|you)|to)\s+(.+)$", topic)
    if match:
        return rng.choice(_DO).format(_to_first_person(match.group(1)))
    if re.match(r"(?i)^(how|what|when|where|who|why|which|is|are|can|do|does|should)\s", topic):
        return topic + "?"
    first = topic.split(maxsplit=1)[0].lower()
    if first in _IMPERATIVES and len(topic.split()) > 1:
        return rng.choice(_DO).format(_to_first_person(_lower_first(topic)))
    return rng.choice(_ABOUT).format(_lower_first(topic))


_STATEMENTS: tuple[tuple[re.Pattern[str], tuple[str, ...]], ...] = (
    (
        re.compile(r"^(?P<a>(?:The |An? |Our )?[A-Z][\w'-]*(?: [\w'-]+){0,4}) (?P<v>is|are|was|were) (?:an? |the )?\w+"),
        ("What {v} {a}?", "what {v} {a}", "Can you tell me what {a} {v}?", "{a}?", "Who or what {v} {a}?"),
    ),
    (
        re.compile(r"^(?:[Ii]f|[Ww]hen) (?P<a>you [^,]{8,70}), "),
        ("What happens if {a}?", "What do I do if {a}?", "What if {a}?", "{a}, what now?", "What should I do when {a}?"),
    ),
    (
        re.compile(r"^(?:[Ii]f|[Ww]hen) (?P<a>[^,]{10,70}), "),
        ("What happens if {a}?", "What happens when {a}?", "What if {a}?", "What's supposed to happen when {a}?"),
    ),
    (
        re.compile(r"^(?:In order )?[Tt]o (?P<a>[a-z]+ [^,]{5,60}), "),
        ("How do I {a}?", "How can I {a}?", "how to {a}", "I need to {a}, how?", "What do I do to {a}?", "I want to {a}"),
    ),
    (
        re.compile(r"^You (?P<m>can|may) (?P<a>[a-z]+ [^.;:(]{8,60})"),
        ("Can I {a}?", "Am I allowed to {a}?", "Is it possible to {a}?", "How can I {a}?", "can we {a}"),
    ),
    (
        re.compile(r"^You (?P<m>must|should|need to|have to) (?P<a>[a-z]+ [^.;:(]{8,60})"),
        ("Do I have to {a}?", "Should I {a}?", "Am I required to {a}?", "Must I {a}?", "do i need to {a}"),
    ),
    (
        re.compile(r"^(?P<a>(?:[Tt]he |[Aa]n? |[Oo]ur |[Aa]ll |[Tt]eam )?[\w'-]+(?: [\w'-]+){0,3}) (?P<m>must|should|can|will|may) (?P<b>[a-z]+ [^.;:(,]{6,50})"),
        ("{m} {a} {b}?", "What {m} {a} do?", "Is it true that {a} {m} {b}?", "What {m} {a} {b0}?"),
    ),
)  # fmt: skip


def question_from_statement(sentence: str, rng: random.Random) -> str | None:
    """A question that a sentence answers, or none when the sentence says too little.

    >>> question_from_statement("To reset your password, open the portal.", random.Random(3)) is not None
    True
    """
    words = content_words(sentence)
    if not 4 <= len(words) <= 30:
        return None
    if rng.random() < 0.75:
        for pattern, forms in _STATEMENTS:
            match = pattern.match(sentence)
            if match and (asked := _fill(rng.choice(forms), match)):
                return vary(asked, rng)
    asked = _ask_by_keywords(sentence, rng)
    return vary(asked, rng) if asked else None


def _fill(form: str, match: re.Match[str]) -> str | None:
    parts = {name: _to_first_person(text.strip()) for name, text in match.groupdict().items() if text}
    if parts["a"].split()[0].lower() in _NO_SUBJECTS:
        return None
    parts["a"] = _lower_article(parts["a"])
    parts["b0"] = parts.get("b", "").split(" ")[0]
    asked = form.format(**parts)
    return asked[0].upper() + asked[1:]


def _ask_by_keywords(sentence: str, rng: random.Random) -> str | None:
    """A run of words from the sentence, stop words thinned out: what somebody types who half remembers the text."""
    words = [word.strip(".,;:!?()\"'[]*`") for word in sentence.split()]
    carrying = [n for n, word in enumerate(words) if word and word.lower() not in _STOP]
    if len(carrying) < 3:
        return None
    wanted = rng.randint(2, min(5, len(carrying)))
    if rng.random() < 0.6:
        start = rng.randint(0, len(carrying) - wanted)
        chosen = carrying[start : start + wanted]
        if rng.random() < 0.5:  # keep the stop words inside the run
            chosen = list(range(chosen[0], chosen[-1] + 1))[:9]
    else:
        chosen = sorted(rng.sample(carrying, wanted))
    phrase = " ".join(words[n] for n in chosen if words[n])
    return rng.choice(_KEYWORDS).format(_lower_first(phrase))


def vary(question: str, rng: random.Random) -> str:
    """The same question as typed by people in different moods."""
    draw = rng.random()
    if draw < 0.12:
        return rng.choice(_LEAD_INS) + _lower_first(question)
    if draw < 0.30:
        return question.lower().rstrip("?.").strip()
    if draw < 0.36:
        return question.rstrip("?.") + rng.choice(("??", " ?", ", please?", " thanks", "? Thanks!"))
    return question[0].upper() + question[1:] if draw < 0.9 else question


def _clean_topic(heading: str) -> str:
    text = re.sub(r"^[\W\d_]+(?=[A-Za-z])|[#*`_]+", "", heading)
    text = re.sub(r"\s+", " ", re.sub(r"\([^)]*\)|\{[^}]*\}|:[a-z_]+:", " ", text))
    return text.strip(" :.-–—")


def _lower_first(text: str) -> str:
    """First letter small, unless the word is an acronym or "I".

    >>> _lower_first("Sick leave"), _lower_first("PTO policy")
    ('sick leave', 'PTO policy')
    """
    first = text.split(" ", maxsplit=1)[0]
    if (
        len(first) < 2
        or not first[0].isupper()
        or any(letter.isupper() for letter in first[1:])
        or "'" in first[:2]
    ):
        return text
    return text[0].lower() + text[1:]


def _lower_article(text: str) -> str:
    match = re.match(r"^(The|An?|Our|All|Team) ", text)
    return text[0].lower() + text[1:] if match else text


def _to_first_person(text: str) -> str:
    swaps = (("you are", "I am"), ("you're", "I'm"), ("yourself", "myself"), ("your", "my"), ("you", "I"))
    for theirs, mine in swaps:
        text = re.sub(rf"\b{theirs}\b", mine, text)
    return text
