"""kmtalk export, view and compare."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from kmtalk.cli.options import Bake, Formats, Quality, Size, video_size
from kmtalk.cli.screen import Json, Quiet, check_no_input, session
from kmtalk.errors import InputError

Held = Annotated[Path, typer.Argument(help="animation.npz that kmtalk wrote.", show_default=False)]


def export(
    animation: Held,
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
    with session(quiet, as_json) as screen:
        from kmtalk.animation import FOLDER, check_output, load_animation
        from kmtalk.exchange.formats import named
        from kmtalk.output import check_writable

        pixels = video_size(size, quality)
        check_output(output)
        written = {f.name for f in named(formats or FOLDER)}
        check_no_input(output, animation)
        if "npz" in written:
            check_no_input(output / "animation.npz", animation)
        check_writable(output)
        with screen.stage("read"):
            held = load_animation(animation)
        screen.wrote(held.save(output, formats, False, pixels, quality, bake, screen))


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
    with session(quiet, as_json) as screen:
        from kmtalk.animation import check_output
        from kmtalk.exchange.formats import named
        from kmtalk.output import check_writable
        from kmtalk.pipeline import KMTalk

        pixels = video_size(size, quality)
        check_output(output)
        named(formats or "mp4")
        check_no_input(output, motion, template, speech)
        check_writable(output)
        held = KMTalk(warn=screen.say, progress=screen).wear(motion, template, speech, fps, landmarks)
        screen.wrote(held.save(output, formats, True, pixels, quality, bake, screen))


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
    with session(quiet, as_json) as screen:
        from kmtalk.animation import load_animation, page_of_glb
        from kmtalk.output import check_writable, finished

        target = output or animation.with_suffix(".html")
        if target.suffix.lower() != ".html":
            raise InputError(f"{target}: -o takes a file ending in .html")
        check_no_input(target, animation, sound)
        check_writable(target)
        if animation.suffix.lower() == ".npz":
            if sound is not None:
                raise InputError(f"{animation}: has its own sound; --sound is for a .glb")
            load_animation(animation).save(target, progress=screen)
        else:
            beside = animation.parent / "speech.wav"
            with finished(target) as temporary:
                page_of_glb(animation, sound or (beside if beside.is_file() else None), temporary)
        screen.wrote([target])
        if browser and not as_json and sys.stdout.isatty():
            typer.launch(target.resolve().as_uri())


def compare(
    first: Held,
    second: Annotated[Path, typer.Argument(help="Another animation.npz of the same mesh.", show_default=False)],
    output: Annotated[Path, typer.Option("-o", "--output", help="Video to write (.mp4).")] = Path("compare.mp4"),
    most: Annotated[float, typer.Option(help="Millimetres that the heat map shows as hottest.")] = 5.0,
    size: Annotated[str, typer.Option(help="Size of each of the three pictures, in pixels.")] = "400",
    quality: Quality = "draft",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Film two animations side by side, with a third face coloured by how far apart they are, and say it in mm."""
    with session(quiet, as_json) as screen:
        from kmtalk.animation import load_animation
        from kmtalk.output import check_writable, finished
        from kmtalk.render.compare import difference, render_comparison

        pixels = video_size(size, quality)
        if output.suffix.lower() != ".mp4":
            raise InputError(f"{output}: -o takes a file ending in .mp4")
        if not 0 < most < 1000:
            raise InputError(f"--most {most:g}: give millimetres, more than 0")
        check_no_input(output, first, second)
        check_writable(output)
        with screen.stage("read"):
            a, b = load_animation(first), load_animation(second)
        found = difference(a.motion, b.motion, (str(first), str(second)))
        names = (first.name, second.name) if first.name != second.name else (str(first), str(second))
        with finished(output) as temporary, screen.stage("render", len(a.motion)) as advance:
            render_comparison(a.motion, b.motion, a.audio, temporary, names, most, pixels, quality, advance)
        for line in found.lines():
            screen.print(line)
        screen.summary |= found.facts()
        screen.wrote([output])
