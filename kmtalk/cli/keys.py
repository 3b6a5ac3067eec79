"""kmtalk keys and complete."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from kmtalk.cli.command import command
from kmtalk.cli.console import CommandOutput
from kmtalk.cli.options import (
    JointWeights,
    Landmarks,
    Network,
    Output,
    SpeechOrAnimation,
    Template,
    Text,
    TextGrid,
    Tier,
    check_joint_weights,
    read_frame_rate,
    read_text_option,
)
from kmtalk.errors import InputError
from kmtalk.settings import AnimationSettings, ExportSettings, RecognitionSettings, SoundSettings


@command
def keys(
    console: CommandOutput,
    speech: SpeechOrAnimation,
    output: Annotated[Path, typer.Option("-o", "--output", help="keys.json to write.")] = Path("keys.json"),
    template: Template = None,
    landmarks: Landmarks = None,
    import_motion: Annotated[
        Path | None,
        typer.Option(
            help="Another system's motion on the same mesh, .npy (N, V, 3) or (N, 3V); its poses become the keys."
        ),
    ] = None,
    import_fps: Annotated[
        str | None, typer.Option(help="Frames per second of --import-motion (default: from the sound's length).")
    ] = None,
    text: Text = None,
    textgrid: TextGrid = None,
    tier: Tier = None,
    sound: SoundSettings = SoundSettings(),
    recognition: RecognitionSettings = RecognitionSettings(),
    network: Network = None,
    joint: JointWeights = None,
    settings: AnimationSettings = AnimationSettings(),
) -> None:
    """Write the key frames with their poses by shape name, to be edited and given to kmtalk complete."""
    from kmtalk.exchange.keys_json import edited_files, write_keys
    from kmtalk.output import atomic_write

    check_joint_weights(joint, settings.motion == "flow", "--motion flow")
    rate = read_frame_rate("--import-fps", import_fps)
    if output.suffix.lower() != ".json":
        raise InputError(f"{output}: -o takes a file ending in .json")
    console.check_outputs(output)
    if output.is_file() and edited_files(output):
        raise InputError(
            f"{output}: was edited or is not kmtalk's; it would be replaced: move it away, or give another -o"
        )
    with console.stage("load"):
        from kmtalk.pipeline import KMTalk

    talk = KMTalk(recognition, network=network, joint=joint, warn=console.log, progress=console)
    if speech.suffix.lower() == ".npz":
        animation = talk.load(speech)
    else:
        animation = talk.animate(
            speech,
            template,
            landmarks=landmarks,
            text=read_text_option(text),
            textgrid=textgrid,
            tier=tier,
            sound=sound,
            settings=settings,
        )
    if import_motion is not None:
        residual = talk.import_key_motions(animation, import_motion, rate)
        console.summary["rms_mm"] = round(residual, 4)
        if not console.quiet:
            console.log(f"{import_motion}: {residual:.2f} mm RMS of its poses cannot be expressed by the rig's shapes")
    with atomic_write(output) as temporary:
        write_keys(
            temporary, animation.motion, animation.keys, animation.alignment, animation.provenance, animation.audio
        )
    console.summary["keys"] = len(animation.keys)
    console.report_written([output])


@command
def complete(
    console: CommandOutput,
    keys: Annotated[Path, typer.Argument(help="The edited keys.json.", show_default=False)],
    speech: SpeechOrAnimation,
    output: Output = None,
    template: Template = None,
    landmarks: Landmarks = None,
    network: Network = None,
    completer: Annotated[
        Literal["cmc", "flow"],
        typer.Option(help="What completes the frames: cmc (the network), or flow (the joint model of sound and face)."),
    ] = "cmc",
    joint: JointWeights = None,
    export: ExportSettings = ExportSettings(),
) -> None:
    """Animate from edited keys: edited keys are met exactly, CMC completes the frames around them, others stay."""
    from kmtalk.animation import check_save, has_video
    from kmtalk.render.video import start_opengl_check

    output = output or speech.parent / f"{speech.stem}-kmtalk"
    check_save(output, export, console.inputs)
    check_opengl = start_opengl_check(has_video(output, export))
    with console.stage("load"):
        from kmtalk.pipeline import KMTalk

        check_opengl()
    talk = KMTalk(network=network, joint=joint, warn=console.log, progress=console)
    edited = talk.load_key_edits(keys, speech, template, landmarks)
    made_with = edited.provenance.settings
    sampled = completer == "flow" or (made_with is not None and made_with.motion == "flow")
    check_joint_weights(joint, sampled, "--completer flow and keys of --motion flow")
    if completer == "cmc":
        animation = talk.complete(edited)
    else:
        from kmtalk.joint_tasks import complete_keys

        with console.stage("complete"):
            animation = complete_keys(edited, talk.joint_flow)
    pinned = int(animation.keys.pinned.sum())
    console.summary |= {"keys": len(animation.keys), "pinned": pinned, **edited.keys.change_counts}
    if not console.quiet:
        counts = ", ".join(f"{count} {kind}" for kind, count in edited.keys.change_counts.items() if count)
        console.log(f"{keys}: keys: {counts}" if counts else f"{keys}: no key was edited")
    console.report_written(animation.save(output, export, progress=console))
