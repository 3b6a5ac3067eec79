"""kmtalk listen and dialogue."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kmtalk.cli.animation_output import check_character_output
from kmtalk.cli.command import command
from kmtalk.cli.console import CommandOutput
from kmtalk.cli.options import (
    JointWeights,
    Landmarks,
    Network,
    Template,
    Text,
    check_joint_weights,
    read_text_option,
)
from kmtalk.listener_settings import DialogueSettings, ListenerSettings
from kmtalk.settings import CharacterSettings, ExportSettings, RecognitionSettings, SoundSettings

_VOICE_ONLY = SoundSettings.model_fields["voice_only"].description


@command
def listen(
    console: CommandOutput,
    other: Annotated[Path, typer.Argument(help="Sound or video file of the one who speaks.", show_default=False)],
    template: Template = None,
    landmarks: Landmarks = None,
    character: CharacterSettings = CharacterSettings(),
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="Folder, or file of a format that kmtalk writes (default: OTHER-listener/)."
        ),
    ] = None,
    other_face: Annotated[
        Path | None,
        typer.Option(help="The animation.npz of the one who speaks; its smiles are answered.", show_default=False),
    ] = None,
    sound: SoundSettings = SoundSettings(),
    joint: JointWeights = None,
    settings: ListenerSettings = ListenerSettings(),
    export: ExportSettings = ExportSettings(),
) -> None:
    """Animate a face that listens to speech: nods, blinks, brows, gaze, and smiles in answer, by rules."""
    from kmtalk.animation import check_save, has_video
    from kmtalk.render.video import start_opengl_check

    check_joint_weights(joint, settings.motion == "flow", "--motion flow")
    output = output or other.parent / f"{other.stem}-listener"
    check_save(output, export, console.inputs)
    check_character_output(output, export, template, settings.fps)
    check_opengl = start_opengl_check(has_video(output, export))
    with console.stage("load"):
        from kmtalk.pipeline import KMTalk

        check_opengl()
    talk = KMTalk(joint=joint, warn=console.log, inform=console.announce, progress=console)
    animation = talk.listen(
        other,
        template,
        other_face=other_face,
        landmarks=landmarks,
        character=character,
        sound=sound,
        settings=settings,
    )
    console.summary |= {"frames": len(animation.motion), "fps": animation.fps}
    console.summary["seconds"] = round(animation.audio.duration, 3)
    console.report_written(animation.save(output, export, progress=console))


@command
def dialogue(
    console: CommandOutput,
    first: Annotated[
        Path,
        typer.Argument(help="Sound of the first speaker, or of both: one in each channel.", show_default=False),
    ],
    second: Annotated[
        Path | None, typer.Argument(help="Sound of the second speaker, on the same clock.", show_default=False)
    ] = None,
    template: Template = None,
    second_template: Annotated[
        Path | None, typer.Option(help="Face of the second speaker (default: that of --template).", show_default=False)
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Folder, or .mp4 for the film alone (default: FIRST-dialogue/)."),
    ] = None,
    text: Text = None,
    second_text: Annotated[
        str | None, typer.Option(help="The words of the second speaker, as --text.", show_default=False)
    ] = None,
    track: Annotated[
        str | None, typer.Option(help=SoundSettings.model_fields["track"].description, show_default=False)
    ] = None,
    voice_only: Annotated[bool, typer.Option(help=_VOICE_ONLY)] = False,
    recognition: RecognitionSettings = RecognitionSettings(),
    network: Network = None,
    joint: JointWeights = None,
    settings: DialogueSettings = DialogueSettings(),
    export: ExportSettings = ExportSettings(),
) -> None:
    """Animate two faces in a conversation: each speaks with its voice, and listens while the other speaks."""
    from kmtalk.dialogue import check_dialogue_save, has_film
    from kmtalk.render.video import start_opengl_check

    check_joint_weights(joint, settings.motion == "flow", "--motion flow")
    output = output or first.parent / f"{first.stem}-dialogue"
    check_dialogue_save(output, export, console.inputs)
    for one in (template, second_template or template):
        check_character_output(output, export, one, settings.fps)
    sound = SoundSettings.create(None, track=track, voice_only=voice_only)
    check_opengl = start_opengl_check(has_film(output, export))
    with console.stage("load"):
        from kmtalk.pipeline import KMTalk

        check_opengl()
    talk = KMTalk(
        recognition, network=network, joint=joint, warn=console.log, inform=console.announce, progress=console
    )
    made = talk.dialogue(
        first,
        second,
        template,
        second_template,
        text=read_text_option(text),
        second_text=read_text_option(second_text),
        sound=sound,
        settings=settings,
    )
    console.summary |= {"frames": len(made.first.motion), "fps": made.first.fps}
    console.summary["seconds"] = round(made.first.audio.duration, 3)
    console.report_written(made.save(output, export, progress=console))
