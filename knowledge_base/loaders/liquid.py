"""Takes template tags out of Markdown sources (Liquid as in Jekyll and Eleventy, Hugo short codes, kramdown, wiki links).

These belong to the site generator, not to Markdown: they are gone before Markdown is parsed on a real site, so they go
here before it too. What a tag would have shown stays: a channel's name, a page's address, an image's alternative text,
an alert's title. Code, in fences and between backticks, is left alone. Knows nothing of Markdown beyond that.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import quote

_CODE = re.compile(
    r"(?ms)^[ \t]{0,20}(?P<fence>`{3,}+|~{3,}+)[^\n]*\n.*?^[ \t]{0,20}(?P=fence)[`~]*[ \t]*$"
    r"|(?<!`)(?P<tick>`{1,8}+)(?!`)(?:(?!\n\n).){1,1000}?(?<!`)(?P=tick)(?!`)"
)
_COMMENT = re.compile(r"\{%-?\s*comment\b[^%]{0,200}%\}"), re.compile(r"\{%-?\s*endcomment\s*-?%\}")
_RAW = re.compile(r"\{%-?\s*raw\s*-?%\}"), re.compile(r"\{%-?\s*endraw\s*-?%\}")
# Bounded, and no tag within a tag: otherwise a page of openings without endings would take hours.
_TAG = re.compile(r"(?s)\{%-?\s*(?P<name>[\w-]*)(?P<arguments>(?:(?!%\}|\{%).){0,1000}?)-?%\}")
_OUTPUT = re.compile(r"\{\{-?(?P<expression>[^{}]{0,500})\}\}")
_HUGO = re.compile(r"(?s)\{\{[<%](?:(?!\{\{).){0,1000}?[%>]\}\}")
_KRAMDOWN = re.compile(
    r"(?<![ \t])[ \t]*\{:[^{}\n]{0,500}\}|(?<![ \t])[ \t]+\{#[\w-]{1,200}[^{}\n]{0,500}\}(?=[ \t]*$)",
    re.MULTILINE,
)
_WIKI = re.compile(r"!?\[\[(?P<target>[^\[\]|\n]+)(?:\|(?P<label>[^\[\]\n]+))?\]\](?!\()")
_FOOTNOTE = re.compile(r"^\[\^([\w-]+)\]:[ \t]*", re.MULTILINE)
_FOOTNOTE_MARK = re.compile(r"\[\^([\w-]+)\]")
_QUOTED = re.compile(r'"([^"]*)"|\'([^\']*)\'')
_HOLD = "\ue001{}\ue001"
_HELD = re.compile("\ue001(\\d+)\ue001")


def drop_template_tags(source: str) -> str:
    """Replace template tags by what a reader of the finished page would see.

    >>> drop_template_tags('Ask {% slack_channel "admins-travel" %} or see [the page]({% page "/leave/" %}).')
    'Ask #admins-travel or see [the page](/leave/).'
    """
    held: list[str] = []

    def hold(text: str) -> str:
        held.append(text)
        return _HOLD.format(len(held) - 1)

    source = _between(_COMMENT, source.replace("\ue001", ""), lambda _: "")
    source = _between(_RAW, source, hold)
    source = _CODE.sub(lambda match: hold(match[0]), source)
    source = _TAG.sub(_said_by_tag, source)
    source = _OUTPUT.sub(_said_by_output, _HUGO.sub("", source))
    source = _WIKI.sub(_said_by_wiki_link, _KRAMDOWN.sub("", source))
    source = _FOOTNOTE_MARK.sub(r" (note \1)", _FOOTNOTE.sub(r"Note \1: ", source))
    while _HELD.search(source):  # held code may itself hold raw text
        source = _HELD.sub(lambda match: held[int(match[1])], source)
    return source


def _between(tags: tuple[re.Pattern[str], re.Pattern[str]], source: str, say: Callable[[str], str]) -> str:
    """Replace what stands between an opening and the next closing tag, in one pass over the source."""
    opening, closing = tags
    parts: list[str] = []
    position = 0
    while (begin := opening.search(source, position)) and (end := closing.search(source, begin.end())):
        parts += [source[position : begin.start()], say(source[begin.end() : end.start()])]
        position = end.end()
    return "".join([*parts, source[position:]])


def _said_by_tag(match: re.Match[str]) -> str:
    name, arguments = match["name"], match["arguments"]
    quoted = [double or single for double, single in _QUOTED.findall(arguments)]
    first = quoted[0] if quoted else ""
    if name in {"page", "link", "download", "url", "asset_path"}:
        return quote(first or arguments.strip(), safe="/:#?&=%.-_~@+,")
    if name.startswith("slack_channel"):
        return f"#{first.lstrip('#')}" if first else ""
    if name.startswith("image"):
        return _image(name, arguments, first)
    if name in {"alert", "note", "warning", "callout"}:
        return f"\n\n{first}\n\n" if first else "\n\n"
    return (
        "\n\n"
        if name.startswith("end") and name != "endraw" and "\n" not in name and _is_block_end(name)
        else ""
    )


def _is_block_end(name: str) -> bool:
    return name in {"endalert", "endnote", "endwarning", "endcallout"}


def _image(name: str, arguments: str, path: str) -> str:
    """Write the image in Markdown; the last argument is the alternative text and may hold quotes of its own."""
    skip = 2 if name == "image_with_class" else 1
    rest = re.sub(rf"^\s*(?:\"[^\"]*\"\s*,?\s*){{{skip}}}", "", arguments).strip()
    alternative = rest[1:-1] if len(rest) > 1 and rest[0] == rest[-1] and rest[0] in "\"'" else ""
    alternative = " ".join(alternative.split()).replace("[", "(").replace("]", ")")
    return f"![{alternative}]({quote(path)})" if alternative else ""


def _said_by_output(match: re.Match[str]) -> str:
    quoted = _QUOTED.match(match["expression"].strip(" \n-"))
    return (quoted[1] or quoted[2] or "") if quoted else ""


def _said_by_wiki_link(match: re.Match[str]) -> str:
    target, label = match["target"].strip(), match["label"]
    if target.startswith("_") and target.endswith("_"):
        return ""  # [[_TOC_]]
    return (
        label.strip()
        if label
        else target.split("/")[-1].replace("#", ": ").removeprefix(": ").replace("_", " ")
    )
