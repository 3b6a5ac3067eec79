"""mkdocs hooks: pages whose text is generated from the code, so that they cannot differ from it.

A page contains a comment such as `<!-- generated: cli -->`, which is replaced when the site is built:

- `cli`: all commands and their options
- `fields MODULE.CLASS`: the fields of a pydantic model or dataclass, as a table
- `columns`: the columns of a batch's manifest
- `formats`: the output formats
- `modules`: all modules of the package, by import rank
- `shapes`: the blend shapes of the default head
- `file PATH`: a Markdown file of the repository
- `section PATH`: the same with its headings one level lower
"""

from __future__ import annotations

import ast
import posixpath
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from pydoc import locate
from typing import Any

import click
import griffe
import typer
from mkdocs.structure.pages import Page
from pydantic import BaseModel, TypeAdapter
from typer.cli import get_docs_for_click

from kmtalk.animation import DEFAULT_FOLDER_FORMATS, FORMATS
from kmtalk.batch.jobs import ALLOWED_COLUMNS, Job
from kmtalk.cli.commands import typer_app
from kmtalk.face.joints import HEAD_NAMES
from kmtalk.face.rig import ARKIT_NAMES, SPEECH_NAMES
from kmtalk.motion.styles import DEFAULT_STYLE
from kmtalk.settings import AnimationSettings, ExportSettings, SoundSettings

ROOT = Path(__file__).parent.parent
MARKER = re.compile(r"<!-- generated: (\w+)(?: (\S+))? -->")
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)")
TYPE_NAMES = {"string": "text", "integer": "integer", "number": "number", "boolean": "true or false"}
BOUNDS = {"minimum": "≥ {}", "exclusiveMinimum": "> {}", "maximum": "≤ {}", "exclusiveMaximum": "< {}"}
BOUNDS |= {"minItems": "{} or more", "minLength": "not empty", "pattern": "`{}`"}
# what a default of None or of several numbers means, as an option takes it
DEFAULTS = {
    "AnimationSettings.style": f"`{DEFAULT_STYLE}`; with motion rules `neutral`",
    "AnimationSettings.language": "detected",
    "DialogueSettings.style": f"`{DEFAULT_STYLE}`; with motion rules `neutral`",
    "DialogueSettings.language": "detected",
    "ExportSettings.formats": f"`{DEFAULT_FOLDER_FORMATS}`, and `mp4` with `video`",
    "ExportSettings.size": "`{}x{}`".format(*ExportSettings().size),
}


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Replace the markers of a page; called by mkdocs."""

    def generated(match: re.Match[str]) -> str:
        kind, argument = match.groups()
        if kind in ("file", "section"):
            text = repository_file(argument, page.file.src_uri)
            return re.sub(r"(?m)^(?=#+ )", "#", text) if kind == "section" else text
        return GENERATORS[kind](*([argument] if argument else []))

    return MARKER.sub(generated, markdown)


def command_line() -> str:
    """Arguments and options of all commands."""
    group = typer.main.get_command(typer_app)
    text = get_docs_for_click(obj=group, ctx=typer.Context(group), indent=1, name="kmtalk")
    return "".join(link_commands(section, group) for section in re.split(r"(?m)^(?=#+ `)", text))


def link_commands(section: str, root: click.Command) -> str:
    """A command's section with links to its subcommands, each with the first sentence of its help."""
    heading = re.match(r"#+ `(.*)`", section)
    head, marker, commands = section.partition("**Commands**:")
    if heading is None or not marker:
        return section
    path = heading.group(1).split()
    for name in path[1:]:
        root = root.commands[name]  # type: ignore[attr-defined]

    def linked(match: re.Match[str]) -> str:
        name = match.group(1)
        return f"* [`{name}`](#{'-'.join([*path, name])}) – {first_sentence(root.commands[name].help)}"  # type: ignore[attr-defined]

    return head + marker + re.sub(r"(?m)^\* `(\w+)`.*$", linked, commands)


def first_sentence(text: str | None) -> str:
    """The first sentence of a help text, without what a colon or semicolon adds to it."""
    sentence = re.split(r"[:;]\s|\.\s|\.$", " ".join((text or "").split()), maxsplit=1)[0]
    return f"{sentence}."


def fields_of(path: str) -> str:
    """Table of the fields of the class at a dotted path."""
    cls: Any = locate(path)
    schema = cls.model_json_schema() if issubclass(cls, BaseModel) else TypeAdapter(cls).json_schema()
    required, described = schema.get("required", []), attribute_descriptions(cls)
    rows = []
    for name, field in schema["properties"].items():
        default = "required" if name in required else DEFAULTS.get(f"{cls.__name__}.{name}") or default_of(field)
        text = " ".join(field.get("description", described.get(name, "")).split())
        rows.append((f"`{name}`", type_of(field), default, bounds_of(field), text))
    return table(("Field", "Type", "Default", "Bounds", "Description"), rows)


def attribute_descriptions(cls: type) -> dict[str, str]:
    """Descriptions of a class' attributes from the Attributes section of its docstring."""
    sections = griffe.Docstring(cls.__doc__ or "").parse("google")
    found = [s.value for s in sections if s.kind is griffe.DocstringSectionKind.attributes]
    return {a.name: a.description for attributes in found for a in attributes}


