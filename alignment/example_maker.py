"""Makes reader examples from questions: chooses evidence, orders and numbers it, writes the target.

Knows nothing of files or tokens. Differs from the usual retrieval-augmented training data in three ways. A target is copied, never
written: each cited sentence stands word for word in the evidence under its number. Evidence is ordered by a noisy lexical ranking,
because in serving the right sentence is often, not always, the first. And the same kind of question gets answers in several
styles and lengths, so that preferences have something to choose between when people start to judge. A short right sentence is followed
by the best-ranked others up to a drawn number of words: a reader that is not sure which sentence answers says two rather than one.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from alignment.evidence_pool import SentencePool
from alignment.question_phrasing import content_words
from alignment.reader_examples import FurtherQuestion, ReaderDataSettings, ReaderExample, Style
from alignment.reader_sources import SourceQuestion, SourceSentence
from chatbot.prompt import REFUSAL, Message, NumberedEvidence

_LOOKS_LIKE_AN_ANSWER = 0.65
"""Share of the question's word weight from which a sentence may well answer it."""

_LONGEST_ANSWER = 60
"""Words of an answer that quotes more than one sentence."""

_LONGEST_ECHO = 430
"""Characters of evidence in an example that quotes all of it."""

_LEAD_INS = (
    "According to {0}: ",
    "Short answer: ",
    "From {0}: ",
    "The documents say: ",
    "In {0} it says: ",
    "Yes, this is covered. ",
)
CLOSINGS = (
    " I hope that helps.", " Let me know if you need more.", " Feel free to ask if anything is unclear.", " Happy to help further.",
)  # fmt: skip


def prolong(
    used: Sequence[SourceSentence],
    right: Sequence[SourceSentence],
    shown: Sequence[SourceSentence],
    wanted: float,
    longest: int,
) -> list[SourceSentence]:
    """Those used and at most two further right sentences, or else the best-ranked others, until the answer has the words that are wanted.

    Args:
        used: What the answer quotes already.
        right: Sentences that answer.
        shown: All that may be quoted, best first.
        wanted: Words at which it is long enough.
        longest: Words that no further sentence may make it exceed.
    """
    chosen = list(used)
    n_words = sum(len(sentence.text.split()) for sentence in chosen)
    further = sorted((s for s in shown if s not in chosen), key=lambda s: s not in right)
    for sentence in further[:2]:
        n_more = len(sentence.text.split())
        if n_words >= wanted or n_words + n_more > longest:
            break
        chosen.append(sentence)
        n_words += n_more
    return chosen


