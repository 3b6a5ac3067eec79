"""kmtalk live."""

from __future__ import annotations

from typing import Annotated

import typer

from kmtalk.cli.command import command
from kmtalk.cli.console import CommandOutput
from kmtalk.cli.options import AnimationFile, read_frame_rate
from kmtalk.errors import InputError


@command
def live(
    console: CommandOutput,
    animation: AnimationFile,
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
    fps: Annotated[str | None, typer.Option(help="Poses per second (default: those of the animation).")] = None,
    subject: Annotated[str, typer.Option(help="Name of the face in Unreal's Live Link.")] = "kmtalk",
    loop: Annotated[bool, typer.Option(help="Begin again at the end, until Ctrl-C.")] = False,
) -> None:
    """Play an animation in real time in other programs: Unreal Engine, and those that show VRM avatars."""
    from kmtalk.animation import load_animation
    from kmtalk.live.frames import live_frames
    from kmtalk.live.playback import PlaybackReport, play
    from kmtalk.live.receivers import live_link_receiver, vmc_receiver

    if not live_link and not vmc:
        raise InputError("live: nobody receives the poses; give --live-link HOST or --vmc HOST")
    if not 0 < len(subject) <= 100:
        raise InputError("--subject: give a name of 1 to 100 characters")
    wanted = read_frame_rate("--fps", fps)
    with console.stage("read"):
        motion = load_animation(animation).motion
        if "jawOpen" not in motion.rig.index:
            raise InputError(f"{animation}: has imported vertices, which are no shapes that other programs receive")
        rate = motion.fps if wanted is None else wanted
        receivers = [live_link_receiver(address, subject, rate) for address in live_link or []]
        receivers += [vmc_receiver(address, motion.rig) for address in vmc or []]
        frames = list(live_frames(motion, rate))
    for receiver in receivers:
        console.announce(f"sending to {receiver.name}, {rate:g} poses a second")
    report = PlaybackReport()
    while True:
        with console.stage("play", len(frames)) as advance:
            play(frames, rate, receivers, report, advance)
        if not loop:
            break
    console.summary |= {"sent": report.sent, "dropped": report.dropped}
    console.announce(report.describe())
