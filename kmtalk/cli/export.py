"""kmtalk export, render, view and compare."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from kmtalk.cli.command import command
from kmtalk.cli.console import CommandOutput
from kmtalk.cli.options import AnimationFile, RequiredOutput, read_frame_rate
from kmtalk.errors import InputError
from kmtalk.progress import announce_duration
from kmtalk.settings import ComparisonSettings, ExportSettings


@command
def export(
    console: CommandOutput,
    animation: AnimationFile,
    output: RequiredOutput,
    settings: ExportSettings = ExportSettings(),
) -> None:
    """Write an animation in another format: .glb, .vrm, .vrma, .fbx, .usd, .abc, .pc2, .mdd, face.####.obj, .csv, .json
    and .a2f.json (ARKit), .anim and .curves.json (all shapes), .ovr.json, .rhubarb.json, .tsv, .f16.npz, .html, .mp4. A
    folder also gets sound, phones, keys and a Blender script, and no video unless --formats names it."""
    from kmtalk.animation import check_save, has_video, load_animation
    from kmtalk.render.video import start_opengl_check

    if settings.formats is None:
        settings = ExportSettings.create(settings, video=False)
    check_save(output, settings, console.inputs)
    check_opengl = start_opengl_check(has_video(output, settings))
    with console.stage("read"):
        loaded = load_animation(animation)
        check_opengl()
    console.report_written(loaded.save(output, settings, progress=console))


@command
def render(
    console: CommandOutput,
    motion: Annotated[
        Path,
        typer.Argument(
            help="Vertices by frame (.npy), as kmtalk evaluate -o and other systems write them.", show_default=False
        ),
    ],
    template: Annotated[Path, typer.Option(help="The neutral mesh, in the same vertex order.", show_default=False)],
    speech: Annotated[Path, typer.Option(help="The sound.", show_default=False)],
    output: RequiredOutput,
    fps: Annotated[str | None, typer.Option(help="Frames per second (default: from the sound's length).")] = None,
    landmarks: Annotated[Path | None, typer.Option(help="Landmarks of the mesh, where no face is detected.")] = None,
    settings: ExportSettings = ExportSettings(),
) -> None:
    """Render vertices by frame as a video, or write them in any format of kmtalk export."""
    from kmtalk.animation import check_formats_of_vertices, check_save, folder_formats, format_from_path, has_video
    from kmtalk.render.video import start_opengl_check

    rate = read_frame_rate("--fps", fps)
    check_save(output, settings, console.inputs)
    file_format = format_from_path(output)
    check_formats_of_vertices(output, [file_format] if file_format else folder_formats(settings))
    check_opengl = start_opengl_check(has_video(output, settings))
    with console.stage("load"):
        from kmtalk.pipeline import KMTalk

        check_opengl()
    animation = KMTalk(warn=console.log, progress=console).from_vertices(motion, template, speech, rate, landmarks)
    console.report_written(animation.save(output, settings, progress=console))


@command
def view(
    console: CommandOutput,
    animation: Annotated[Path, typer.Argument(help="An animation.npz or any .glb.", show_default=False)],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Page to write (default: beside the animation, .html).")
    ] = None,
    audio: Annotated[
        Path | None, typer.Option(help="Sound of a .glb (default: speech.wav beside it, if there is one).")
    ] = None,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in a browser, from a terminal.")
    ] = True,
) -> None:
    """Write a self-contained web page that plays the face with its sound: timeline, camera, sliders."""
    from kmtalk.animation import load_animation, write_glb_page
    from kmtalk.output import atomic_write

    output = output or animation.with_suffix(".html")
    if output.suffix.lower() != ".html":
        raise InputError(f"{output}: -o takes a file ending in .html")
    console.check_outputs(output)
    if animation.suffix.lower() == ".npz":
        if audio is not None:
            raise InputError(f"{animation}: contains its sound; --audio is for a .glb")
        load_animation(animation).save(output, progress=console)
    else:
        beside = animation.parent / "speech.wav"
        with atomic_write(output) as temporary:
            notes = write_glb_page(animation, audio or (beside if beside.is_file() else None), temporary)
        for line in notes:
            console.log(line)
    console.report_written([output])
    if browser and not console.as_json and sys.stdout.isatty():
        typer.launch(output.resolve().as_uri())


@command
def compare(
    console: CommandOutput,
    first: AnimationFile,
    second: Annotated[Path, typer.Argument(help="Another animation.npz of the same mesh.", show_default=False)],
    output: Annotated[Path, typer.Option("-o", "--output", help="Video to write (.mp4).")] = Path("compare.mp4"),
    max_distance: Annotated[float, typer.Option(help="Distance in mm of the heat map's hottest colour.")] = 5.0,
    settings: ComparisonSettings = ComparisonSettings(),
) -> None:
    """Render two animations side by side with a heat map of their distance, and print the distances in mm."""
    from kmtalk.animation import load_animation
    from kmtalk.output import atomic_write
    from kmtalk.render.comparison import compare_motions, render_comparison
    from kmtalk.render.video import start_opengl_check

    if output.suffix.lower() != ".mp4":
        raise InputError(f"{output}: -o takes a file ending in .mp4")
    if not 0 < max_distance < 1000:
        raise InputError(f"--max-distance {max_distance:g}: give millimetres, more than 0")
    console.check_outputs(output)
    check_opengl = start_opengl_check(True)
    with console.stage("read"):
        a, b = load_animation(first), load_animation(second)
        check_opengl()
    difference = compare_motions(a.motion, b.motion, (str(first), str(second)))
    names = (first.name, second.name) if first.name != second.name else (str(first), str(second))
    with atomic_write(output) as temporary, console.stage("render", len(a.motion)) as advance:
        if settings.quality == "high":
            advance = announce_duration(console, "rendering {} frames", len(a.motion), advance)
        render_comparison(a.motion, b.motion, a.audio, temporary, names, max_distance, settings, advance)
    for line in difference.summary_lines():
        console.print(line)
    console.summary |= difference.to_dict()
    console.report_written([output])
