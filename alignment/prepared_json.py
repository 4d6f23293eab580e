"""Rollout prompts as JSON, there and back, prepared turn included.

Knows nothing of files. A rollout is judged by turning its completion into the answer a person would see, so a snapshot must hold all
that needs: passages, evidence and messages. Passages are written once and evidence points at them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from alignment.records import RolloutPrompt
from chatbot.prompt import Message
from chatbot.records import EvidenceSentence, PreparedTurn
from knowledge_base.records import Passage


def rollout_to_json(prompt: RolloutPrompt) -> dict[str, Any]:
    """A rollout prompt as values that JSON can hold."""
    return {
        "id": prompt.id,
        "question": prompt.question,
        "prompt": prompt.prompt,
        "reference": prompt.reference,
        "key_facts": list(prompt.key_facts),
        "answerable": prompt.answerable,
        "asked": prompt.asked,
        "made_of": prompt.made_of,
        "prepared": _prepared_to_json(prompt.prepared),
    }


def rollout_from_json(value: Mapping[str, Any]) -> RolloutPrompt:
    """The rollout prompt as it was.

    Raises:
        KeyError: a value is missing.
        TypeError: a value does not belong.
    """
    fields = {
        **value,
        "prepared": _prepared_from_json(value["prepared"]),
        "key_facts": tuple(value["key_facts"]),
    }
    return RolloutPrompt(**fields)


def _prepared_to_json(prepared: PreparedTurn) -> dict[str, Any]:
    passages = list(prepared.passages)
    evidence = []
    for item in prepared.evidence:
        if item.passage not in passages:
            passages.append(item.passage)
        fields = {field.name: getattr(item, field.name) for field in dataclasses.fields(item)}
        evidence.append(
            fields | {"similarity": float(item.similarity), "passage": passages.index(item.passage)}
        )
    return {
        "question": prepared.question,
        "search_text": prepared.search_text,
        "passages": [dataclasses.asdict(passage) for passage in passages],
        "n_passages": len(prepared.passages),
        "evidence": evidence,
        "messages": [{"role": m.role, "content": m.content} for m in prepared.messages],
        "answerable": prepared.answerable,
        "support": float(prepared.support),
        "versions": dict(prepared.versions),
    }


def _prepared_from_json(value: Mapping[str, Any]) -> PreparedTurn:
    passages = [Passage(**passage) for passage in value["passages"]]
    return PreparedTurn(
        question=value["question"],
        search_text=value["search_text"],
        passages=tuple(passages[: value["n_passages"]]),
        evidence=tuple(
            EvidenceSentence(**{**item, "passage": passages[item["passage"]]}) for item in value["evidence"]
        ),
        messages=tuple(Message(**message) for message in value["messages"]),
        answerable=value["answerable"],
        support=value["support"],
        versions=dict(value["versions"]),
    )