class ExampleMaker:
    """Makes examples from questions of one part; distractors come from the same part, so that nothing leaks."""

    def __init__(
        self, questions: Sequence[SourceQuestion], settings: ReaderDataSettings, rng: random.Random
    ) -> None:
        """Index the part's sentences by word."""
        self._settings, self._rng = settings, rng
        self._pool = SentencePool(questions)
        self._earlier: dict[str, list[SourceQuestion]] = defaultdict(list)
        for question in questions:
            if question.right:
                self._earlier[question.document].append(question)
        # Sets bring their own unanswerable questions: only the missing share is made from answerable ones.
        n_without = sum(not question.right for question in questions)
        wanted = settings.unanswerable_share * len(questions)
        n_with = max(1, len(questions) - n_without)
        self._keep_without = min(1.0, 0.5 * wanted / n_without) if n_without else 0.0
        self._make_without = max(0.0, wanted - self._keep_without * n_without) / n_with

    def make(self, question: SourceQuestion) -> ReaderExample | None:
        """One example, or none when the question is left out or its evidence does not fit."""
        rng = self._rng
        if self._settings.echo_share and rng.random() < self._settings.echo_share:
            return self._echo(question)
        if not question.right:
            if rng.random() >= self._keep_without:
                return None
            return self._build(question, "refusal", ())
        if rng.random() < self._make_without:
            return self._build(question, "refusal", ())
        return self._build(question, self._draw_style(question), question.right[:1])

    def make_session(self, questions: Sequence[SourceQuestion]) -> ReaderExample | None:
        """One example that asks several answerable questions of one document about one evidence, or none when it does not fit.

        The evidence is ranked for the first question; the others find their sentence anywhere. The last may find none.
        """
        first, *others = questions
        settings, rng = self._settings, self._rng
        shown = list(dict.fromkeys(question.right[0] for question in questions[:-1]))
        n_more = rng.randint(0, max(0, settings.max_evidence - len(shown)) // 2)
        hidden = {s.text for question in questions for s in question.right}
        near = [s for s in first.near if s.text not in hidden]
        shown += rng.sample(near, min(n_more, len(near)))
        with_last = rng.random() < 0.7 and len(shown) < settings.max_evidence
        if with_last and questions[-1].right[0] not in shown:
            shown.append(questions[-1].right[0])
        evidence = self._order(set(content_words(first.question)), shown) if len(shown) > 1 else None
        if evidence is None:
            return None
        example = self._build_on(first, "quote", first.right[:1], evidence, ())
        further = [found for other in others if (found := self._ask_further(other, evidence)) is not None]
        return replace(example, further=tuple(further)) if further else None

    def _ask_further(
        self, question: SourceQuestion, evidence: Sequence[SourceSentence]
    ) -> FurtherQuestion | None:
        words = set(content_words(question.question))
        by_relevance = sorted(evidence, key=lambda sentence: -self._pool.relevance(words, sentence))
        right = [sentence for sentence in question.right if sentence in evidence]
        if not right:
            if self._pool.relevance(words, by_relevance[0]) >= _LOOKS_LIKE_AN_ANSWER:
                return None
            return FurtherQuestion(question=question.question, completion=REFUSAL, right=())
        used = prolong(
            right[:1],
            question.right,
            by_relevance,
            self._rng.triangular(*self._settings.answer_words),
            _LONGEST_ANSWER,
        )
        numbers = [evidence.index(sentence) + 1 for sentence in used]
        return FurtherQuestion(
            question=question.question,
            completion=self._write(question, "quote", used, numbers),
            right=tuple(evidence.index(sentence) + 1 for sentence in right),
        )

    def _echo(self, question: SourceQuestion) -> ReaderExample | None:
        """An example that quotes all its evidence: half of its tokens are copied, five times as many as in the others."""
        candidates = [*question.right, *question.near]
        chosen: list[NumberedEvidence] = []
        for sentence in self._rng.sample(candidates, min(self._rng.randint(2, 4), len(candidates))):
            if sum(len(item.text) for item in chosen) + len(sentence.text) <= _LONGEST_ECHO:
                chosen.append(NumberedEvidence(number=len(chosen) + 1, heading="", text=sentence.text))
        if not chosen:
            return None
        return ReaderExample(
            document=question.document,
            kind=question.kind,
            style="echo",
            question="Quote everything.",
            evidence=tuple(chosen),
            history=(),
            completion=" ".join(f"{item.text} [{item.number}]" for item in chosen),
            cited=tuple(item.number for item in chosen),
            right=tuple(item.number for item in chosen),
        )

    def _draw_style(self, question: SourceQuestion) -> Style:
        draw = self._rng.random()
        if question.short_answer and draw < 0.15:
            return "short_answer"
        for style, below in (("lead_in", 0.1), ("polite", 0.17)):
            if draw < below and not question.short_answer:
                return style  # type: ignore[return-value]  # both literals are styles
        return "quote"

    def _build(
        self, question: SourceQuestion, style: Style, used: Sequence[SourceSentence]
    ) -> ReaderExample | None:
        evidence = self._choose_evidence(question, used)
        if evidence is None:
            return None
        return self._build_on(question, style, used, evidence, self._draw_history(question))

    def _build_on(
        self,
        question: SourceQuestion,
        style: Style,
        used: Sequence[SourceSentence],
        evidence: Sequence[SourceSentence],
        history: tuple[Message, ...],
    ) -> ReaderExample:
        bare = self._rng.random() < self._settings.bare_heading_share
        numbered = tuple(
            NumberedEvidence(number=n, heading=s.heading.split(" > ")[0] if bare else s.heading, text=s.text)
            for n, s in enumerate(evidence, start=1)
        )
        right = tuple(n for n, sentence in enumerate(evidence, start=1) if sentence in used)
        if style == "quote":
            used = prolong(
                used,
                question.right,
                evidence,
                self._rng.triangular(*self._settings.answer_words),
                _LONGEST_ANSWER,
            )
        cited = tuple(evidence.index(sentence) + 1 for sentence in used)
        return ReaderExample(
            document=question.document,
            kind=question.kind,
            style=style,
            question=question.question,
            evidence=numbered,
            history=history,
            completion=self._write(question, style, used, cited),
            cited=cited,
            right=right,
        )

    def _choose_evidence(
        self, question: SourceQuestion, used: Sequence[SourceSentence]
    ) -> list[SourceSentence] | None:
        """The sentences shown, in the order shown."""
        rng, settings = self._rng, self._settings
        if not used and rng.random() < 0.03:
            return []
        wanted = rng.choices(
            range(settings.min_evidence, settings.max_evidence + 1),
            weights=[2.0 ** -(n / 2) for n in range(settings.max_evidence - settings.min_evidence + 1)],
        )[0]
        words = set(content_words(question.question))
        # What else answers may stand beside the answer, never in a prompt that is to be refused.
        beside = [s for s in question.right[1:] if s not in used and rng.random() < 0.5] if used else []
        hidden = {sentence.text for sentence in question.right}
        n_far = sum(
            rng.random() < (0.35 if question.near else 1.0) for _ in range(max(0, wanted - len(used)))
        )
        far = self._pool.similar(question.question, n_far + 2, rng, not_of=question.document)
        near = self._pool.rank(words, question.near, rng, noise=0.5)
        if not used:  # what still looks like an answer would teach the model to refuse answers
            near = [
                sentence for sentence in near if self._pool.relevance(words, sentence) < _LOOKS_LIKE_AN_ANSWER
            ]
        others: list[SourceSentence] = []
        for sentence in [*beside, *far[:n_far], *near, *far[n_far:]]:
            if len(others) >= wanted - len(used):
                break
            if (sentence in beside or sentence.text not in hidden) and all(
                sentence.text != other.text for other in others
            ):
                others.append(sentence)
        if len(others) + len(used) < 2:
            return None
        return self._order(words, [*used, *others])

    def _order(self, words: set[str], sentences: list[SourceSentence]) -> list[SourceSentence] | None:
        if sum(len(s.heading) + len(s.text) + 8 for s in sentences) > self._settings.max_prompt_chars:
            return None
        if self._rng.random() < self._settings.shuffled_share:
            self._rng.shuffle(sentences)
            return sentences
        return self._pool.rank(words, sentences, self._rng, noise=self._settings.ranking_noise)

    def _draw_history(self, question: SourceQuestion) -> tuple[Message, ...]:
        earlier = [q for q in self._earlier[question.document] if q.question != question.question]
        if not earlier or self._rng.random() >= self._settings.history_share:
            return ()
        asked = self._rng.choice(earlier)
        return (
            Message(role="user", content=asked.question),
            Message(role="assistant", content=asked.right[0].text),
        )

    def _write(
        self, question: SourceQuestion, style: Style, used: Sequence[SourceSentence], cited: Sequence[int]
    ) -> str:
        if style == "refusal":
            return REFUSAL
        body = " ".join(f"{sentence.text} [{n}]" for sentence, n in zip(used, cited, strict=True))
        if style == "lead_in":
            return self._rng.choice(_LEAD_INS).format(used[0].heading) + body
        if style == "short_answer":
            phrase = question.short_answer[0].upper() + question.short_answer[1:]
            return f"{phrase}. {body}"
        return body + self._rng.choice(CLOSINGS) if style == "polite" else body
