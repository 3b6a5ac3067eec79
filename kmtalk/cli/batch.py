"""kmtalk batch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kmtalk.cli.command import command
from kmtalk.cli.console import CommandOutput
from kmtalk.cli.options import JointWeights, Landmarks, Network, Template
from kmtalk.settings import AnimationSettings, ExportSettings, RecognitionSettings, SoundSettings


@command
def batch(
    console: CommandOutput,
    source: Annotated[
        Path,
        typer.Argument(help="Folder of sound files, or a manifest: .csv, .json or .jsonl.", show_default=False),
    ],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", help="Folder: one folder per clip, and batch.jsonl.", show_default=False),
    ],
    jobs: Annotated[int | None, typer.Option(min=1, help="Number of processes (default: one per CPU).")] = None,
    ray: Annotated[
        str | None, typer.Option(help="Use a Ray cluster: its address, auto, or local to start one here.")
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            help="Do only the part K of N, such as 2/8: another machine does each of the others.", show_default=False
        ),
    ] = None,
    template: Template = None,
    landmarks: Landmarks = None,
    sound: SoundSettings = SoundSettings(),
    recognition: RecognitionSettings = RecognitionSettings(),
    network: Network = None,
    joint: JointWeights = None,
    settings: AnimationSettings = AnimationSettings(),
    export: ExportSettings = ExportSettings(),
) -> None:
    """Animate many clips on many processes. Run it again to resume: finished clips are skipped, failed ones are tried
    again. clip.txt or clip.TextGrid beside clip.wav are its words or phones. Exit code 1 where clips failed."""
    from kmtalk.animation import DEFAULT_FOLDER_FORMATS
    from kmtalk.batch.jobs import JobSettings, collect_jobs
    from kmtalk.batch.runner import LOG_NAME, Shard, run_batch

    shared = JobSettings(
        sound=sound,
        recognition=recognition,
        animation=settings,
        export=ExportSettings.create(export, formats=export.formats or DEFAULT_FOLDER_FORMATS),
        network=network,
        joint=joint,
        template=template,
        landmarks=landmarks,
    )
    part = None if shard is None else Shard.parse(shard)
    clips = collect_jobs(source, output, console.log)
    summary = run_batch(clips, shared, output, jobs, ray, part, console, console.log)
    counts = {"completed": summary.completed, "skipped": summary.skipped, "failed": summary.failed}
    console.summary |= counts
    log_file = output / (LOG_NAME if part is None else part.name(LOG_NAME))
    console.report_written([log_file] if log_file.is_file() else [])  # a part may have no clips
    if not console.quiet:
        console.print(", ".join(f"{count} {kind}" for kind, count in counts.items()))
    console.exit_code = 1 if summary.failed else 0
