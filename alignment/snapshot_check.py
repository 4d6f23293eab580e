"""Whether everything that a snapshot holds may still be learned from: what a resumed run asks before it goes on.

Knows the rows of a snapshot and what counts now, nothing of runs. A cycle that begins anew reads what counts at that moment, so it needs no such check. One that was
killed goes on with the rows it has, days later perhaps, and meanwhile a person may have been deleted, a document closed, a vote withdrawn. Different from comparing
hashes with a new snapshot: a vote that came in since is no reason to stop.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from alignment.judged_rows import Permissions
from alignment.snapshot import LoadedSnapshot
from chatbot.records import Judgement


def what_is_gone(
    data: LoadedSnapshot, judgements: Iterable[Judgement], permissions: Permissions
) -> list[str]:
    """What the snapshot holds and may not be learned from any more, in words; empty when all of it may.

    Args:
        data: The snapshot.
        judgements: Those that count now.
        permissions: What may be trained on now.
    """
    sides = (data.train, data.held_out)
    rows = [row for side in sides for row in side.judgements]
    authors = {row.labeler_id for row in rows}
    authors |= {pair.labeler_id for side in sides for pair in side.pairs if pair.labeler_id}
    shown = {
        item.passage.document_id
        for side in sides
        for prompt in side.rollouts
        for item in prompt.prepared.evidence
    }
    said: dict[str, list[set[str]]] = defaultdict(list)
    for judgement in judgements:
        if not judgement.withdrawn:
            said[judgement.user_id].append({answer.text for answer in judgement.answers})
    people = authors - set(permissions.active_user_ids)
    votes = [
        row
        for row in rows
        if row.labeler_id not in people
        and not any(texts.issuperset(row.completions) for texts in said[row.labeler_id])
    ]
    found = [
        (len(people), "person", "people"),
        (len(shown - set(permissions.open_document_ids)), "document", "documents"),
        (len(votes), "judgement", "judgements"),
    ]
    return [f"{n} {one if n == 1 else several}" for n, one, several in found if n]
