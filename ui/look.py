"""The look that all pages share: theme, header bar, and the Gradio components that our own HTML lives in.

Knows nothing of what the pages do. Different from a themed Gradio demo: Gradio carries events and streams, the markup and the styles are
ours (`static/pages.css`, `static/pages.js`), and no font, script or image comes from another host.
"""

from __future__ import annotations

from typing import Any

from chatbot.records import Role, User
from ui.fragments import esc, icon

PRODUCT = "Tacit"
FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
MONO_FONTS = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")
PAGES: tuple[tuple[str, str, frozenset[Role]], ...] = (
    ("Chat", "/chat/", frozenset({"employee", "admin", "ops"})),
    ("Compare", "/compare/", frozenset({"employee", "admin", "ops"})),
    ("Admin", "/admin/", frozenset({"admin"})),
    ("Ops", "/ops/", frozenset({"ops"})),
)
CSS = "footer { display: none !important; }"
"""Only what must hold before `pages.css` has arrived."""
HEAD = "<link rel='stylesheet' href='/static/pages.css'><script src='/static/pages.js'></script>"

_WHEN_READY = """
const start = () => { %s };
if (window.tacit) start(); else document.addEventListener('tacit-ready', start, { once: true });
"""


def make_theme() -> Any:
    """Gradio's base theme in our colours with the system's own fonts."""
    import gradio as gr

    theme = gr.themes.Base(
        primary_hue=gr.themes.colors.teal,
        neutral_hue=gr.themes.colors.slate,
        font=FONTS,
        font_mono=MONO_FONTS,
    )
    return theme.set(
        body_background_fill="#f6f7f9",
        body_background_fill_dark="#12161b",
        body_text_color="#1b2430",
        body_text_color_dark="#e7ecf2",
        block_background_fill="transparent",
        block_background_fill_dark="transparent",
        block_border_width="0px",
        block_shadow="none",
        block_padding="0px",
        layout_gap="0px",
    )


def live_html(name: str, *, script: str = "tacit.attach(element, trigger, watch)", css: str = "") -> Any:
    """A piece of the page whose HTML the server sends and whose clicks and forms come back as acts.

    Args:
        name: Its id in the page.
        script: What `pages.js` does with it; `element`, `trigger` and `watch` are Gradio's.
        css: Further class names.
    """
    import gradio as gr

    return gr.HTML(
        "",
        elem_id=name,
        elem_classes=["t-html", *css.split()],
        js_on_load=_WHEN_READY % script,
        apply_default_css=False,
    )


def notice_html() -> Any:
    """Where messages about the last act appear."""
    return live_html("t-notices", script="tacit.fadeNotice(element, watch)")


def header_bar(user: User, path: str, *, menu: bool = False) -> str:
    """The bar on top: product, pages of this person's role, name, sign-out.

    Args:
        user: Who is signed in.
        path: The page shown, as in `PAGES`.
        menu: Whether the page has a side bar to open on small screens.
    """
    links = "".join(
        f"<a href='{target}'{' aria-current=page' if target == path else ''}>{name}</a>"
        for name, target, roles in PAGES
        if user.role in roles
    )
    opener = (
        f"<button type='button' class='t-button icon quiet t-opener' data-menu aria-label='Conversations'>{icon('menu')}</button>"
        if menu
        else ""
    )
    return (
        f"<header class='t-header'>{opener}<a class='t-brand' href='/chat/'>{PRODUCT}</a><nav aria-label='Pages'>{links}</nav>"
        f"<span class='t-person' title='{esc(user.role)}'>{esc(user.name)}</span>"
        "<form method='post' action='/sign-out'><button class='t-button quiet icon' aria-label='Sign out' title='Sign out'>"
        f"{icon('out')}</button></form></header>"
    )
