"""Text files that users write: their encodings, and JSON and YAML of bounded size and depth."""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import Any

import yaml

from kmtalk.errors import InputError
from kmtalk.user_files import read_user_file

TEXT_LIMIT = 48 << 20
"""Bytes of a text file; what JSON of this size may take in memory is just bearable."""
YAML_LIMIT = 1 << 18
"""Bytes of a YAML file, which takes some seconds to read at this size."""
MAX_DEPTH = 100
"""Levels of lists and mappings within one another, in JSON and YAML."""
MAX_YAML_VALUES = 100_000
"""Values of a YAML file, counted once for each alias that refers to them."""


def read_text_file(path: str | Path, errors: str = "strict", limit: int = TEXT_LIMIT) -> str:
    """Read a text file: UTF-8 with or without a byte order mark, or UTF-16 with one.

    Args:
        path: The file.
        errors: What is done with invalid bytes, as `bytes.decode` takes it.
        limit: The most bytes that it may hold.

    Raises:
        InputError: It is not a regular file, cannot be read, is larger than `limit`, or is not such text.
    """
    data = read_user_file(path, limit)
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        text = data.decode(encoding, errors)
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not text in UTF-8; save it as UTF-8") from None
    if errors == "strict" and "\0" in text:
        raise InputError(f"{path}: is not a text file, or not in UTF-8; save it as UTF-8")
    return text


def parse_json(text: str, where: str | Path) -> Any:
    """Parse JSON text without NaN, repeated names, or more than `MAX_DEPTH` levels.

    Args:
        text: The text.
        where: What messages begin with: the file's name.

    Raises:
        InputError: The text is not such JSON.
    """
    try:
        value = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_unique_names)
    except RecursionError:
        raise InputError(f"{where}: not valid JSON (nested too deep)") from None
    except json.JSONDecodeError as error:
        problem = f"line {error.lineno}, column {error.colno}: {error.msg}" if text.strip() else "it is empty"
        raise InputError(f"{where}: not valid JSON ({problem})") from None
    except ValueError as error:  # a constant, a repeated name, or a number of thousands of digits
        raise InputError(f"{where}: not valid JSON ({str(error).partition(';')[0][:120]})") from None
    _check_depth(value, where, "JSON")
    return value


def read_json_file(path: str | Path) -> Any:
    """Read a JSON file, as `read_text_file` and `parse_json` do."""
    return parse_json(read_text_file(path), path)


def read_yaml_file(path: str | Path) -> Any:
    """Read a YAML file of plain values, without repeated keys; at most `YAML_LIMIT` bytes, `MAX_DEPTH` levels and
    `MAX_YAML_VALUES` values.

    Raises:
        InputError: The file cannot be read, or is not such YAML.
    """
    text = read_text_file(path, limit=YAML_LIMIT)
    try:
        value = yaml.load(text, _PlainLoader)
    except RecursionError:
        raise InputError(f"{path}: not valid YAML (nested too deep)") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise InputError(f"{path}: not valid YAML ({place}{_one_line(error.problem or error.context)})") from None
    # PyYAML's constructors of tagged values, such as `!!int ""` or a 13th month, raise what their parsing raises
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, OverflowError) as error:
        raise InputError(f"{path}: not valid YAML ({_one_line(error)})") from None
    _check_depth(value, path, "YAML", MAX_YAML_VALUES)
    return value


class _PlainLoader(yaml.SafeLoader):
    """A SafeLoader that refuses repeated keys, of which it would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value} is given twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _one_line(problem: object) -> str:
    return " ".join(str(problem).split())[:120]


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number in JSON")


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in pairs:
        if name in out:
            raise ValueError(f"{name} is given twice")
        out[name] = value
    return out


def _check_depth(value: Any, where: str | Path, kind: str, most: int | None = None) -> None:
    """Raise InputError where a value has more than `MAX_DEPTH` levels, or more than `most` values in all."""
    level, count = [value], 0
    for _ in range(MAX_DEPTH):
        count += len(level)
        if most is not None and count > most:
            raise InputError(f"{where}: not valid {kind} (more than {most:,} values)")
        level = [
            item
            for held in level
            if isinstance(held, dict | list)
            for item in (held.values() if isinstance(held, dict) else held)
        ]
        if not level:
            return
    raise InputError(f"{where}: not valid {kind} (nested more than {MAX_DEPTH} deep)")
