"""A scene as plain data, and as the text of a file."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Any

from sigma_framework.dataclass_schema import join
from sigma_framework.errors import Problem, SceneError
from sigma_framework.scene import files
from sigma_framework.scene.document import VERSION
from sigma_framework.scene.records import Scene, is_array
from sigma_framework.types import Camera, FileContent

_ESCAPED = re.compile(r"[\x7f-\x9f\u2028\u2029\ufeff]")
"""What YAML reads differently than JSON."""


def write_document(scene: Scene) -> dict[str, Any]:
    """Plain data of a scene whose pictures are all relative files; default values are left out."""
    problems: list[Problem] = []

    def plain(where: str, value: Any) -> Any:
        is_own = isinstance(value, os.PathLike) or (files.names_file(value) and files.is_absolute(value))
        is_content = is_array(value) or isinstance(value, FileContent)
        if is_content or is_own:
            what = "an array" if is_array(value) else "a file's content" if is_content else "a path of this machine"
            problems.append(Problem(where, f"found {what}, expected a relative file name", "use save or copy_inputs"))
            return None
        if isinstance(value, Mapping):
            return {str(key): plain(join(where, str(key)), part) for key, part in value.items()}
        return [plain(where, part) for part in value] if isinstance(value, (list, tuple)) else value

    camera = scene.camera
    if isinstance(camera, Camera):
        camera = {"fx": camera.fx, "fy": camera.fy, "cx": camera.cx, "cy": camera.cy}
    document: dict[str, Any] = {"version": VERSION, "size": scene.size, "prompt": scene.prompt}
    document |= {"prompt_kind": scene.prompt_kind, "background": scene.background, "camera": camera}
    document |= {"structure": scene.structure, "structure_range": scene.structure_range}
    texts = ("prompt", "prompt_kind")
    document = {
        key: value if key in texts else plain(key, value) for key, value in document.items() if value is not None
    }
    document["subjects"] = [
        {
            "name": subject.name,
            "image": plain(f"subjects[{index}].image", subject.image),
            "caption": subject.caption,
            "control": plain(f"subjects[{index}].control", subject.control),
        }
        for index, subject in enumerate(scene.subjects)
    ]
    if problems:
        raise SceneError(scene.origin, problems)
    return document


def document_text(document: Mapping[str, Any], as_json: bool) -> str:
    """The document as a file's text; the YAML form keeps JSON's quoting, which no reader takes for anything else."""
    if as_json:
        return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    lines = [f"{key}: {_flow(value)}" for key, value in document.items() if key != "subjects"]
    lines += ["subjects:", *(f"  - {_flow(subject)}" for subject in document["subjects"])]
    return "\n".join(lines) + "\n"


def _flow(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return _ESCAPED.sub(lambda match: f"\\u{ord(match.group()):04x}", text)
