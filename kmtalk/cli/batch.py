"""kmtalk batch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kmtalk.cli.console import Json, Quiet, run_command
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
    parse_video_size,
)


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
    with run_command(quiet, as_json) as screen:
        from kmtalk.batch.jobs import JobSettings, collect_jobs
        from kmtalk.batch.runner import LOG_NAME, run_batch

        recipe = JobSettings(
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
            size=parse_video_size(size, quality),
            quality=quality,
        )
        tally = run_batch(collect_jobs(source, output), recipe, output, jobs, ray, screen, screen.log)
        screen.summary |= {"done": tally.completed, "skipped": tally.skipped, "failed": tally.failed}
        screen.report_written([output / LOG_NAME])
        if not quiet:
            screen.print(f"{tally.completed} done, {tally.skipped} done before, {tally.failed} failed")
        screen.exit_code = 1 if tally.failed else 0
