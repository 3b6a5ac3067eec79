"""kmtalk corpus, train and evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kmtalk.cli.screen import Json, Quiet, session
from kmtalk.errors import InputError

corpus = typer.Typer(no_args_is_help=True, help="Make corpora to train on.")


@corpus.command()
def build(
    kind: Annotated[str, typer.Argument(help="simulated: many voices with the simulated speaker's motion.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to make.")],
    clips: Annotated[int, typer.Option(min=1, help="About how many clips.")] = 1400,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Make a corpus from what voices are installed (data/README.md tells which there are)."""
    with session(quiet, as_json) as screen:
        from kmtalk.corpora.simulated import build as build_simulated
        from kmtalk.face.rig import load_rig
        from kmtalk.output import finished
        from kmtalk.weights import asset

        if kind != "simulated":
            raise InputError(f"{kind}: no such corpus to build; only simulated is made here")
        if output.exists() and (not output.is_dir() or any(output.iterdir())):
            raise InputError(f"{output}: is there already; give a new folder")
        with finished(output) as temporary:
            temporary.mkdir()
            made = build_simulated(temporary, load_rig(asset("head.safetensors")), clips, seed, screen, screen.say)
        screen.summary |= {"clips": made}
        screen.print(f"{output}: {made} clips, simulated")


def train(
    config: Annotated[Path, typer.Argument(help="YAML config; see data/configs.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for weights, checkpoint and log.")],
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train the network; goes on where a run in the same folder was stopped. For several processes or
    machines: accelerate launch -m kmtalk.cli train CONFIG -o DIR."""
    with session(quiet, as_json) as screen:
        try:
            import accelerate  # noqa: F401
            import pydantic  # noqa: F401
            import tensorboard  # noqa: F401
            import yaml  # noqa: F401
        except ImportError as missing:
            raise InputError(f"training needs {missing.name}: pip install 'kmtalk[train]'") from None
        from kmtalk.face.rig import load_rig
        from kmtalk.output import check_writable
        from kmtalk.training.config import load_config
        from kmtalk.training.corpora import gather
        from kmtalk.training.loop import Trainer
        from kmtalk.weights import asset

        plan, rig = load_config(config), load_rig(asset("head.safetensors"))
        for folder in (output, plan.cache or output):
            if folder.exists() and not folder.is_dir():
                raise InputError(f"{folder}: is a file; a folder is wanted there")
            check_writable(folder / "run")
        clips, judged = gather(plan.corpora, rig, screen)
        screen.wrote([Trainer(plan, clips, judged, rig, output, screen, screen.say).run()])


def evaluate(
    path: Annotated[Path, typer.Argument(help="The corpus's folder.")],
    corpus_name: Annotated[str, typer.Option("--corpus", help="grid: real lips, tracked.")] = "grid",
    network: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=FILE of further trained weights, each a row; names that end in -1, -2 … are seeds of one."
        ),
    ] = None,
    given: Annotated[bool, typer.Option("--given-phones", help="True phones instead of own transcription.")] = False,
    cache: Annotated[Path | None, typer.Option(help="Folder that keeps transcriptions and features.")] = None,
    clips: Annotated[int | None, typer.Option(min=2, help="Only so many clips.")] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Score mouths against real lips: baselines, rules, the shipped network and further ones, by rows."""
    with session(quiet, as_json) as screen:
        if corpus_name != "grid":
            raise InputError(f"--corpus {corpus_name}: only grid can be evaluated on yet")
        from kmtalk.evaluate import evaluate_grid

        for line in evaluate_grid(path, network or [], given, cache, clips, screen, screen.say):
            screen.print(line)
            screen.summary.setdefault("rows", []).append(line)
