"""Loads HTML pages: the main content with its headings, lists and tables, without menus and footers.

Trafilatura finds the main content. It is made for news pages, though, and on a company's plain pages it sometimes keeps
too little or flattens the structure; when that shows, the page's own `main`, `article` or `body` is read instead, without
what is marked as navigation. Scripts never run and nothing is fetched.
"""

from __future__ import annotations

import copy
import re

from lxml.html import HtmlElement

from knowledge_base.errors import DocumentError
from knowledge_base.loaders.assembly import DocumentBuilder, one_line
from knowledge_base.loaders.limits import LoadLimits
from knowledge_base.loaders.markup import add_html, parse_html, visible_text
from knowledge_base.loaders.text import decode, title_from_name
from knowledge_base.records import ParsedDocument

MEDIA_TYPE = "text/html"
_BOILERPLATE = (
    ".//nav | .//aside | .//form | .//button | .//*[@role='navigation' or @role='banner' or @role='contentinfo' or @role='search']"
    " | .//footer[not(ancestor::article or ancestor::main)] | .//header[not(ancestor::article or ancestor::main)]"
)
_NAMED_BOILERPLATE = re.compile(
    r"(?:^|[\s_-])(?:nav|navbar|navigation|menu|sidebar|breadcrumbs?|footer|cookies?|banner|skip|masthead|pagination|share|social)"
    r"(?:$|[\s_-])",
    re.IGNORECASE,
)
_MANY_LINKS = 5
"""A list of at least so many items that are links only is a menu, outside of marked content."""
_CONTENT = "//main | //*[@role='main'] | //article"
_STRUCTURE = (("h1", "h2", "h3", "h4", "h5", "h6"), ("li",), ("tr",))
_ENOUGH = 0.7
"""Share of the page's own prose that the extraction must keep to be believed."""
_DECLARED_CHARSET = re.compile(rb"<meta[^>]+charset\s*=\s*[\"']?\s*([A-Za-z0-9_.:-]+)", re.IGNORECASE)


def load_html(data: bytes, name: str, limits: LoadLimits) -> ParsedDocument:
    """Parse HTML bytes.

    Raises:
        DocumentError: no text is visible, or there is too much of it.
    """
    source = _decode_page(data, name)
    page = parse_html(source)
    title = _title(page) or title_from_name(name)
    content = _main_content(page)
    extracted = _extract(source)
    chosen = extracted if extracted is not None and _is_faithful(extracted, content) else content
    builder = DocumentBuilder(name, limits)
    add_html(chosen, builder)
    parsed = builder.finish(title=title, media_type=MEDIA_TYPE, metadata=_metadata(page))
    if not parsed.text:
        raise DocumentError(
            f"{name} shows no text (is it filled in by a script?): save the page as a PDF instead"
        )
    return parsed


def _decode_page(data: bytes, name: str) -> str:
    declared = _DECLARED_CHARSET.search(data[:4096])
    if declared is not None:
        try:
            data.decode("utf-8")
        except UnicodeDecodeError:
            try:
                return data.decode(declared[1].decode("ascii"), errors="replace")
            except LookupError:
                pass  # an encoding that does not exist: decode as if none were declared
    source = decode(data, name)
    # The parser refuses text that also declares an encoding of its own.
    return re.sub(r"\A\s*<\?xml[^>]*\?>", "", source)


def _main_content(page: HtmlElement) -> HtmlElement:
    """The page's own content: its largest `main` or `article` if it holds a heading or most words, else its body."""
    page = copy.deepcopy(page)
    for element in [*page.xpath(_BOILERPLATE), *_named_boilerplate(page), *_menus(page)]:
        if element.getparent() is not None:
            element.drop_tree()
    candidates = page.xpath(_CONTENT)
    articles = [element for element in candidates if element.tag == "article"]
    if len(articles) == len(candidates) and len(articles) > 1:
        return page  # several articles side by side: all are content
    return max(candidates, key=_n_words) if candidates else page


def _named_boilerplate(page: HtmlElement) -> list[HtmlElement]:
    """Divisions whose class or id says that they are a menu, footer or notice."""
    return [
        element
        for element in page.iter("div", "section", "ul", "ol", "table", "p")
        if _NAMED_BOILERPLATE.search(f"{element.get('class') or ''} {element.get('id') or ''}")
    ]


def _menus(page: HtmlElement) -> list[HtmlElement]:
    lists = page.xpath("//ul[not(ancestor::main or ancestor::article)]")
    return [
        element
        for element in lists
        if sum(1 for _ in element.iter("li")) >= _MANY_LINKS and _n_words(element) == 0 and _has_prose(page)
    ]


def _has_prose(page: HtmlElement) -> bool:
    return any(len((paragraph.text_content() or "").split()) > 8 for paragraph in page.iter("p"))


def _extract(source: str) -> HtmlElement | None:
    """Trafilatura's main content, or None where it finds nothing."""
    import trafilatura

    found = trafilatura.extract(
        source,
        output_format="html",
        include_formatting=True,
        include_comments=False,
        include_tables=True,
        favor_recall=True,
    )
    return parse_html(found) if found else None


def _is_faithful(extracted: HtmlElement, content: HtmlElement) -> bool:
    """Whether the extraction kept most of the prose and every kind of structure that the page has."""
    if _n_words(extracted) < _ENOUGH * _n_words(content):
        return False
    return all(
        sum(1 for _ in extracted.iter(*kind)) >= sum(1 for _ in content.iter(*kind)) for kind in _STRUCTURE
    )


def _n_words(element: HtmlElement) -> int:
    """Words outside links: menus are links, prose is not."""
    words = len(visible_text(element).split())
    return words - sum(len((link.text_content() or "").split()) for link in element.iter("a"))


def _title(page: HtmlElement) -> str:
    """The heading when there is exactly one of the first level, else the title (less a ` | Site` ending)."""
    headings = [visible_text(heading) for heading in page.iter("h1")]
    if len(headings) == 1 and headings[0]:
        return headings[0].rstrip("¶").strip()
    found = page.find(".//title")
    title = one_line(found.text_content()) if found is not None else ""
    return re.split(r"\s+[|–—]\s+", title)[0] or (headings[0] if headings else "")


def _metadata(page: HtmlElement) -> dict[str, str]:
    wanted = ("author", "description", "keywords", "date")
    found = {
        str(meta.get("name", "")).lower(): one_line(meta.get("content") or "") for meta in page.iter("meta")
    }
    metadata = {name: found[name] for name in wanted if found.get(name)}
    if language := page.get("lang"):
        metadata["language"] = str(language)
    return metadata
