"""What is embedded for a chunk, and what its heading is: pure functions of text.

A chunk taken out of its document often does not say what it is about; `title > heading` before the text says it.
"""

from __future__ import annotations

from collections.abc import Sequence


def enriched(title: str, heading: str, text: str) -> str:
    r"""What is embedded for a chunk: where it stands, then what it says.

    >>> enriched("Leave", "Sick leave > Pay", "Full pay for six weeks.")
    'Leave > Sick leave > Pay\nFull pay for six weeks.'
    """
    return f"{' > '.join(part for part in (title, heading) if part)}\n{text}"


def heading_of(heading_path: Sequence[str], title: str) -> str:
    """A chunk's heading: the path without a first heading that only repeats the title.

    >>> heading_of(("Leave", "Sick leave"), "Leave")
    'Sick leave'
    """
    parts = list(heading_path)
    if parts and parts[0].strip().lower() == title.strip().lower():
        parts = parts[1:]
    return " > ".join(parts)
