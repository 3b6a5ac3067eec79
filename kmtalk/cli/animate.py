"""kmtalk animate and align."""

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
    Speech,
    Text,
    TextGrid,
    Video,
    Whisper,
    parse_video_size,
    read_text_option,
)
from kmtalk.errors import InputError


def animate(
    speech: Speech,
    template: Annotated[
        Path | None, typer.Option(help="Any face mesh, or a fitted .kmrig; the default head if left out.")
    ] = None,
    landmarks: Landmarks = None,
    output: Output = None,
    whisper: Whisper = "base",
    language: Language = None,
    text: Text = None,
    textgrid: TextGrid = None,
    aligner: Aligner = "auto",
    acoustic: Acoustic = None,
    dictionary: Dictionary = None,
    motion: Annotated[str, typer.Option(help="How the mouth is made: network or rules.")] = "network",
    network: Network = None,
    style: Annotated[
        str | None,
        typer.Option(
            help="natural (a real speaker), neutral, clear, relaxed, expressive, population (many speakers), shares "
            "such as clear:0.5,relaxed:0.5, or mean; with --motion rules neutral, clear, relaxed, "
            "expressive, or a number for a random speaker."
        ),
    ] = None,
    intensity: Annotated[str | None, typer.Option(help="Size of the motion: 1.2, or jaw=1.2,lips=0.9.")] = None,
    emotion: Annotated[str, typer.Option(help="none: no corpus here shows any honestly.")] = "none",
    expression: Annotated[
        bool, typer.Option("--expression/--no-expression", help="The layer of brows, lids and head, made by rule.")
    ] = True,
    seed: Seed = 0,
    fps: Fps = 30.0,
    formats: Formats = None,
    bake: Bake = False,
    size: Size = "512",
    quality: Quality = "draft",
    video: Video = True,
    sheet: Annotated[
        Path | None, typer.Option(help="Also write a contact sheet PNG: frames at the first 40 phones.")
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Animate a face: mesh animation, video, TextGrid and key frames from speech."""
    with run_command(quiet, as_json) as screen:
        from kmtalk.animation import check_output_path
        from kmtalk.exchange.formats import parse_formats
        from kmtalk.output import check_writable

        if emotion != "none":
            raise InputError(f"--emotion {emotion}: these weights know no emotion; none is the only one")
        pixels = parse_video_size(size, quality)
        target = output or speech.parent / f"{speech.stem}-kmtalk"
        check_output_path(target)
        if formats is not None:
            parse_formats(formats)
        if sheet and sheet.suffix.lower() != ".png":
            raise InputError(f"{sheet}: a contact sheet is written as .png")
        for path in (target, sheet):
            if path is not None:
                check_not_an_input(path, speech, template, landmarks, textgrid, text, acoustic, dictionary)
                check_writable(path)
        check_not_an_input(target / "speech.wav", speech)
        with screen.stage("load"):
            from kmtalk.pipeline import KMTalk

        talk = KMTalk(whisper, aligner, acoustic, dictionary, network, warn=screen.log, progress=screen)
        animation = talk.animate(
            speech,
            template,
            landmarks=landmarks,
            text=read_text_option(text),
            textgrid=textgrid,
            fps=fps,
            language=language,
            motion=motion,
            style=style,
            intensity=intensity,
            expression=expression,
            seed=seed,
        )
        written = animation.save(target, formats, video, pixels, quality, bake, screen)
        if sheet is not None:
            animation.save_contact_sheet(sheet)
            written.append(sheet)
        screen.summary |= {
            "frames": len(animation.motion),
            "fps": animation.fps,
            "seconds": round(animation.audio.duration, 3),
            "phones": len(animation.alignment.phones),
            "alignment": animation.alignment.status,
        }
        screen.report_written(written)


def align(
    speech: Speech,
    output: Annotated[Path, typer.Option("-o", "--output", help="TextGrid to write.")],
    whisper: Whisper = "base",
    language: Language = None,
    text: Text = None,
    aligner: Aligner = "auto",
    acoustic: Acoustic = None,
    dictionary: Dictionary = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Find words and phones: writes a TextGrid that Praat and MFA read."""
    with run_command(quiet, as_json) as screen:
        from kmtalk.output import atomic_write, check_writable

        if output.suffix.lower() != ".textgrid":
            raise InputError(f"{output}: -o takes a file ending in .TextGrid")
        check_not_an_input(output, speech, text, acoustic, dictionary)
        check_writable(output)
        with screen.stage("load"):
            from kmtalk.pipeline import KMTalk
            from kmtalk.speech.alignment import write_textgrid

        said: list[str] = []
        talk = KMTalk(whisper, aligner, acoustic, dictionary, warn=said.append, progress=screen)
        audio, alignment = talk.align(speech, text=read_text_option(text), language=language)
        if alignment.status == "uniform":
            raise InputError(f"{speech}: no phones to write ({alignment.aligner})")
        for line in said:
            screen.log(line)
        with atomic_write(output) as temporary:
            write_textgrid(alignment, temporary, audio.duration)
        screen.report_written([output])
