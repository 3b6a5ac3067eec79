"""kmtalk animate and align."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kmtalk.cli.command import command
from kmtalk.cli.console import CommandOutput
from kmtalk.cli.options import Landmarks, Network, Output, Speech, Template, Text, TextGrid, Tier, read_text_option
from kmtalk.cli.output_checks import check_character_output
from kmtalk.errors import InputError
from kmtalk.settings import AnimationSettings, CharacterSettings, ExportSettings, RecognitionSettings, SoundSettings


@command
def animate(
    console: CommandOutput,
    speech: Speech,
    template: Template = None,
    landmarks: Landmarks = None,
    character: CharacterSettings = CharacterSettings(),
    output: Output = None,
    text: Text = None,
    textgrid: TextGrid = None,
    tier: Tier = None,
    sound: SoundSettings = SoundSettings(),
    recognition: RecognitionSettings = RecognitionSettings(),
    network: Network = None,
    settings: AnimationSettings = AnimationSettings(),
    export: ExportSettings = ExportSettings(),
    contact_sheet: Annotated[
        Path | None, typer.Option(help="Write a contact sheet as well: a PNG with the mouth at the first 40 phones.")
    ] = None,
) -> None:
    """Animate a face from speech: mesh animation, video, TextGrid and key frames."""
    from kmtalk.animation import check_save, has_video
    from kmtalk.render.video import start_opengl_check

    output = output or speech.parent / f"{speech.stem}-kmtalk"
    check_save(output, export, console.inputs)
    check_character_output(output, export, template, settings.fps)
    if contact_sheet and contact_sheet.suffix.lower() != ".png":
        raise InputError(f"{contact_sheet}: a contact sheet is written as .png")
    console.check_outputs(contact_sheet)
    check_opengl = start_opengl_check(has_video(output, export) or contact_sheet is not None)
    with console.stage("load"):
        from kmtalk.pipeline import KMTalk

        check_opengl()
    talk = KMTalk(recognition, network=network, warn=console.log, inform=console.announce, progress=console)
    animation = talk.animate(
        speech,
        template,
        landmarks=landmarks,
        character=character,
        text=read_text_option(text),
        textgrid=textgrid,
        tier=tier,
        sound=sound,
        settings=settings,
    )
    written = animation.save(output, export, progress=console)
    if contact_sheet is not None:
        animation.save_contact_sheet(contact_sheet)
        written.append(contact_sheet)
    console.summary |= {
        "frames": len(animation.motion),
        "fps": animation.fps,
        "seconds": round(animation.audio.duration, 3),
        "phones": len(animation.alignment.phones),
        "alignment": animation.alignment.status,
    }
    console.report_written(written)


@command
def align(
    console: CommandOutput,
    speech: Speech,
    output: Annotated[Path, typer.Option("-o", "--output", help="TextGrid to write.", show_default=False)],
    text: Text = None,
    sound: SoundSettings = SoundSettings(),
    recognition: RecognitionSettings = RecognitionSettings(),
    language: Annotated[
        str | None, typer.Option(help=AnimationSettings.model_fields["language"].description, show_default=False)
    ] = None,
) -> None:
    """Find words and phones: writes a TextGrid that Praat and MFA read."""
    from kmtalk.output import atomic_write

    if output.suffix.lower() != ".textgrid":
        raise InputError(f"{output}: -o takes a file ending in .TextGrid")
    console.check_outputs(output)
    with console.stage("load"):
        from kmtalk.pipeline import KMTalk
        from kmtalk.speech.alignment import write_textgrid

    warnings: list[str] = []
    talk = KMTalk(recognition, warn=warnings.append, progress=console)
    audio, alignment = talk.align(speech, text=read_text_option(text), language=language, sound=sound)
    if alignment.status == "uniform":
        raise InputError(f"{speech}: no phones to write ({alignment.aligner})")
    for line in warnings:
        console.log(line)
    with atomic_write(output) as temporary:
        write_textgrid(alignment, temporary, audio.duration)
    console.report_written([output])
