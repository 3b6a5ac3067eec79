"""kmtalk live."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from kmtalk.cli.command import command
from kmtalk.cli.console import CommandOutput
from kmtalk.cli.options import Template, read_frame_rate
from kmtalk.errors import InputError
from kmtalk.settings import ExportSettings
from kmtalk.stream_settings import StreamSettings

if TYPE_CHECKING:
    from kmtalk.face.rig import Rig
    from kmtalk.live.following import Recording
    from kmtalk.live.playback import PlaybackReport
    from kmtalk.live.receivers import Receiver
    from kmtalk.live.sound_output import SoundOutput
    from kmtalk.live.sources import SoundSource
    from kmtalk.streaming.face_stream import FaceStream

DEFAULT_FPS = 60.0
TEXT = "text"  # the source of lines of text


@command
def live(
    console: CommandOutput,
    source: Annotated[
        str,
        typer.Argument(
            help="What the face follows: a sound file, mic or mic:DEVICE, - for samples of 16 bits on standard input, "
            "ws://HOST:PORT to listen for samples, or text for lines of text on standard input, which a voice speaks; "
            "or an animation.npz to play.",
            show_default=False,
        ),
    ],
    live_link: Annotated[
        list[str] | None,
        typer.Option(
            help="Send to Unreal's Live Link at HOST[:PORT], as the app Live Link Face does; several may be given.",
            show_default=False,
        ),
    ] = None,
    vmc: Annotated[
        list[str] | None,
        typer.Option(
            help="Send by the VMC protocol to HOST[:PORT]: VSeeFace, Warudo and others; several may be given.",
            show_default=False,
        ),
    ] = None,
    websocket: Annotated[
        str | None,
        typer.Option(
            help="Listen at [HOST:]PORT for web pages and programs, which get the poses as JSON.", show_default=False
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="Record the face: a file of a format that kmtalk writes, or a folder.",
            show_default=False,
        ),
    ] = None,
    template: Template = None,
    fps: Annotated[
        str | None, typer.Option(help="Poses per second (default: 60, or those of the animation).", show_default=False)
    ] = None,
    subject: Annotated[str, typer.Option(help="Name of the face in Unreal's Live Link.")] = "kmtalk",
    rate: Annotated[
        int | None,
        typer.Option(help="Sample rate of pipe, socket (default: 16000) or microphone in Hz.", show_default=False),
    ] = None,
    channels: Annotated[int, typer.Option(min=1, max=8, help="Interleaved channels of the pipe.")] = 1,
    capture: Annotated[
        bool, typer.Option("--capture", help="The pipe's sound is of now, as a recorder's: what is late is left out.")
    ] = False,
    voice: Annotated[
        str | None,
        typer.Option(help="Piper voice that speaks the lines of text (.onnx; default: joe).", show_default=False),
    ] = None,
    speaker: Annotated[
        str | None, typer.Option(help="Name or number of a speaker of the voice.", show_default=False)
    ] = None,
    play: Annotated[
        bool | None,
        typer.Option(
            "--play/--no-play",
            help="Play the sound on the loudspeaker, in time with the face (default: for text).",
            show_default=False,
        ),
    ] = None,
    loop: Annotated[bool, typer.Option(help="Begin the animation again at its end, until Ctrl-C.")] = False,
    settings: StreamSettings = StreamSettings(),
    streaming: Annotated[
        Path | None, typer.Option(help="Weights of the streaming network (.safetensors; default: those shipped).")
    ] = None,
) -> None:
    """Move a face in real time in other programs, by a voice or as animated before: Unreal Engine, programs with VRM
    avatars, web pages."""
    if not live_link and not vmc and websocket is None and output is None:
        raise InputError(
            "live: nobody receives the poses; give --live-link HOST, --vmc HOST, --websocket PORT or -o FILE"
        )
    if not 0 < len(subject) <= 100:
        raise InputError("--subject: give a name of 1 to 100 characters")
    wanted = read_frame_rate("--fps", fps)

    def open_receivers(rig: Rig, poses_per_second: float) -> list[Receiver]:
        from kmtalk.live.receivers import live_link_receiver, vmc_receiver

        receivers = [live_link_receiver(address, subject, poses_per_second) for address in live_link or []]
        receivers += [vmc_receiver(address, rig) for address in vmc or []]
        if websocket is not None:
            from kmtalk.live.websocket import WebSocketReceiver

            receivers.append(WebSocketReceiver(websocket, poses_per_second))
        for receiver in receivers:
            console.announce(f"sending to {receiver.name}, {poses_per_second:g} poses a second")
        return receivers

    if source != TEXT and (voice is not None or speaker is not None):
        raise InputError(f"{source}: --voice and --speaker are for lines of text (text)")
    if play and (source.split(":")[0] == "mic" or Path(source).suffix.lower() == ".npz"):
        raise InputError(f"{source}: --play is for a sound file, a pipe, a socket or text")
    if Path(source).suffix.lower() == ".npz":
        if output is not None:
            raise InputError(f"{output}: an animation that is played is not recorded; kmtalk export writes it")
        report = _play(console, Path(source), wanted, loop, open_receivers)
    else:
        if loop:
            raise InputError("--loop: is for an animation.npz; sound is followed once")
        if output is not None:
            _check_recording(console, output, template)
        with console.stage("load"):
            from kmtalk.live.following import Recording
            from kmtalk.live.sources import open_source
            from kmtalk.pipeline import KMTalk

            talk = KMTalk(streaming=streaming, warn=console.log, inform=console.announce, progress=console)
            sound: SoundSource
            if source == TEXT:
                sound = _open_text(rate, voice, speaker, console)
            else:
                sound = open_source(source, sys.stdin.buffer, rate, channels, capture)
            stream = talk.stream(sound.rate, wanted or DEFAULT_FPS, settings=settings)
            loudspeaker = _open_loudspeaker(sound, stream) if play or (play is None and source == TEXT) else None
        recording = Recording() if output is not None else None
        try:
            receivers = open_receivers(stream.rig, stream.fps)
            report = _follow(console, sound, stream, receivers, recording, loudspeaker)
        finally:  # what was recorded is not lost where a receiver is
            if output is not None and recording is not None and recording.weights:
                samples, weights = np.concatenate([np.zeros(0), *recording.samples]), np.array(recording.weights)
                animation = talk.animation_of_stream(weights, stream.fps, samples, sound.rate, template)
                console.report_written(animation.save(output, ExportSettings(), progress=console))
        if recording is not None and not recording.weights:
            raise InputError(f"{source}: is too short for a pose; nothing was recorded")
    console.summary |= {"sent": report.sent, "dropped": report.dropped}
    console.announce(report.describe())


def _open_text(rate: int | None, voice: str | None, speaker: str | None, console: CommandOutput) -> SoundSource:
    """Open standard input as lines of text."""
    from kmtalk.live.text_source import TextSource
    from kmtalk.speaking import load_voice

    if rate is not None:
        raise InputError("text: --rate is for a pipe, a microphone or a socket; a voice has its own")
    return TextSource(sys.stdin.buffer, load_voice("piper", voice), speaker, console.log)


def _open_loudspeaker(sound: SoundSource, stream: FaceStream) -> SoundOutput:
    """Open the loudspeaker for the sound of a stream."""
    from kmtalk.live.following import MARGIN_SECONDS
    from kmtalk.live.sound_output import SoundOutput

    return SoundOutput(sound.rate, stream.delay + MARGIN_SECONDS)


def _check_recording(console: CommandOutput, output: Path, template: Path | None) -> None:
    """Raise InputError where a recording cannot be written."""
    from kmtalk.animation import check_save, has_video
    from kmtalk.cli.animation_output import check_character_output
    from kmtalk.render.video import start_opengl_check

    check_save(output, ExportSettings(), console.inputs)
    check_character_output(output, ExportSettings(), template, DEFAULT_FPS)
    start_opengl_check(has_video(output, ExportSettings()))()


def _play(
    console: CommandOutput,
    path: Path,
    wanted: float | None,
    loop: bool,
    open_receivers: Callable[[Rig, float], list[Receiver]],
) -> PlaybackReport:
    """Play an animation."""
    from kmtalk.animation import load_animation
    from kmtalk.live.frames import live_frames
    from kmtalk.live.playback import PlaybackReport, play

    with console.stage("read"):
        motion = load_animation(path).motion
        if "jawOpen" not in motion.rig.index:
            raise InputError(f"{path}: has imported vertices, which are no shapes that other programs receive")
        fps = motion.fps if wanted is None else wanted
        receivers = open_receivers(motion.rig, fps)
        frames = list(live_frames(motion, fps))
    report = PlaybackReport()
    try:
        while True:
            with console.stage("play", len(frames)) as advance:
                play(frames, fps, receivers, report, advance)
            if not loop:
                return report
    finally:
        for receiver in receivers:
            receiver.close()


def _follow(
    console: CommandOutput,
    sound: SoundSource,
    stream: FaceStream,
    receivers: list[Receiver],
    recording: Recording | None,
    loudspeaker: SoundOutput | None,
) -> PlaybackReport:
    """Follow a source of sound until it ends, or until Ctrl-C."""
    from kmtalk.live.following import follow
    from kmtalk.live.playback import PlaybackReport
    from kmtalk.live.sources import SourceReport

    report, heard = PlaybackReport(), SourceReport()
    console.announce(f"following {sound.name}, {sound.rate:,} Hz; Ctrl-C ends it")
    try:
        with contextlib.suppress(KeyboardInterrupt):  # how a microphone is ended: what was recorded is written
            follow(sound, stream, receivers, report, heard, recording, loudspeaker)
    finally:
        if loudspeaker is not None:
            loudspeaker.close()
        for receiver in receivers:
            receiver.close()
    console.announce(heard.describe())
    return report
