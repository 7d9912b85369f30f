"""From a page's context to HTML."""

from __future__ import annotations

import dataclasses
from http import HTTPStatus
from pathlib import Path

from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

from service.web import assets, format
from service.web.contexts import Page
from trimtab import figures

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        # plotly styles its own elements; no script runs from a style.
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)

_markdown = MarkdownIt("commonmark", {"html": False})
_environment = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.globals["asset"] = assets.url
_environment.filters.update(
    {
        "number": figures.number,
        "parameter": figures.parameter,
        "exact": figures.exact,
        "integer": figures.integer,
        "count": figures.count,
        "span": figures.span,
        "percent": figures.percent,
        "duration": figures.duration,
        "size": format.size,
        "relative": format.relative,
        "words": figures.words,
        "markdown": lambda text: Markup(_markdown.render(text)),
        "inline": lambda text: Markup(_markdown.renderInline(text)),
    }
)


def html(page: Page) -> str:
    """The page as an HTML document."""
    values = {field.name: getattr(page, field.name) for field in dataclasses.fields(page)}
    return _environment.get_template(page.template).render(page=page, **values)


def respond(page: Page, status: int = HTTPStatus.OK) -> HTMLResponse:
    """The page as an answer that no cache keeps and no other site can frame or feed scripts."""
    return HTMLResponse(
        html(page),
        status,
        headers={
            "Content-Security-Policy": CONTENT_SECURITY_POLICY,
            "Cache-Control": "no-store",
            "Referrer-Policy": "same-origin",
            "X-Content-Type-Options": "nosniff",
        },
    )
