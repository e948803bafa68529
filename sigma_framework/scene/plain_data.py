"""Text to plain data: YAML, JSON, or the text inside an image of ours. Strangers write scenes, so nothing is evaluated.

YAML is read from its events: no tags, no aliases, no merge keys, and only ``null``, ``true``, ``false`` and decimal
numbers are anything but text (``no``, ``012`` and ``12:30`` stay what was written).
"""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Iterator
from typing import Any

import yaml

from sigma_framework.errors import Problem, SceneError
from sigma_framework.scene.pictures import sniff

MAX_BYTES = 4 * 2**20
"""Largest document, bytes."""
MAX_DEPTH = 32
"""Deepest nesting."""
MAX_NODES = 20_000
"""Most values in one document."""
PNG_KEY = "sigma.scene"
"""Text key of an output image that holds its scene as JSON."""
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

_WHOLE = re.compile(r"[-+]?[0-9]{1,30}")
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,4})?")
_WORDS = {
    "": None,
    "~": None,
    "null": None,
    "Null": None,
    "NULL": None,
    "true": True,
    "True": True,
    "false": False,
    "False": False,
}


class _Refused(Exception):
    """A reason why the text is not plain data."""


def parse(content: bytes, origin: str, prefer_json: bool = False) -> dict[str, Any]:
    """The mapping in a file's bytes.

    Args:
        content: the whole file; an image that this framework made, or text.
        origin: the file's name, for messages.
        prefer_json: read as JSON alone, as the file's name says.

    Raises:
        SceneError: not plain data, or no mapping.
    """
    try:
        text = _png_text(content) if content.startswith(PNG_SIGNATURE) else _decode(content)
        is_json = prefer_json or content.startswith(PNG_SIGNATURE)
        data = _parse_json(text) if is_json else _parse_yaml(text)
        if not isinstance(data, dict):
            found = "nothing" if data is None else "a list" if isinstance(data, list) else "text or a number"
            raise _Refused(f"found {found}, expected a map with version, prompt, subjects")
    except _Refused as reason:
        raise SceneError(origin, [Problem("", str(reason))]) from None
    return data


def _decode(content: bytes) -> str:
    if len(content) > MAX_BYTES:
        raise _Refused(f"found {len(content):,} bytes, expected at most {MAX_BYTES:,}")
    if not content.strip():
        raise _Refused("the file is empty")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if kind := sniff(content):
            raise _Refused(f"this is {kind}; expected YAML or JSON text, or a PNG that this program made") from None
        raise _Refused(f"not UTF-8 text at byte {error.start}; save the file as UTF-8") from None
    if "\0" in text:
        raise _Refused(f"holds a NUL byte at character {text.index(chr(0))}; this is not a text file")
    return text


def _png_text(content: bytes) -> str:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            text = image.info.get(PNG_KEY) or getattr(image, "text", {}).get(PNG_KEY)
    except Exception as error:  # Pillow raises many kinds on damaged files
        raise _Refused(f"the image cannot be read ({error})") from None
    if not isinstance(text, str):
        raise _Refused(f'the image holds no scene (no PNG text "{PNG_KEY}"); give an image that this program made')
    if len(text) > MAX_BYTES:
        raise _Refused("the scene inside the image is too large")
    return text


def _parse_json(text: str) -> Any:
    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key, value in items:
            if key in mapping:
                raise _Refused(f'key "{key}" is given twice; keep one')
            mapping[key] = value
        return mapping

    def constant(name: str) -> Any:
        raise _Refused(f"found {name}, expected a finite number")

    try:
        data = json.loads(text, object_pairs_hook=pairs, parse_constant=constant)
    except json.JSONDecodeError as error:
        raise _Refused(f"not JSON, line {error.lineno} column {error.colno}: {error.msg}") from None
    except RecursionError:
        raise _Refused(f"nested deeper than {MAX_DEPTH} levels") from None
    except ValueError:
        raise _Refused("a number has too many digits") from None
    _measure(data)
    return data


def _measure(data: Any) -> None:
    """Refuses data that is too deep, too large or not finite."""
    level, count, depth = [data], 0, 0
    while level:
        count, depth = count + len(level), depth + 1
        if depth > MAX_DEPTH:
            raise _Refused(f"nested deeper than {MAX_DEPTH} levels")
        if count > MAX_NODES:
            raise _Refused(f"more than {MAX_NODES:,} values")
        if any(isinstance(value, float) and not math.isfinite(value) for value in level):
            raise _Refused("a number is too large, expected a finite number")
        level = [child for value in level for child in _children(value)]


