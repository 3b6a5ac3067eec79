"""kmtalk fill and voice: what the joint model of sound and face makes anew in an animation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from kmtalk.cli.animation_output import check_animation_output, write_animation_output
from kmtalk.cli.command import command
from kmtalk.cli.console import CommandOutput
from kmtalk.cli.options import AnimationFile, JointWeights, read_text_option
from kmtalk.settings import AnimationSettings, ExportSettings

Seed = Annotated[int, typer.Option(min=0, help="Seed of the sample: another seed makes another take.")]


@command
def fill(
    console: CommandOutput,
    animation: AnimationFile,
    start: Annotated[float, typer.Option("--from", help="Start of the span in seconds.", show_default=False)],
    stop: Annotated[float, typer.Option("--to", help="End of the span in seconds.", show_default=False)],
    part: Annotated[Literal["both", "face", "sound"], typer.Option(help="What is made anew.")] = "both",
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Folder, or file of a format that kmtalk writes (default: NAME-filled/)."),
    ] = None,
    joint: JointWeights = None,
    seed: Seed = 0,
    export: ExportSettings = ExportSettings(),
) -> None:
    """Make a span of an animation anew, so that it fits what is around it, which stays as it is."""
    from kmtalk.animation import load_animation

    output = output or animation.parent / f"{animation.stem}-filled"
    check_opengl = check_animation_output(console, output, None, AnimationSettings(), export, None)
    with console.stage("load"):
        from kmtalk.joint.joint_flow import JointFlow
        from kmtalk.joint.vocoder import HifiGan
        from kmtalk.joint_tasks import check_span, fill_span

        given = load_animation(animation)
        check_span(given, start, stop)
        flow, vocoder = JointFlow.load(joint), None if part == "face" else HifiGan()
        check_opengl()
    with console.stage("sample"):
        made = fill_span(given, flow, vocoder, start, stop, part, seed)
    write_animation_output(console, made, output, export, None)


@command
def voice(
    console: CommandOutput,
    animation: AnimationFile,
    text: Annotated[
        str, typer.Option(help="What the face says, in English, or a text file with it.", show_default=False)
    ],
    voice_like: Annotated[
        Path | None,
        typer.Option(help="Sound of the voice to imitate, with a second of speech or more.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Folder, or file of a format that kmtalk writes (default: NAME-voice/)."),
    ] = None,
    joint: JointWeights = None,
    seed: Seed = 0,
    export: ExportSettings = ExportSettings(),
) -> None:
    """Give a face that already moves a voice, in time with its mouth."""
    from kmtalk.animation import load_animation

    words = read_text_option(text) or ""
    output = output or animation.parent / f"{animation.stem}-voice"
    check_opengl = check_animation_output(console, output, None, AnimationSettings(), export, None)
    with console.stage("load"):
        from kmtalk.joint.joint_flow import JointFlow
        from kmtalk.joint.vocoder import HifiGan
        from kmtalk.joint_tasks import voice_for_face
        from kmtalk.speaking import check_text
        from kmtalk.speech.audio import load_audio
        from kmtalk.synthesis.voice_vector import VoiceEncoder

        check_text(words)
        given, flow, vocoder = load_animation(animation), JointFlow.load(joint), HifiGan()
        vector = None if voice_like is None else VoiceEncoder.load().encode(load_audio(voice_like))
        check_opengl()
    with console.stage("sample"):
        made = voice_for_face(given, flow, vocoder, words, vector, seed)
    write_animation_output(console, made, output, export, None)
