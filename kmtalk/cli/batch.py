"""kmtalk batch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kmtalk.cli.options import (
    Acoustic,
    Aligner,
    Bake,
    Dictionary,
    Fps,
    Landmarks,
    Language,
    Network,
    Quality,
    Seed,
    Size,
    Whisper,
    video_size,
)
from kmtalk.cli.screen import Json, Quiet, session


def batch(
    source: Annotated[
        Path,
        typer.Argument(help="Folder of sound files, or a manifest: .csv, .json or .jsonl.", show_default=False),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder: one folder a clip, and batch.jsonl.")],
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes (default: one a CPU).")] = None,
    ray: Annotated[
        str | None, typer.Option(help="Work on a Ray cluster: its address, auto, or local to start one here.")
    ] = None,
    template: Annotated[Path | None, typer.Option(help="Face mesh or .kmrig for all clips.")] = None,
    landmarks: Landmarks = None,
    whisper: Whisper = "base",
    language: Language = None,
    aligner: Aligner = "auto",
    acoustic: Acoustic = None,
    dictionary: Dictionary = None,
    motion: Annotated[str, typer.Option(help="How the mouth is made: network or rules.")] = "network",
    network: Network = None,
    style: Annotated[str | None, typer.Option(help="As for kmtalk animate.")] = None,
    intensity: Annotated[str | None, typer.Option(help="Size of the motion: 1.2, or jaw=1.2,lips=0.9.")] = None,
    expression: Annotated[
        bool, typer.Option("--expression/--no-expression", help="The layer of brows, lids and head, made by rule.")
    ] = True,
    seed: Seed = 0,
    fps: Fps = 30.0,
    formats: Annotated[str, typer.Option(help="What each clip gets, by commas, as for kmtalk animate.")] = "npz,glb",
    bake: Bake = False,
    size: Size = "512",
    quality: Quality = "draft",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Animate many clips on many processes. Run it again to go on: what is done is skipped, what failed is tried again.
    clip.txt or clip.TextGrid beside clip.wav are its words or phones. Exit code 1 where clips failed."""
    with session(quiet, as_json) as screen:
        from kmtalk.batch.run import LOG, run_batch
        from kmtalk.batch.tasks import Recipe, gather

        recipe = Recipe(
            whisper=whisper,
            aligner=aligner,
            acoustic=acoustic,
            dictionary=dictionary,
            network=network,
            template=template,
            landmarks=landmarks,
            language=language,
            motion=motion,
            style=style,
            intensity=intensity,
            expression=expression,
            seed=seed,
            fps=fps,
            formats=formats,
            bake=bake,
            size=video_size(size, quality),
            quality=quality,
        )
        tally = run_batch(gather(source, output), recipe, output, jobs, ray, screen, screen.say)
        screen.summary |= {"done": tally.done, "skipped": tally.skipped, "failed": tally.failed}
        screen.wrote([output / LOG])
        if not quiet:
            screen.print(f"{tally.done} done, {tally.skipped} done before, {tally.failed} failed")
        screen.code = 1 if tally.failed else 0