def _children(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _parse_yaml(text: str) -> Any:
    try:
        return _from_events(text)
    except yaml.MarkedYAMLError as error:
        if error.context_mark and "quoted scalar" in (error.context or ""):
            raise _Refused(_fault_in_quotes(error.context_mark.line + 1, str(error.problem))) from None
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}" if mark else "the text"
        if "\\t" in str(error.problem) or "\t" in str(error.problem):
            raise _Refused(f"{where}: tabs are not allowed for indentation; use spaces") from None
        raise _Refused(f"{where}: {error.problem or error.context or 'not YAML'}") from None
    except yaml.YAMLError as error:
        raise _Refused(f"not YAML: {' '.join(str(error).split())[:160]}") from None
    except RecursionError:
        raise _Refused(f"nested deeper than {MAX_DEPTH} levels") from None


def _fault_in_quotes(line: int, problem: str) -> str:
    if "escape" in problem:
        return f"line {line}: {problem}; in double quotes a backslash begins an escape: write single quotes"
    if "end of stream" in problem:
        return f"line {line}: a quotation mark is opened and not closed"
    return f"line {line}: {problem} in quotes"


class _Builder:
    """Puts events together to lists and maps, without recursion."""

    def __init__(self) -> None:
        self.root: Any = None
        self.open: list[tuple[Any, dict[str, int], list[str]]] = []
        self.count = 0

    def add(self, value: Any, line: int) -> None:
        self.count += 1
        if self.count > MAX_NODES:
            raise _Refused(f"more than {MAX_NODES:,} values")
        if not self.open:
            self.root = value
            return
        container, lines, waiting = self.open[-1]
        if isinstance(container, list):
            container.append(value)
        elif waiting:
            container[waiting.pop()] = value
        else:
            self._take_key(value, line, lines, waiting)

    def begin(self, container: Any, line: int) -> None:
        if self.open and isinstance(self.open[-1][0], dict) and not self.open[-1][2]:
            raise _Refused(f"line {line}: a key must be text")
        self.add(container, line)
        self.open.append((container, {}, []))
        if len(self.open) > MAX_DEPTH:
            raise _Refused(f"nested deeper than {MAX_DEPTH} levels")

    @staticmethod
    def _take_key(value: Any, line: int, lines: dict[str, int], waiting: list[str]) -> None:
        key = value if isinstance(value, str) else str(value)
        if key == "<<":
            raise _Refused(f"line {line}: merge keys (<<) are not allowed in a scene")
        if key in lines:
            raise _Refused(f'key "{key}" is given twice, lines {lines[key]} and {line}; keep one')
        lines[key] = line
        waiting.append(key)


def _from_events(text: str) -> Any:
    builder = _Builder()
    documents = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = event.start_mark.line + 1
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise _Refused(f"line {line}: one document per file")
        elif isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _Refused(f"line {line}: anchors and aliases (& and *) are not allowed in a scene; quote the text")
        elif getattr(event, "tag", None) not in (None, "!"):
            raise _Refused(f'line {line}: tags that build objects are not allowed ("{event.tag}")')
        elif isinstance(event, yaml.ScalarEvent):
            builder.add(event.value if event.style else _scalar(event.value, line), line)
        elif isinstance(event, yaml.SequenceStartEvent):
            builder.begin([], line)
        elif isinstance(event, yaml.MappingStartEvent):
            builder.begin({}, line)
        elif isinstance(event, (yaml.SequenceEndEvent, yaml.MappingEndEvent)):
            builder.open.pop()
    return builder.root


def _scalar(text: str, line: int) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if _WHOLE.fullmatch(text) and (text.lstrip("+-") == "0" or not text.lstrip("+-").startswith("0")):
        return int(text)
    if _NUMBER.fullmatch(text) and not _WHOLE.fullmatch(text):
        value = float(text) if len(text) <= 60 else math.inf
        if not math.isfinite(value):
            raise _Refused(f"line {line}: a number is too large, expected a finite number")
        return value
    if text.lower().lstrip("+-") in (".nan", ".inf", "nan", "inf", "infinity"):
        raise _Refused(f"line {line}: found {text}, expected a finite number; quote it if it is text")
    return text
