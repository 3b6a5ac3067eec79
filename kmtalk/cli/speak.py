"""kmtalk speak."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
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
    Template,
    check_joint_weights,
    read_text_option,
)
from kmtalk.errors import InputError
from kmtalk.settings import AnimationSettings, CharacterSettings, ExportSettings, VoiceSettings


@command
def speak(
    console: CommandOutput,
    text: Annotated[
        str,
        typer.Argument(
            help="The words to speak, or a text file with them. Words in square brackets, such as happy or sad:0.6, "
            "are emotions, which begin with the next word; neutral ends them.",
            show_default=False,
        ),
    ],
    template: Template = None,
    landmarks: Landmarks = None,
    character: CharacterSettings = CharacterSettings(),
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="Folder, or file of a format that kmtalk writes (default: speech-kmtalk/)."
        ),
    ] = None,
    voice: VoiceSettings = VoiceSettings(),
    network: Network = None,
    joint: JointWeights = None,
    settings: AnimationSettings = AnimationSettings(),
    export: ExportSettings = ExportSettings(),
    contact_sheet: ContactSheet = None,
) -> None:
    """Speak a text with a synthetic voice, and animate a face to it."""
    flow = voice.engine == "flow" or settings.motion == "flow"
    check_joint_weights(joint, flow, "--engine flow and --motion flow")
    if network is not None and voice.engine == "flow":
        raise InputError(f"{network}: --network is for other engines; give weights of the joint model with --joint")
    words = read_text_option(text) or ""
    output = output or Path("speech-kmtalk")
    with ThreadPoolExecutor(1) as pool:
        from kmtalk.speaking import check_text, load_voice

        check_text(words)
        loading = None
        if voice.engine == "piper":
            loading = pool.submit(load_voice, voice.engine, voice.voice)  # while PyTorch is imported
        check_opengl = check_animation_output(console, output, template, settings, export, contact_sheet)
        with console.stage("load"):
            from kmtalk.pipeline import KMTalk

            loaded = None if loading is None else loading.result()
            check_opengl()
    talk = KMTalk(network=network, joint=joint, warn=console.log, inform=console.announce, progress=console)
    animation = talk.speak(
        words,
        template,
        engine=voice.engine,
        voice=loaded,
        speaker=voice.speaker,
        rate=voice.rate,
        voice_like=voice.voice_like,
        landmarks=landmarks,
        character=character,
        settings=settings,
    )
    write_animation_output(console, animation, output, export, contact_sheet)