def type_of(schema: dict[str, Any]) -> str:
    """A JSON schema's type in words."""
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[1]
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{choice}`" for choice in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(type_of(s) for s in schema["anyOf"] if s.get("type") != "null")
    if "prefixItems" in schema:
        return f"({', '.join(type_of(s) for s in schema['prefixItems'])})"
    if schema.get("type") == "array":
        return f"list of {type_of(schema['items'])}"
    if schema.get("type") == "object":
        values = schema.get("additionalProperties")
        return f"mapping of name to {type_of(values)}" if isinstance(values, dict) else "mapping"
    return "path" if schema.get("format") == "path" else TYPE_NAMES.get(schema.get("type", ""), "any")


def default_of(field: dict[str, Any]) -> str:
    """A field's default in words."""
    value = field.get("default")
    if "$ref" in field or (isinstance(value, dict) and value):
        return "its own defaults"
    if value is None or value in ("", [], {}):
        return "none"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def bounds_of(field: dict[str, Any]) -> str:
    """A field's bounds in words; those of the alternatives where it has several types."""
    schemas = [s for s in (field, *field.get("anyOf", [])) if "prefixItems" not in s]
    return ", ".join(text.format(s[key]) for s in schemas for key, text in BOUNDS.items() if key in s)


def manifest_columns() -> str:
    """Table of the columns of a batch's manifest."""
    fields = Job.model_fields | SoundSettings.model_fields | AnimationSettings.model_fields
    return table(("Column", "Description"), [(f"`{n}`", fields[n].description or "") for n in ALLOWED_COLUMNS])


def shapes() -> str:
    """Table of the blend shapes of the default head."""
    kinds = {
        "ARKit": (ARKIT_NAMES, "the face shapes of ARKit"),
        "Speech": (SPEECH_NAMES, "shapes for speech that ARKit does not have"),
        "Head": (HEAD_NAMES, "head turns; weight 1 is 10°"),
    }
    rows = [
        (f"{kind} ({len(names)})", text, ", ".join(f"`{name}`" for name in names))
        for kind, (names, text) in kinds.items()
    ]
    return table(("Group", "Meaning", "Names"), rows)


def output_formats() -> str:
    """Table of the output formats."""
    rows = []
    for known in FORMATS:
        contents, programs = re.fullmatch(r"(.*?)(?: \(([^()]*)\))?", known.description).groups("")  # type: ignore[union-attr]
        endings = " ".join(f"`{suffix}`" for suffix in known.suffixes)
        rows.append((f"`{known.name}`", endings, contents, programs, "yes" if known.can_bake else ""))
    return table(("Name", "File name ends with", "Contents", "Programs", "`--bake`"), rows)


def modules() -> str:
    """Tables of all modules of the package, with their ranks from tests/test_house.py."""
    ranks = import_ranks()
    parts = []
    for room, rank in sorted(ranks.items(), key=lambda item: item[1]):
        path = ROOT / "kmtalk" / room
        files = sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
        rows = [(module_link(file), summary) for file in files if (summary := module_summary(file))]
        parts.append((rank, room, rows))
    out = []
    for rank in sorted({rank for rank, _, _ in parts}):
        rows = [row for r, _, several in parts if r == rank for row in several]
        names = ", ".join(f"`{room}`" for r, room, _ in parts if r == rank)
        out.append(f"**Rank {rank}: {names}**\n\n{table(('Module', 'Contents'), rows)}")
    return "\n".join(out)


def import_ranks() -> dict[str, int]:
    """The dictionary RANK of tests/test_house.py."""
    for node in ast.parse((ROOT / "tests" / "test_house.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "RANK":
            ranks: dict[str, int] = ast.literal_eval(node.value)
            return ranks
    raise LookupError("tests/test_house.py: no RANK")


def module_link(file: Path) -> str:
    """A module's path with an anchor."""
    path = file.relative_to(ROOT).as_posix()
    return f'<span id="{path}"></span>`{path}`'


def module_summary(file: Path) -> str:
    """The first paragraph of a module's docstring; empty where it has none."""
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return " ".join(docstring.partition("\n\n")[0].split())


def repository_file(path: str, page: str) -> str:
    """A Markdown file of the repository with its links adapted to the site.

    Links to pages of the site stay links, links to modules lead to the architecture page, and other links become text.
    """
    folder = posixpath.dirname(path)
    start = posixpath.dirname(page) or "."

    def adapted(match: re.Match[str]) -> str:
        text, target, anchor = (
            match.group(1),
            posixpath.normpath(posixpath.join(folder, match.group(2))),
            match.group(3),
        )
        if target.startswith("docs/") and not target.endswith(".py"):
            return f"[{text}]({posixpath.relpath(target.removeprefix('docs/'), start)}{anchor or ''})"
        if target.startswith("kmtalk/") and target.endswith(".py"):
            return f"[{text}]({posixpath.relpath('explanation/architecture.md', start)}#{target})"
        return text

    return LINK.sub(adapted, (ROOT / path).read_text(encoding="utf-8"))


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table; columns that are empty in all rows are left out."""
    lines = [head, *rows]
    used = [i for i in range(len(head)) if any(row[i] for row in lines[1:])]
    text = ["| " + " | ".join(row[i].replace("|", "\\|") for i in used) + " |" for row in lines]
    return "\n".join([text[0], "|" + " --- |" * len(used), *text[1:]]) + "\n"


GENERATORS: dict[str, Callable[..., str]] = {
    "cli": command_line,
    "fields": fields_of,
    "columns": manifest_columns,
    "formats": output_formats,
    "modules": modules,
    "shapes": shapes,
}
