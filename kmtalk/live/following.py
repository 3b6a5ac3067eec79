"""A face that follows a source of sound: each pose is sent a constant time after its sound, as soon as it is known."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from kmtalk.live.frames import LiveFrameConverter
from kmtalk.live.playback import PlaybackReport, send_pose
from kmtalk.live.receivers import Receiver
from kmtalk.live.sound_output import SoundOutput
from kmtalk.live.sources import SoundSource, SourceReport, timed_blocks
from kmtalk.streaming.face_stream import FaceStream, StreamedPose

MARGIN_SECONDS = 0.02
"""Added to the stream's delay: time to compute a pose, so that poses leave at an even pace."""


@dataclass
class Recording:
    """What a face did, to be saved at the end.

    Attributes:
        weights: Weights (R,) of each pose.
        samples: Blocks of the sound (S,) that it followed.
    """

    weights: list[np.ndarray] = field(default_factory=list)
    samples: list[np.ndarray] = field(default_factory=list)


def follow(
    source: SoundSource,
    stream: FaceStream,
    receivers: Sequence[Receiver],
    report: PlaybackReport,
    heard: SourceReport,
    recording: Recording | None = None,
    output: SoundOutput | None = None,
    advance: Callable[[int], None] = lambda done: None,
) -> None:
    """Send the poses of a stream until the source ends.

    A pose that is late is sent at once: it is the newest that there is.

    Args:
        source: The sound.
        stream: The face.
        receivers: To whom the poses are sent.
        report: Counts what is sent; its lateness is the time from the sound of a pose to its sending.
        heard: Counts what becomes of the sound.
        recording: Keeps poses and sound; None for nothing.
        output: Plays the sound in time with the poses; None for nothing.
        advance: Called with the number of poses that were sent.

    Raises:
        InputError: The source cannot be started, or a receiver cannot be reached.
    """
    converter = LiveFrameConverter(stream.rig, stream.fps)

    def send(pose: StreamedPose, begin: float) -> None:
        if recording is not None:
            recording.weights.append(pose.weights)
        time.sleep(max(0.0, begin + pose.time + stream.delay + MARGIN_SECONDS - time.monotonic()))
        send_pose(receivers, converter.frame(pose.number, pose.weights), pose.time)
        report.sent += 1
        report.lateness.append(time.monotonic() - begin - pose.time)
        advance(report.sent)

    begin = time.monotonic()
    source.start()
    try:
        for block, begin in timed_blocks(source, heard):
            if recording is not None:
                recording.samples.append(block)
            if output is not None:
                output.put(block)
            stream.expect(source.take_phones())
            for pose in stream.feed(block):
                send(pose, begin)
        for pose in stream.finish():
            send(pose, begin)
    finally:
        source.stop()
