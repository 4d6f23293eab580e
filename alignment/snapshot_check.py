"""Whether everything that a snapshot holds may still be learned from: what a resumed run asks before it goes on.

Knows the rows of a snapshot and what counts now, nothing of runs. A cycle looks at its snapshot when it has just written it, since writing takes minutes, and
again when it was killed and goes on, days later perhaps: meanwhile a person may have been deleted, a document closed or edited, a vote or a demonstration
withdrawn. Different from comparing hashes with a new snapshot: a vote that came in since is no reason to stop.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable

from alignment.judged_rows import Permissions
from alignment.row_origin import SaidBy
from alignment.snapshot import LoadedSnapshot
from chatbot.records import Judgement


def what_is_gone(
    data: LoadedSnapshot,
    judgements: Iterable[Judgement],
    permissions: Permissions,
    *,
    edited_document_ids: Collection[str] = (),
) -> list[str]:
    """What the snapshot holds and may not be learned from any more, in words; empty when all of it may.

    Args:
        data: The snapshot.
        judgements: Those that count now.
        permissions: What may be trained on now.
        edited_document_ids: Documents that say something else since the snapshot was taken.
    """
    sides = (data.train, data.held_out)
    rows = [row for side in sides for row in side.judgements]
    demonstrated = [
        pair for side in sides for pair in side.pairs if pair.origin == "demonstration" and pair.labeler_id
    ]
    people = {row.labeler_id for row in rows} | {pair.labeler_id for pair in demonstrated}
    people -= set(permissions.active_user_ids)
    current = [judgement for judgement in judgements if not judgement.withdrawn]
    by_person: dict[str, list[Judgement]] = defaultdict(list)
    for judgement in current:
        by_person[judgement.user_id].append(judgement)
    said = {
        name: SaidBy(by_person[name])
        for name in {*(row.labeler_id for row in rows), *(pair.labeler_id for pair in demonstrated)}
    }
    votes = [row for row in rows if row.labeler_id not in people and not said[row.labeler_id].has_said(row)]
    ideals = [
        pair
        for pair in demonstrated
        if pair.labeler_id not in people and not said[pair.labeler_id].has_demonstrated(pair)
    ]
    asked = {prompt.question for side in sides for prompt in side.rollouts if prompt.asked}
    asked -= {judgement.question for judgement in current}
    shown = _shown(data)
    found = [
        (len(people), "person", "people"),
        (len(shown - set(permissions.open_document_ids)), "document", "documents"),
        (len(shown & set(edited_document_ids)), "edited document", "edited documents"),
        (len(votes), "judgement", "judgements"),
        (len(ideals), "demonstration", "demonstrations"),
        (len(asked), "question", "questions"),
    ]
    return [f"{n} {one if n == 1 else several}" for n, one, several in found if n]


def _shown(data: LoadedSnapshot) -> set[str]:
    """Documents that prompts and pairs show as they were when the snapshot was taken; a judgement keeps the prompt that was judged."""
    sides = (data.train, data.held_out)
    of_prompts = {
        item.passage.document_id
        for side in sides
        for prompt in side.rollouts
        for item in prompt.prepared.evidence
    }
    return of_prompts | {id_ for side in sides for pair in side.pairs for id_ in pair.document_ids or ()}
