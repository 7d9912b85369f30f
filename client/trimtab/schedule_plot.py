"""A found learning-rate schedule as a picture: SVG, alone or in a page, which any browser shows.

It is written by hand, since the client stays light: a plotting library would be larger than the client.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from trimtab.figures import integer, number, spent
from trimtab.wire.views import ScheduleView, StudyDetail

WIDTH, HEIGHT = 760, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 76, 20, 64, 52
_TICKS = 5
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#444}.title{font-weight:600;font-size:16px;fill:#111}"
    ".axis{stroke:#ddd}.tried{fill:none;stroke:#aaa;stroke-opacity:.6}.found{fill:none;stroke:#0b63c5;stroke-width:2.5}"
    "@media(prefers-color-scheme:dark){svg{background:#15181c}text{fill:#bbb}.title{fill:#eee}.axis{stroke:#333}"
    ".tried{stroke:#777}.found{stroke:#6db3ff}}"
)


def draw(schedule: ScheduleView, study: StudyDetail, *, html: bool = False) -> str:
    """The learning rate over the steps, with what else was tried greyed behind it.

    :param html: a page that holds the picture, rather than the picture alone
    """
    unit = study.spec.fidelity.unit
    found = _held(schedule.points, schedule.steps)
    tried = [each.points for each in schedule.tried]
    steps = max(schedule.steps, *(points[-1][0] for points in tried), 1)
    top = max((rate for points in (found, *tried) for _, rate in points), default=0.0) or 1.0
    x_ticks, y_ticks = _ticks(steps), _ticks(top)
    top = max(top, y_ticks[-1])

    def line(points: Sequence[tuple[int, float]], css: str, name: str) -> str:
        places = " ".join(f"{_x(step, steps):.1f},{_y(rate, top):.1f}" for step, rate in points)
        return f'<polyline class="{css}" points="{places}"><title>{name}</title></polyline>'

    title = escape(f"{study.name}: the learning rate of trial {schedule.trial}")
    cost = spent(schedule.useful, schedule.useful + schedule.search, unit)
    grey = f"; grey: {len(tried)} others that were tried" if tried else ""
    subtitle = escape(f"{number(schedule.value)} {study.metric}; {cost}{grey}")
    left, right, low = _LEFT, WIDTH - _RIGHT, HEIGHT - _BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{title}">',
        f"<style>{_STYLE}</style>",
        f'<text class="title" x="{left}" y="26">{title}</text><text x="{left}" y="46">{subtitle}</text>',
        *(f'<path class="axis" d="M{left} {_y(tick, top):.1f}H{right}"/>' for tick in y_ticks),
        *(_text(left - 8, _y(tick, top) + 4, f"{tick:g}", "end") for tick in y_ticks),
        *(_text(_x(tick, steps), low + 20, integer(round(tick))) for tick in x_ticks),
        _text((left + right) / 2, HEIGHT - 10, escape(unit)),
        *(line(each.points, "tried", f"trial {each.trial}") for each in schedule.tried),
        line(found, "found", f"trial {schedule.trial}"),
        "</svg>",
    ]
    picture = "\n".join(parts) + "\n"
    if not html:
        return picture
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{title}</title>\n'
        '<meta name="viewport" content="width=device-width">'
        '<meta name="color-scheme" content="light dark">\n'
        f'<body style="margin:2rem auto;max-width:60rem">\n{picture}</body></html>\n'
    )


def _held(points: Sequence[tuple[int, float]], steps: int) -> list[tuple[int, float]]:
    """Up to ``steps``: beyond the last point the rate holds."""
    last = points[-1]
    return [*points, (steps, last[1])] if last[0] < steps else list(points)


def _ticks(high: float) -> list[float]:
    """Round numbers from 0 to ``high``, a handful."""
    rough = high / _TICKS
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough)
    return [step * at for at in range(math.floor(high / step * (1 + 1e-9)) + 1)]


def _text(x: float, y: float, words: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{words}</text>'


def _x(step: float, steps: int) -> float:
    return _LEFT + (WIDTH - _LEFT - _RIGHT) * step / steps


def _y(rate: float, top: float) -> float:
    return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * rate / top
