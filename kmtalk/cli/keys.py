"""kmtalk keys and complete."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kmtalk.cli.console import Json, Quiet, check_not_an_input, run_command
from kmtalk.cli.options import (
    Acoustic,
    Aligner,
    Bake,
    Dictionary,
    Formats,
    Fps,
    Landmarks,
    Language,
    Network,
    Output,
    Quality,
    Seed,
    Size,
    Text,
    TextGrid,
    Video,
    Whisper,
    parse_video_size,
    read_text_option,
)
from kmtalk.errors import InputError

Sound = Annotated[Path, typer.Argument(help="Sound or video file, or an animation.npz.", show_default=False)]
Face = Annotated[Path | None, typer.Option("--template", help="Face mesh or .kmrig; the default head if left out.")]


def keys(
    speech: Sound,
    output: Annotated[Path, typer.Option("-o", "--output", help="keys.json to write.")] = Path("keys.json"),
    template: Face = None,
    landmarks: Landmarks = None,
    motion_from: Annotated[
        Path | None,
        typer.Option(
            help="Another system's motion on the same mesh, .npy (N, V, 3) or (N, 3V): its poses become the keys."
        ),
    ] = None,
    motion_fps: Annotated[float | None, typer.Option(help="Its frames per second; by its length if left out.")] = None,
    whisper: Whisper = "base",
    language: Language = None,
    text: Text = None,
    textgrid: TextGrid = None,
    aligner: Aligner = "auto",
    acoustic: Acoustic = None,
    dictionary: Dictionary = None,
    network: Network = None,
    style: Annotated[str | None, typer.Option(help="As for kmtalk animate.")] = None,
    seed: Seed = 0,
    fps: Fps = 30.0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write the key frames with their poses by shape name: move them, change them, then kmtalk complete."""
    with run_command(quiet, as_json) as screen:
        from kmtalk.exchange.keys_json import write_keys
        from kmtalk.output import atomic_write, check_writable

        if output.suffix.lower() != ".json":
            raise InputError(f"{output}: -o takes a file ending in .json")
        check_not_an_input(output, speech, template, landmarks, textgrid, text, acoustic, dictionary, motion_from)
        check_writable(output)
        with screen.stage("load"):
            from kmtalk.pipeline import KMTalk

        talk = KMTalk(whisper, aligner, acoustic, dictionary, network, warn=screen.log, progress=screen)
        if speech.suffix.lower() == ".npz":
            animation = talk.load(speech)
        else:
            animation = talk.animate(
                speech,
                template,
                landmarks=landmarks,
                text=read_text_option(text),
                textgrid=textgrid,
                fps=fps,
                language=language,
                style=style,
                seed=seed,
            )
        if motion_from is not None:
            missed = talk.import_keys(animation, motion_from, motion_fps)
            screen.summary["rms_mm"] = round(missed, 4)
            if not quiet:
                screen.log(f"{motion_from}: {missed:.2f} mm RMS of its motion at the keys are beyond the rig's shapes")
        with atomic_write(output) as temporary:
            write_keys(
                temporary, animation.motion, animation.keys, animation.alignment, animation.provenance, animation.audio
            )
        screen.summary["keys"] = len(animation.keys)
        screen.report_written([output])


def complete(
    keys: Annotated[Path, typer.Argument(help="keys.json, edited.", show_default=False)],
    speech: Sound,
    output: Output = None,
    template: Face = None,
    landmarks: Landmarks = None,
    network: Network = None,
    formats: Formats = None,
    bake: Bake = False,
    size: Size = "512",
    quality: Quality = "draft",
    video: Video = True,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Animate from edited keys: these are met exactly, CMC fills in the rest, and what is far from an edit stays."""
    with run_command(quiet, as_json) as screen:
        from kmtalk.animation import check_output_path
        from kmtalk.exchange.formats import parse_formats
        from kmtalk.output import check_writable

        pixels = parse_video_size(size, quality)
        target = output or speech.parent / f"{speech.stem}-kmtalk"
        check_output_path(target)
        if formats is not None:
            parse_formats(formats)
        check_not_an_input(target, keys, speech, template, landmarks)
        for name in ("keys.json", "speech.wav", "animation.npz"):
            check_not_an_input(target / name, keys, speech)
        check_writable(target)
        with screen.stage("load"):
            from kmtalk.pipeline import KMTalk

        talk = KMTalk(network=network, warn=screen.log, progress=screen)
        read = talk.load_key_edits(keys, speech, template, landmarks)
        animation = talk.complete(read)
        screen.summary |= {
            "keys": len(animation.keys),
            "pinned": int(animation.keys.pinned.sum()),
            **read.keys.edit_counts,
        }
        if not quiet:
            told = ", ".join(f"{count} {what}" for what, count in read.keys.edit_counts.items() if count)
            screen.log(f"{keys}: keys: {told}" if told else f"{keys}: no key was edited")
        screen.report_written(animation.save(target, formats, video, pixels, quality, bake, screen))
