"""kmtalk train."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kmtalk.cli.command import command
from kmtalk.cli.console import CommandOutput
from kmtalk.errors import InputError

if TYPE_CHECKING:
    from kmtalk.training.loop import TrainingLoop


@command
def train(
    console: CommandOutput,
    config: Annotated[Path, typer.Argument(help="YAML config; see data/configs.", show_default=False)],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder for weights, checkpoint and log.", show_default=False)
    ],
    path: Annotated[
        Path | None, typer.Option(help="Folder of the corpus, which replaces the path of the config's only corpus.")
    ] = None,
) -> None:
    """Train the network; resumes a run in the same folder. For several processes or machines:
    accelerate launch -m kmtalk.cli train CONFIG -o DIR."""
    try:
        import accelerate  # noqa: F401
        import pydantic  # noqa: F401
        import tensorboard  # noqa: F401
        import yaml  # noqa: F401
    except ImportError as error:
        raise InputError(f"training needs {error.name}: pip install 'kmtalk[train]'") from None
    from kmtalk.output import check_writable
    from kmtalk.training.config import load_config, load_yaml
    from kmtalk.training.data import prepare_task
    from kmtalk.training.trainer import Trainer

    kinds = load_yaml(config)
    if "coupling" in kinds or "look_ahead" in kinds:
        _train_on_joint_corpus(console, config, output, path, "look_ahead" in kinds)
        return
    settings = load_config(config)
    if path is not None:
        if len(settings.corpora) != 1:
            raise InputError(f"{config}: has {len(settings.corpora)} corpora; --path is for a config with one")
        corpus = settings.corpora[0].model_copy(update={"path": path})
        settings = settings.model_copy(update={"corpora": (corpus,)})
    for folder in (output, settings.feature_cache or output):
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder}: is a file; a folder is needed there")
        check_writable(folder / "run")
    task = prepare_task(settings, output, console)
    console.report_written([Trainer(settings, task, output, console, console.log).run()])


def _train_on_joint_corpus(
    console: CommandOutput, config: Path, output: Path, path: Path | None, streams: bool
) -> None:
    """Train the joint model of sound and face, or the streaming network."""
    from kmtalk.face.rig import load_light_head
    from kmtalk.output import check_writable

    prepare: Callable[..., TrainingLoop]
    settings: Any
    if streams:
        from kmtalk.streaming.training import load_streaming_config, prepare_streaming_training

        settings, prepare = load_streaming_config(config), prepare_streaming_training
    else:
        from kmtalk.joint.training import load_joint_config, prepare_joint_training

        settings, prepare = load_joint_config(config), prepare_joint_training
    if path is not None:
        settings = settings.model_copy(update={"corpus": path})
    if output.exists() and not output.is_dir():
        raise InputError(f"{output}: is a file; a folder is needed there")
    check_writable(output / "run")
    console.report_written([prepare(settings, load_light_head(), output, console, console.log).run()])
