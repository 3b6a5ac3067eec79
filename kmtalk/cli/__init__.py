"""The kmtalk command; one module per group of commands."""

from __future__ import annotations

from typing import Annotated

import typer

from kmtalk import __version__
from kmtalk.cli import animate, batch, corpus, doctor, evaluate, export, fit, keys, train

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help="Speech in, a talking 3D face out.")
app.command()(animate.animate)
app.command()(animate.align)
app.command()(fit.fit)
app.command()(keys.keys)
app.command()(keys.complete)
app.command()(export.export)
app.command()(export.render)
app.command()(export.view)
app.command()(export.compare)
app.command()(batch.batch)
app.command()(doctor.doctor)
app.add_typer(corpus.app, name="corpus")
app.add_typer(evaluate.app, name="reproduce")
app.command()(train.train)
app.command()(evaluate.evaluate)


@app.callback(invoke_without_command=True)
def _main(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    if version:
        print(f"kmtalk {__version__}")
        raise typer.Exit
