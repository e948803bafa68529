"""The report for people: one HTML file without anything outside it."""

from __future__ import annotations

import base64
import html
import io
import json
import math
from collections.abc import Mapping, Sequence

from PIL import Image

from sigma_framework.evaluation.scoring import Measured, Scored
from sigma_framework.evaluation.summary import Summary, told
from sigma_framework.evaluation.tables import TextTable, as_html
from sigma_framework.picture_grid import untile
from sigma_framework.progress import counted
from sigma_framework.types import RgbImage

SHOWN = 60
"""Scenes with pictures; tables tell of all."""
TITLES = ("identities", "layout", "result", "target")
_STYLE = """body{font:14px/1.45 system-ui,sans-serif;margin:24px auto;max-width:1240px;padding:0 16px;color:#1b1b1b}
h1{font-size:22px}h2{font-size:17px;margin-top:32px}table{border-collapse:collapse}
td,th{padding:5px 9px;text-align:left;border-bottom:1px solid #e3e3e3;vertical-align:top;white-space:nowrap}
th{background:#f4f4f4}tr.own td{background:#eef5ff;font-weight:600}.wide{overflow-x:auto}
.note{color:#7a4a00;margin:6px 0}.small{color:#555;font-size:12px}
.scenes td{white-space:normal}.scenes img{height:144px}
.warn{background:#fff4dc;padding:10px 14px}"""


def report_page(
    measured: Measured, summary: Summary, tables: Sequence[TextTable], curves: str, cautions: Sequence[str]
) -> str:
    """The page.

    Args:
        measured: every image.
        summary: of this evaluation.
        tables: in order.
        curves: an SVG drawing, or nothing.
        cautions: what a reader must know before the numbers.
    """
    parts = [
        f"<h1>{html.escape(measured.system)}</h1><p>{html.escape(measured.heading)}</p>",
        *(f"<p class=warn>{html.escape(caution)}</p>" for caution in cautions),
        *(as_html(table) for table in tables),
        f"<h2>Over the number of subjects</h2><div class=wide>{curves}</div>" if curves else "",
        _made_with(summary),
        _scenes(measured),
    ]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(measured.system)}</title><style>{_STYLE}</style>{''.join(parts)}</html>\n"
    )


def made_with(facts: Mapping[str, object]) -> str:
    """What a number was made with, on one line."""
    return "; ".join(
        f"{key} {value if isinstance(value, str) else json.dumps(value, default=str)}" for key, value in facts.items()
    )


def _made_with(summary: Summary) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(one.name)}</td><td>{one.better}</td><td class=small>"
        f"{'<br>'.join(html.escape(text) for text in (one.about, made_with(one.facts)) if text)}</td></tr>"
        for one in summary.measures
    )
    head = "<tr><th>measure</th><th>better</th><th>what it says, what it was made with</th></tr>"
    return f"<h2>What the numbers are</h2><div class=wide><table>{head}{rows}</table></div>"


def _scenes(measured: Measured) -> str:
    shown = measured.scored[:SHOWN]
    rows = []
    for number, scene in enumerate(shown):
        numbers = "<br>".join(
            f"{html.escape(one.name)} {told(one.values[number])}"
            for one in measured.measures
            if math.isfinite(one.values[number])
        )
        pictures = "".join(f"<td>{_image(picture, TITLES[k])}</td>" for k, picture in enumerate(scene.pictures))
        pictures += "<td></td>" * (len(TITLES) - len(scene.pictures))
        rows.append(f"<tr><td class=small>{_about(scene)}</td>{pictures}<td class=small>{numbers}</td></tr>")
    titles = "".join(f"<th>{title}</th>" for title in ("scene", *TITLES, "measures"))
    count = f"the first {len(shown)} of {len(measured.scored)}" if len(shown) < len(measured.scored) else "all"
    return (
        f"<h2>Scenes ({count})</h2><div class=wide><table class=scenes><tr>{titles}</tr>{''.join(rows)}</table></div>"
    )


def _about(scene: Scored) -> str:
    cost = f"{scene.seconds:.2f} s" if math.isfinite(scene.seconds) else ""
    lines = (
        scene.image,
        scene.key,
        counted(scene.subjects, "subject"),
        ", ".join(dict.fromkeys(scene.controls)),
        cost,
    )
    return "<br>".join(html.escape(line) for line in (*lines, scene.prompt) if line)


def _image(picture: RgbImage, title: str) -> str:
    """Small pictures exactly, larger ones as JPEG: a page must stay loadable."""
    buffer = io.BytesIO()
    image = Image.fromarray(untile(picture))
    kind = "png" if image.height <= 160 else "jpeg"
    image.save(buffer, format=kind, **({"quality": 88} if kind == "jpeg" else {}))
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{title}" loading="lazy" src="data:image/{kind};base64,{data}">'
