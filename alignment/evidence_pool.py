"""Finds distractors: sentences that look like an answer and are none.

Knows nothing of prompts or targets. A cheap stand-in for the retriever, so that examples can be made by the hundred thousand:
sentences that share a question's rarest words, ranked by the weight of the words they share, with noise.
"""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterable

from alignment.question_phrasing import content_words
from alignment.reader_sources import SourceQuestion, SourceSentence


class SentencePool:
    """The sentences of one part, found by shared rare words: a cheap stand-in for the retriever."""

    _LONGEST_POSTING = 400

    def __init__(self, questions: Iterable[SourceQuestion]) -> None:
        seen: dict[SourceSentence, str] = {}
        for question in questions:
            for sentence in (*question.right, *question.near):
                seen.setdefault(sentence, question.document)
        self._sentences = list(seen.items())
        self._words = {
            sentence: frozenset(content_words(f"{sentence.heading} {sentence.text}")) for sentence in seen
        }
        counts = Counter(word for words in self._words.values() for word in words)
        self._idf = {word: math.log(1 + len(seen) / count) for word, count in counts.items()}
        self._postings: dict[str, list[int]] = defaultdict(list)
        for number, (sentence, _) in enumerate(self._sentences):
            for word in self._words[sentence]:
                if counts[word] <= self._LONGEST_POSTING:
                    self._postings[word].append(number)

    def relevance(self, words: set[str], sentence: SourceSentence) -> float:
        """Share of the question's word weight that the sentence with its heading holds, 0 to 1."""
        total = sum(self._idf.get(word, 0.0) for word in words)
        return (
            sum(self._idf.get(word, 0.0) for word in words & self._words[sentence]) / total if total else 0.0
        )

    def rank(
        self, words: set[str], sentences: Iterable[SourceSentence], rng: random.Random, *, noise: float
    ) -> list[SourceSentence]:
        """Sentences by relevance with Gaussian noise, best first."""
        keyed = [
            (self.relevance(words, sentence) + rng.gauss(0, noise / 2), n, sentence)
            for n, sentence in enumerate(sentences)
        ]
        return [sentence for _, _, sentence in sorted(keyed, key=lambda item: (-item[0], item[1]))]

    def similar(self, question: str, n: int, rng: random.Random, *, not_of: str) -> list[SourceSentence]:
        """Up to n sentences of other documents that share the question's rarest words; random ones to fill up."""
        words = set(content_words(question))
        rare = sorted(
            (word for word in words if self._postings.get(word)), key=lambda word: (-self._idf[word], word)
        )[:3]
        numbers = sorted({number for word in rare for number in self._postings[word]})
        numbers = rng.sample(numbers, min(len(numbers), 60))
        numbers += [rng.randrange(len(self._sentences)) for _ in range(n)]
        found = [self._sentences[number] for number in numbers]
        return self.rank(
            words, (sentence for sentence, document in found if document != not_of), rng, noise=0.3
        )[:n]
