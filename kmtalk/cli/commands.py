"""The commands; one module per group of commands."""

from __future__ import annotations

from typing import Annotated

import typer

from kmtalk import __version__
from kmtalk.cli import (
    animate,
    batch,
    corpus,
    doctor,
    evaluate,
    export,
    fit,
    joint,
    keys,
    listen,
    live,
    serve,
    speak,
    train,
)

typer_app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help="Speech in, a talking 3D face out.")
typer_app.command()(animate.animate)
typer_app.command()(speak.speak)
typer_app.command()(animate.align)
typer_app.command()(listen.listen)
typer_app.command()(listen.dialogue)
typer_app.command()(joint.fill)
typer_app.command()(joint.voice)
typer_app.command()(fit.fit)
typer_app.command()(keys.keys)
typer_app.command()(keys.complete)
typer_app.command()(export.export)
typer_app.command()(export.render)
typer_app.command()(export.view)
typer_app.command()(export.compare)
typer_app.command()(live.live)
typer_app.command()(serve.serve)
typer_app.command()(batch.batch)
typer_app.command()(doctor.doctor)
typer_app.add_typer(corpus.app, name="corpus")
typer_app.add_typer(evaluate.app, name="reproduce")
typer_app.command()(train.train)
typer_app.command()(evaluate.evaluate)


@typer_app.callback(invoke_without_command=True)
def _main(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    if version:
        print(f"kmtalk {__version__}")
        raise typer.Exit
