"""Scaling laws on the user's side: requests made of files, and pictures written to a page of their own."""

from __future__ import annotations

import base64
import html
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trimtab.errors import TrimtabError
from trimtab.figures import NOTHING, number, words
from trimtab.wire.laws import FiguresResponse, FitRequest
from trimtab.wire.limits import MAX_BODY_BYTES

PARQUET = (".parquet", ".pq")


def request_of_file(path: Path, **fields: Any) -> FitRequest:
    """A request to fit the runs of a CSV or (by its ending) a Parquet file.

    ``fields`` are those of :class:`~trimtab.wire.laws.FitRequest`. Raises
    :class:`~trimtab.errors.TrimtabError` if the file cannot be read or is too large.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TrimtabError(
            f"{path} cannot be read: {error.strerror}", "name a CSV or Parquet file"
        ) from error
    parquet = path.suffix.lower() in PARQUET
    # In base64 a file is a third larger; room for the rest of the request is left.
    most = (MAX_BODY_BYTES - 100_000) * 3 // 4 if parquet else MAX_BODY_BYTES - 100_000
    if len(content) > most:
        raise TrimtabError(
            f"{path} has {len(content):,} bytes; a fit takes files of {most:,} at most",
            "leave out columns that are not needed, and runs far from the optimum of their cell",
        )
    if parquet:
        return FitRequest(parquet=base64.b64encode(content).decode(), **fields)
    try:
        return FitRequest(csv=content.decode("utf-8-sig"), **fields)
    except UnicodeDecodeError as error:
        raise TrimtabError(f"{path} is no text in UTF-8: byte {error.start} cannot be read") from error


def figure_page(answer: FiguresResponse, plotly_script: str) -> str:
    """All pictures of a fit as one HTML document that needs nothing else, light or dark as the
    reader's system."""
    figures = [figure.model_dump() for figure in answer.figures]
    # What would end the script early must not stand in it.
    data = json.dumps(figures, allow_nan=False).replace("</", "<\\/")
    blocks = "\n".join(
        f'<figure class="{figure.group}"><h2>{html.escape(figure.title)}</h2><div id="{figure.id}"></div>'
        f"<figcaption>{html.escape(figure.caption)}</figcaption></figure>"
        for figure in answer.figures
    )
    return _PAGE.format(
        title=html.escape(answer.name),
        blocks=blocks,
        data=data,
        plotly=plotly_script.replace("</script", "<\\/script"),
    )


def summary_rows(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a family says of its fit as rows of a name and a text."""
    rows = list(_rows({name: value for name, value in summary.items() if name != "held_out"}, ()))
    if "held_out" in summary:
        means = (f"{name} {100 * share:.3f} %" for name, share in summary["held_out"]["mean"].items())
        rows.append(("mean excess in cells left out", ", ".join(means)))
    return rows


def _rows(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    name = words(" ".join(path))
    if not isinstance(value, Mapping):
        yield name, _text(value)
    elif {"low", "value", "high"} <= value.keys():
        yield name, _interval(value)
    elif {"constant", "exponents"} <= value.keys():
        factors = [f"{variable}^{_interval(each)}" for variable, each in value["exponents"].items()]
        yield name, " · ".join([number(math.exp(value["constant"])), *factors])
    else:
        for key, each in value.items():
            yield from _rows(each, (*path, str(key)))


def _interval(value: Mapping[str, float]) -> str:
    return f"{number(value['value'])} ({number(value['low'])} to {number(value['high'])})"


def _text(value: Any) -> str:
    if value is None or value == []:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return number(float(value))
    if isinstance(value, list | tuple):
        return ", ".join(_text(each) for each in value)
    return str(value)


_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
:root {{
  color-scheme: light dark;
  --page: #f6f7f9; --panel: #fff; --text: #1c2430; --soft: #5a6573; --line: #dde2e8;
}}
@media (prefers-color-scheme: dark) {{
  :root {{ --page: #12161c; --panel: #1a2029; --text: #e4e9ef; --soft: #a0abb8; --line: #2d3642; }}
}}
body {{
  margin: 0 auto; max-width: 1500px; padding: 1rem; background: var(--page); color: var(--text);
  font: 15px/1.45 system-ui, sans-serif;
}}
main {{ display: grid; grid-template-columns: repeat(6, minmax(0, 1fr)); gap: 1rem; }}
figure {{
  margin: 0; grid-column: span 3; padding: .8rem;
  background: var(--panel); border: 1px solid var(--line); border-radius: 8px;
}}
figure.cells {{ grid-column: span 2; }}
figure.checks {{ grid-column: span 6; }}
h1 {{ font-size: 1.4rem; }}
h2 {{ font-size: 1rem; margin: 0; }}
figcaption {{ color: var(--soft); font-size: .85rem; }}
@media (max-width: 900px) {{ figure, figure.cells {{ grid-column: span 6; }} }}
</style>
<h1>{title}</h1>
<main>
{blocks}
</main>
<script>{plotly}</script>
<script>
const colour = getComputedStyle(document.documentElement).getPropertyValue("--soft").trim();
for (const f of {data}) {{
  const layout = {{ ...f.layout, height: f.height, font: {{ ...f.layout.font, color: colour }} }};
  Plotly.newPlot(f.id, f.data, layout, {{ displayModeBar: false, responsive: true }});
}}
</script>
</html>
"""
