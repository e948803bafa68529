"""``sigma-data``: looks at sets of shards, rewrites them, imports benchmarks. Prints, as ``cli`` does."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from sigma_framework.cli import guarded
from sigma_framework.errors import DataError
from sigma_framework.progress import counted

if TYPE_CHECKING:
    from sigma_framework.shards import SetReport

_NOTES = 20
"""Notes of an import that are printed; a benchmark may have thousands."""

data_app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

_Set = Annotated[str, typer.Argument(metavar="PATH", help="Folder of the shards, or its address (s3://, hf://, ...).")]
_Cache = Annotated[
    Path | None, typer.Option("--cache", metavar="FOLDER", help="Local copies of shards behind an address.")
]
_Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]


def data_main() -> None:
    """Entry point of ``sigma-data``."""
    sys.exit(guarded(data_app, "sigma-data", sys.argv[1:]))


@data_app.callback(help="Look at sets of SIGMA-SET shards and rewrite them; import the layouts of benchmarks.")
def _group() -> None:
    """A group of commands."""


@data_app.command(help="Read every byte of a set; exit 0 when it is sound, 2 with everything that is not.")
def check(
    path: _Set,
    cache: _Cache = None,
    as_json: Annotated[bool, typer.Option("--json", help="The counts as one JSON document.")] = False,
    debug: _Debug = False,
) -> None:
    """``sigma-data check``."""
    from sigma_framework.shards import ShardSet, check_set

    with _progress("samples", len(ShardSet(path, cache))) as advance:
        report = check_set(path, cache, advance)
    typer.echo(json.dumps(_as_data(report), indent=2) if as_json else _as_text(report))
    if report.problems:
        raise DataError(path, report.problems)


@data_app.command(help="Show some samples of a set on one HTML page.")
def preview(
    path: _Set,
    count: Annotated[int, typer.Option("--count", metavar="N", min=1, help="Samples to show.")] = 24,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Where to write; preview.html beside the set.")
    ] = None,
    cache: _Cache = None,
    debug: _Debug = False,
) -> None:
    """``sigma-data preview``."""
    from sigma_framework.contact_sheet import contact_sheet
    from sigma_framework.shards import ShardSet

    shards = ShardSet(path, cache)
    target = output or (Path(path).absolute().parent if Path(path).is_dir() else Path()) / "preview.html"
    page = contact_sheet(shards, count)
    try:
        target.write_text(page, encoding="utf-8")
    except OSError as error:
        raise DataError(f"{target}: cannot be written ({error.strerror}); choose another file with --output") from error
    typer.echo(f"wrote {target}")


@data_app.command(help="Write a set in another form, or give bare tar files an index and a manifest.")
def convert(
    path: _Set,
    target: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the new set; must not exist.")],
    picture: Annotated[
        str | None, typer.Option("--target", metavar="FORMAT", help="Targets as png or jpg; as they are.")
    ] = None,
    identities: Annotated[
        str | None,
        typer.Option("--identities", metavar="FORMAT", help="Identity images as png, jpg or webp; as they are."),
    ] = None,
    quality: Annotated[
        int, typer.Option("--quality", metavar="N", min=1, max=100, help="Of pictures that become jpg or webp.")
    ] = 95,
    per_shard: Annotated[int, typer.Option("--per-shard", metavar="N", min=1, help="Samples in a shard.")] = 256,
    cache: _Cache = None,
    debug: _Debug = False,
) -> None:
    """``sigma-data convert``."""
    from sigma_framework.set_conversion import Form, convert_set

    form = Form(
        target=cast(Literal["png", "jpg"] | None, _one_of("--target", picture, "png", "jpg")),
        identities=cast(
            Literal["png", "jpg", "webp"] | None, _one_of("--identities", identities, "png", "jpg", "webp")
        ),
        quality=quality,
        per_shard=per_shard,
    )
    with _progress("samples", 0) as advance:
        count = convert_set(path, target, form, cache, advance)
    typer.echo(f"{counted(count, 'sample')} written to {target}")


@data_app.command("import", help="Write the layouts of a benchmark as scene documents with their pictures.")
def import_(
    name: Annotated[str, typer.Argument(metavar="FORMAT", help="coco, contextgen, flux3, lamicbench, msbench, ...")],
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The benchmark's file, or its folder for msbench.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the scenes; must not exist.")],
    images: Annotated[
        Path | None, typer.Option("--images", metavar="FOLDER", help="Where picture paths start; found by itself.")
    ] = None,
    size: Annotated[
        str | None, typer.Option("--size", metavar="WIDTHxHEIGHT", help="Of the scenes, in place of the benchmark's.")
    ] = None,
    places: Annotated[
        str, typer.Option("--places", metavar="HOW", help="given, or row: without a box, side by side.")
    ] = "given",
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="At most so many scenes.")] = None,
    debug: _Debug = False,
) -> None:
    """``sigma-data import``."""
    from sigma_framework.scene_import import import_scenes

    how = cast(Literal["given", "row"], _one_of("--places", places, "given", "row"))
    with _progress("scenes", 0) as advance:
        report = import_scenes(
            name,
            path,
            target,
            images=images,
            size=None if size is None else _size(size),
            places=how,
            limit=limit,
            on_scene=advance,
        )
    for note in report.notes[:_NOTES]:
        typer.echo(f"note: {note}", err=True)
    if len(report.notes) > _NOTES:
        typer.echo(f"note: and {len(report.notes) - _NOTES} more", err=True)
    typer.echo(f"{counted(report.scenes, 'scene')} written to {target}")


def _size(text: str) -> tuple[int, int]:
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(side.isdecimal() and 16 <= int(side) <= 8192 for side in sides):
        raise DataError(f"--size: found {text!r}, expected WIDTHxHEIGHT, e.g. 768x512")
    return int(sides[0]), int(sides[1])


def _one_of(flag: str, value: str | None, *allowed: str) -> str | None:
    if value is not None and value not in allowed:
        raise DataError(f"{flag}: found {value!r}, expected {' or '.join(allowed)}")
    return value


@contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    from sigma_framework.terminal import TerminalProgress

    progress = TerminalProgress()
    progress.begin(what, total)
    try:
        yield progress.advance
    finally:
        progress.finish()


def _as_data(report: SetReport) -> dict[str, Any]:
    return {
        "samples": report.samples,
        "shards": report.shards,
        "subjects": {str(count): number for count, number in report.per_subjects.items()},
        "sizes": {f"{width}x{height}": number for (width, height), number in report.per_size.items()},
        "members": dict(report.forms),
        "with_depth": report.with_depth,
        "depth": dict(report.per_depth),
        "masks": dict(report.per_masks),
        "licences": dict(report.per_licence),
        "boxes_3d": report.with_boxes_3d,
        "damaged": list(report.damaged),
        "problems": [str(problem) for problem in report.problems],
    }


def _as_text(report: SetReport) -> str:
    from sigma_framework.shards.layout import shown_name

    data = _as_data(report)
    held = f"{counted(report.samples, 'sample')} in {counted(report.shards, 'shard')}"
    lines = [f"{held}, {len(report.damaged)} damaged"]
    lines += [f"  {counted(int(count), 'subject')}: {number}" for count, number in data["subjects"].items()]
    lines += [f"  {size} pixels: {number}" for size, number in data["sizes"].items()]
    lines += [f"  members: {form}" for form in data["members"]]
    lines += [f"  depth {kind}: {number}" for kind, number in data["depth"].items()]
    lines += [f"  masks {kind}: {number}" for kind, number in data["masks"].items()]
    lines += [
        f"  licence {shown_name(name) if name else 'not told'}: {number}" for name, number in data["licences"].items()
    ]
    lines += [f"  oriented 3D boxes: {report.with_boxes_3d}"]
    return "\n".join(lines)
