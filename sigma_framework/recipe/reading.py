"""One recipe file or one override value -> plain data, with a clear message for what is not a recipe."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError
from yaml.error import MarkedYAMLError

from sigma_framework.dataclass_schema import shown
from sigma_framework.errors import Problem, RecipeError

MAX_BYTES = 1_000_000
MAX_DEPTH = 32
"""A recipe is written by people; more is an accident or an attack."""

REFERENCE_REMEDY = "write ${other.key} for another key's value, or ${env:NAME} for an allowed variable"


def read_file(path: Path) -> dict[str, Any]:
    """The map that a recipe file holds, references unresolved.

    Raises:
        RecipeError: it cannot be read, is not UTF-8, not YAML, or not a map.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise RecipeError(f"{path}", [Problem("", f"cannot be read: {error.strerror}")]) from error
    if len(content) > MAX_BYTES:
        raise RecipeError(f"{path}", [Problem("", f"found more than {MAX_BYTES} bytes, expected a recipe")])
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problem = Problem(
            "", f"found a byte at position {error.start} that is not UTF-8, expected UTF-8 text", "save it as UTF-8"
        )
        raise RecipeError(f"{path}", [problem]) from error
    problems: list[Problem] = []
    data = parse(text, problems)
    if not problems and (not isinstance(data, Mapping) or not data):
        found = "an empty file" if not text.strip() or data in (None, {}) else _kind(data)
        problems.append(Problem("", f"found {found}, expected a map with the key task", "see docs/recipes.md"))
    if not problems:
        check_plain(data, "", problems)
    if problems:
        raise RecipeError(f"{path}", problems)
    return dict(data)


def parse(text: str, problems: list[Problem]) -> Any:
    """YAML text as plain data; None and a problem when it is not YAML."""
    tab = _tab_line(text)
    try:
        config = OmegaConf.load(io.StringIO(text))
    except OSError:
        return text.strip()  # OmegaConf refuses a bare scalar as a whole document
    except MarkedYAMLError as error:
        problems.append(_yaml_problem(error, tab))
        return None
    except RecursionError:
        problems.append(Problem("", "found maps or lists nested too deeply", "write it flatter"))
        return None
    except OmegaConfBaseException as error:
        problems.append(Problem(str(error.full_key or ""), "found a ${...} that cannot be read", REFERENCE_REMEDY))
        return None
    except (YAMLError, ValueError) as error:
        problems.append(Problem("", f"not readable as YAML: {_one_line(error)}"))
        return None
    data = OmegaConf.to_container(config, resolve=False)
    return text.strip() if data == {text.strip(): None} else data  # a bare word becomes a key there


def parse_value(text: str, problems: list[Problem], where: str) -> Any:
    """The right-hand side of ``key=value`` as YAML: a scalar, a list or a map; nothing at all is empty text."""
    if not text:
        return ""
    try:
        config = OmegaConf.from_dotlist([f"value={text}"])
        value = OmegaConf.to_container(config, resolve=False)["value"]  # type: ignore[index,call-overload]
    except (YAMLError, OmegaConfBaseException, ValueError, RecursionError) as error:
        problems.append(
            Problem(where, f"found {shown(text)}, not readable as YAML: {_one_line(error)}", "put text into quotes")
        )
        return None
    check_plain(value, where, problems)
    return value


def check_plain(value: Any, where: str, problems: list[Problem], depth: int = 0) -> None:
    """Adds a problem for keys that are not text and for nesting without end."""
    if depth > MAX_DEPTH:
        problems.append(Problem(where, f"found more than {MAX_DEPTH} levels", "write it flatter"))
        return
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                problems.append(Problem(where, f"found the key {shown(key)}, expected text", "quote it"))
            check_plain(item, f"{where}.{key}" if where else str(key), problems, depth + 1)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            check_plain(item, f"{where}[{index}]", problems, depth + 1)
    elif not isinstance(value, (str, int, float, bool, Path, type(None))):
        problems.append(Problem(where, f"found a {type(value).__name__}, expected plain data"))


def _yaml_problem(error: MarkedYAMLError, tab: int | None) -> Problem:
    mark = error.problem_mark or error.context_mark
    line = f"line {mark.line + 1}" if mark else ""
    what = " ".join((error.problem or str(error)).split())
    if tab is not None and mark and "cannot start any token" in what:
        return Problem(f"line {tab}", "found a tab, expected spaces for indentation", "replace it by spaces")
    if duplicate := re.search(r"found duplicate key (.+)", what):
        return Problem(line, f"found the key {duplicate[1]} twice, expected it once", "remove one of them")
    if tag := re.search(r"could not determine a constructor for the tag '(.+)'", what):
        short = tag[1].replace("tag:yaml.org,2002:", "!!")
        return Problem(
            line, f"found the tag {short}, expected plain data", "a recipe cannot build objects; remove the tag"
        )
    return Problem(line, f"not readable as YAML: {what}")


def _tab_line(text: str) -> int | None:
    for number, line in enumerate(text.splitlines(), start=1):
        if "\t" in line[: len(line) - len(line.lstrip())]:
            return number
    return None


def _kind(value: Any) -> str:
    return (
        "a list" if isinstance(value, list) else f"the text {shown(value)}" if isinstance(value, str) else shown(value)
    )


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
