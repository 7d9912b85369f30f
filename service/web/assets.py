"""Styles and scripts, and plotly's own JavaScript out of the installed package.

Addresses carry a digest of the content, so browsers keep a file for good and fetch it anew when it changes.
"""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from fastapi import APIRouter, Request, Response

from service.errors import NotFoundError

_FOLDER = Path(__file__).parent / "static"
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_PLOTLY = "plotly.min.js"


@dataclass(frozen=True, slots=True)
class Asset:
    """A file as it is served."""

    content: bytes
    compressed: bytes
    """The content under gzip."""
    media_type: str
    digest: str


@cache
def _paths() -> dict[str, Path]:
    """Every served file by name. Plotly's package is found, not imported: that takes a second."""
    paths = {path.name: path for path in _FOLDER.iterdir() if path.suffix in _TYPES}
    plotly = find_spec("plotly")
    if plotly is None or plotly.origin is None:
        raise RuntimeError("the plotly package is not installed: pip install plotly")
    paths[_PLOTLY] = Path(plotly.origin).parent / "package_data" / _PLOTLY
    return paths


@cache
def load(name: str) -> Asset:
    """Read, digest and compress a file; raises :class:`NotFoundError` for a name that is not served."""
    path = _paths().get(name)
    if path is None:
        raise NotFoundError(f"There is no static file {name!r}.")
    content = path.read_bytes()
    return Asset(
        content=content,
        compressed=gzip.compress(content, 6, mtime=0),
        media_type=_TYPES[path.suffix],
        digest=hashlib.sha256(content).hexdigest()[:16],
    )


def url(name: str) -> str:
    """The address of a static file, with its digest."""
    return f"/static/{name}?v={load(name).digest}"


router = APIRouter(include_in_schema=False)


@router.api_route("/static/{name}", methods=["GET", "HEAD"])
def static(name: str, request: Request, v: str = "") -> Response:
    """A static file; for good where the digest is the current one, else to be asked again each time."""
    asset = load(name)
    headers = {
        "ETag": f'"{asset.digest}"',
        "Cache-Control": "public, max-age=31536000, immutable" if v == asset.digest else "no-cache",
        "Vary": "Accept-Encoding",
        "X-Content-Type-Options": "nosniff",
    }
    if f'"{asset.digest}"' in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    content = asset.content
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
        content = asset.compressed
    return Response(content, media_type=asset.media_type, headers=headers)
