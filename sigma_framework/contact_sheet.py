"""A set on one page for people: target, masks, depth, 3D boxes, identities and texts of some of its samples."""

from __future__ import annotations

import html

import numpy as np

from sigma_framework.conditioning.layout_picture import draw_layout, subject_colour
from sigma_framework.errors import DataError
from sigma_framework.set_pictures import as_image_tag, depth_picture, draw_boxes
from sigma_framework.shards import DecodedSample, ShardSet

_STYLE = (
    "body{font:14px/1.4 sans-serif;margin:24px;background:#fff;color:#222}td,th{padding:4px 8px;text-align:left;"
    "vertical-align:top}img{display:block}.ids img{display:inline-block;border:1px solid #ddd;margin:1px}"
    ".bad{color:#b00}li{margin:0}ol{margin:4px 0;padding-left:20px}"
)


def contact_sheet(shards: ShardSet, count: int) -> str:
    """One self-contained HTML page of ``count`` samples, evenly spread over the set; damaged ones are shown as such."""
    picked = np.unique(np.linspace(0, len(shards) - 1, min(count, len(shards))).round().astype(int))
    rows = "".join(_row(shards, int(index)) for index in picked)
    counts, times = np.unique(shards.subject_counts, return_counts=True)
    spread = ", ".join(f"{n}: {t}" for n, t in zip(counts.tolist(), times.tolist(), strict=True))
    titles = ("target", "masks", "depth", "boxes", "identities", "prompts and captions")
    head = "".join(f"<th>{title}</th>" for title in titles)
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>SIGMA-SET</title><style>{_STYLE}</style>"
        f"<h1>{html.escape(str(shards.place))}</h1><p>{len(shards)} samples in {len(shards.files)} shards; samples by "
        f"number of subjects: {spread}. {len(picked)} shown.</p><table><tr>{head}</tr>{rows}</table></html>"
    )


def _row(shards: ShardSet, index: int) -> str:
    try:
        sample = shards.sample(index)
    except DataError as error:
        return f"<tr><td colspan='6' class='bad'>{html.escape(error.render())}</td></tr>"
    document, subjects = sample.document, sample.document.subjects
    pictures = (
        sample.target,
        draw_layout(sample.masks, [""] * len(subjects), sample.target, labels=False),
        depth_picture(sample.depth, sample.masks.shape[1:]),
        draw_boxes(sample.target, [s.box3d for s in subjects], [s.box2d for s in subjects], document.camera),
    )
    cells = "".join(f"<td>{as_image_tag(picture)}</td>" for picture in pictures)
    blocks = "".join(as_image_tag(block, 84) for block in sample.identities)
    return f"<tr>{cells}<td class='ids' style='width:270px'>{blocks}</td><td>{_texts(sample)}</td></tr>"


def _texts(sample: DecodedSample) -> str:
    document = sample.document
    captions = "".join(
        f"<li style='color:rgb{subject_colour(k)}'>{html.escape(subject.caption)}</li>"
        for k, subject in enumerate(document.subjects)
    )
    depth = document.depth.kind if document.depth else "none"
    facts = f"{document.size[0]}x{document.size[1]}, depth {depth}, masks {document.masks}"
    lines = (document.key, document.prompts.full, document.prompts.background, facts, document.licence)
    return "<br>".join(html.escape(line) for line in lines if line) + f"<ol>{captions}</ol>"
