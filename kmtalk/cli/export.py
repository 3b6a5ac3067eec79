"""kmtalk export, view and compare."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from kmtalk.cli.console import Json, Quiet, check_not_an_input, run_command
from kmtalk.cli.options import Bake, Formats, Quality, Size, parse_video_size
from kmtalk.errors import InputError

AnimationFile = Annotated[Path, typer.Argument(help="animation.npz that kmtalk wrote.", show_default=False)]


def export(
    animation: AnimationFile,
    output: Annotated[Path, typer.Option("-o", "--output", help="File, its format by its name's end, or a folder.")],
    formats: Formats = None,
    bake: Bake = False,
    size: Size = "512",
    quality: Quality = "draft",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write an animation in another format: .glb, .usd, .abc, .pc2, .mdd, face.####.obj, .csv and .json (ARKit),
    .ovr.json, .rhubarb.json, .tsv, .f16.npz, .html, .mp4. A folder also gets sound, phones, keys and a script for
    Blender."""
    with run_command(quiet, as_json) as screen:
        from kmtalk.animation import DEFAULT_FOLDER_FORMATS, check_output_path, load_animation
        from kmtalk.exchange.formats import parse_formats
        from kmtalk.output import check_writable

        pixels = parse_video_size(size, quality)
        check_output_path(output)
        written = {f.name for f in parse_formats(formats or DEFAULT_FOLDER_FORMATS)}
        check_not_an_input(output, animation)
        if "npz" in written:
            check_not_an_input(output / "animation.npz", animation)
        check_writable(output)
        with screen.stage("read"):
            held = load_animation(animation)
        screen.report_written(held.save(output, formats, False, pixels, quality, bake, screen))


def render(
    motion: Annotated[
        Path,
        typer.Argument(
            help=".npy of vertices by frame: kmtalk evaluate -o leaves them, and other systems.", show_default=False
        ),
    ],
    template: Annotated[Path, typer.Option(help="The neutral mesh they are of, in their vertex order.")],
    speech: Annotated[Path, typer.Option(help="Their sound.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="File, its format by its name's end, or a folder.")],
    fps: Annotated[float | None, typer.Option(help="Frames per second; by default told by the sound's length.")] = None,
    landmarks: Annotated[Path | None, typer.Option(help="Points on the mesh, where no face is found on it.")] = None,
    formats: Formats = None,
    bake: Bake = False,
    size: Size = "512",
    quality: Quality = "draft",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Film vertices by frame, or write them in any format that export knows."""
    with run_command(quiet, as_json) as screen:
        from kmtalk.animation import check_output_path
        from kmtalk.exchange.formats import parse_formats
        from kmtalk.output import check_writable
        from kmtalk.pipeline import KMTalk

        pixels = parse_video_size(size, quality)
        check_output_path(output)
        parse_formats(formats or "mp4")
        check_not_an_input(output, motion, template, speech)
        check_writable(output)
        held = KMTalk(warn=screen.log, progress=screen).from_vertices(motion, template, speech, fps, landmarks)
        screen.report_written(held.save(output, formats, True, pixels, quality, bake, screen))


def view(
    animation: Annotated[Path, typer.Argument(help="animation.npz or any .glb.", show_default=False)],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Page to write (default: beside the animation, .html).")
    ] = None,
    sound: Annotated[
        Path | None, typer.Option(help="Sound of a .glb (default: speech.wav beside it, if there is one).")
    ] = None,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page, where somebody looks on.")
    ] = True,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Make a page that plays the face with its sound, by itself, with nothing to load: timeline, camera, sliders."""
    with run_command(quiet, as_json) as screen:
        from kmtalk.animation import load_animation, write_glb_page
        from kmtalk.output import atomic_write, check_writable

        target = output or animation.with_suffix(".html")
        if target.suffix.lower() != ".html":
            raise InputError(f"{target}: -o takes a file ending in .html")
        check_not_an_input(target, animation, sound)
        check_writable(target)
        if animation.suffix.lower() == ".npz":
            if sound is not None:
                raise InputError(f"{animation}: has its own sound; --sound is for a .glb")
            load_animation(animation).save(target, progress=screen)
        else:
            beside = animation.parent / "speech.wav"
            with atomic_write(target) as temporary:
                write_glb_page(animation, sound or (beside if beside.is_file() else None), temporary)
        screen.report_written([target])
        if browser and not as_json and sys.stdout.isatty():
            typer.launch(target.resolve().as_uri())


def compare(
    first: AnimationFile,
    second: Annotated[Path, typer.Argument(help="Another animation.npz of the same mesh.", show_default=False)],
    output: Annotated[Path, typer.Option("-o", "--output", help="Video to write (.mp4).")] = Path("compare.mp4"),
    most: Annotated[float, typer.Option(help="Millimetres that the heat map shows as hottest.")] = 5.0,
    size: Annotated[str, typer.Option(help="Size of each of the three pictures, in pixels.")] = "400",
    quality: Quality = "draft",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Film two animations side by side, with a third face coloured by how far apart they are, and say it in mm."""
    with run_command(quiet, as_json) as screen:
        from kmtalk.animation import load_animation
        from kmtalk.output import atomic_write, check_writable
        from kmtalk.render.comparison import compare_motions, render_comparison

        pixels = parse_video_size(size, quality)
        if output.suffix.lower() != ".mp4":
            raise InputError(f"{output}: -o takes a file ending in .mp4")
        if not 0 < most < 1000:
            raise InputError(f"--most {most:g}: give millimetres, more than 0")
        check_not_an_input(output, first, second)
        check_writable(output)
        with screen.stage("read"):
            a, b = load_animation(first), load_animation(second)
        found = compare_motions(a.motion, b.motion, (str(first), str(second)))
        names = (first.name, second.name) if first.name != second.name else (str(first), str(second))
        with atomic_write(output) as temporary, screen.stage("render", len(a.motion)) as advance:
            render_comparison(a.motion, b.motion, a.audio, temporary, names, most, pixels, quality, advance)
        for line in found.summary_lines():
            screen.print(line)
        screen.summary |= found.to_dict()
        screen.report_written([output])
