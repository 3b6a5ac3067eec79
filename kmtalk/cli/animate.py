"""kmtalk animate and align."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kmtalk.cli.animation_output import check_animation_output, write_animation_output
from kmtalk.cli.command import command
from kmtalk.cli.console import CommandOutput
from kmtalk.cli.options import (
    ContactSheet,
    JointWeights,
    Landmarks,
    Network,
    Output,
    Speech,
    Template,
    Text,
    TextGrid,
    Tier,
    check_joint_weights,
    read_text_option,
)
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
    joint: JointWeights = None,
    settings: AnimationSettings = AnimationSettings(),
    export: ExportSettings = ExportSettings(),
    contact_sheet: ContactSheet = None,
) -> None:
    """Animate a face from speech: mesh animation, video, TextGrid and key frames."""
    check_joint_weights(joint, settings.motion == "flow", "--motion flow")
    output = output or speech.parent / f"{speech.stem}-kmtalk"
    check_opengl = check_animation_output(console, output, template, settings, export, contact_sheet)
    with console.stage("load"):
        from kmtalk.pipeline import KMTalk

        check_opengl()
    talk = KMTalk(
        recognition, network=network, joint=joint, warn=console.log, inform=console.announce, progress=console
    )
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
    write_animation_output(console, animation, output, export, contact_sheet)


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
