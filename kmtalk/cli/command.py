"""Commands: functions whose settings become options, and whose errors become one line."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import typer
from pydantic import BeforeValidator
from pydantic.fields import FieldInfo

from kmtalk.cli.console import CommandOutput, run_command
from kmtalk.settings import Settings

Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="No progress bars and no names of files; warnings and errors stay.")
]
Json = Annotated[bool, typer.Option("--json", help="Print events as JSON lines on stderr and a summary on stdout.")]

OUTPUT_PARAMETERS = ("output", "contact_sheet", "cache")
"""Parameters of commands that name what is written. All others may name inputs."""


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Make a typer command of a function whose first parameter is a `CommandOutput`.

    A parameter annotated with a `Settings` class becomes one option per field, with the field's description as help;
    text may come from the environment variable that `envvar` in the field's `json_schema_extra` names.
    --quiet and --json are added. An InputError ends the command with one line on stderr and exit code 2.
    """
    signature = inspect.signature(function, eval_str=True)
    parameters: list[inspect.Parameter] = []
    settings: dict[str, type[Settings]] = {}
    for name, parameter in list(signature.parameters.items())[1:]:
        if inspect.isclass(parameter.annotation) and issubclass(parameter.annotation, Settings):
            settings[name] = parameter.annotation
            parameters += [_option(*field) for field in parameter.annotation.model_fields.items()]
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
    parameters += [_keyword("quiet", Quiet, False), _keyword("as_json", Json, False)]

    def run(**values: Any) -> None:
        with run_command(values.pop("quiet"), values.pop("as_json")) as output:
            output.inputs = [file for name, value in values.items() for file in _files(name, value)]
            for name, model in settings.items():
                given = {field: values.pop(field) for field in model.model_fields}
                values[name] = model.create(**{k: v for k, v in given.items() if v is not None})
            function(output, **values)

    run.__name__, run.__doc__, run.__module__ = function.__name__, function.__doc__, function.__module__
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def _files(name: str, value: Any) -> list[str | Path]:
    """The files that the value of an argument may name, unless they are outputs; also NAME=FILE, and lists of them."""
    if name in OUTPUT_PARAMETERS or not isinstance(value, str | Path | list | tuple):
        return []
    several = value if isinstance(value, list | tuple) else [value]
    return [file for item in several for file in (item, str(item).partition("=")[2]) if file]


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _option(name: str, field: FieldInfo) -> inspect.Parameter:
    """The option of a setting: numbers, switches and text as they are, mappings as text that may be given more than
    once, all other types as optional text."""
    kind = field.annotation
    if get_origin(kind) in (Union, types.UnionType) and set(get_args(kind)) == {str, type(None)}:
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        variable = str(extra["envvar"]) if "envvar" in extra else None
        option = typer.Option(help=field.description, envvar=variable)
        return _keyword(name, Annotated[str | None, option], None)
    if isinstance(field.default, dict):
        return _keyword(
            name, Annotated[list[str] | None, typer.Option(help=field.description, show_default=False)], None
        )
    if kind is float and any(isinstance(check, BeforeValidator) for check in field.metadata):  # not only numbers
        return _keyword(name, Annotated[str, typer.Option(help=field.description)], f"{field.default:g}")
    if kind in (bool, int, float, str):
        return _keyword(name, Annotated[kind, typer.Option(help=field.description)], field.default)
    if isinstance(field.default, str):
        return _keyword(name, Annotated[str, typer.Option(help=field.description)], field.default)
    return _keyword(name, Annotated[str | None, typer.Option(help=field.description, show_default=False)], None)


__all__ = ["CommandOutput", "command"]
