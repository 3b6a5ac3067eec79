"""The common clock of the two streams.

The mel spectrogram has `MEL_RATE` frames a second and the motion stream a third of that. Frame n of either is at
(n + 0.5) / rate, so that the motion frame n is at the time of the mel frame 3n + 1.
"""

from __future__ import annotations

SAMPLE_RATE = 22_050
"""Sample rate in Hz of the sound that the mel spectrogram is made of."""

HOP_SAMPLES = 256
"""Samples per mel frame."""

MEL_RATE = SAMPLE_RATE / HOP_SAMPLES
"""Mel frames per second, 86.13."""

MEL_FRAMES_PER_MOTION_FRAME = 3

MOTION_RATE = MEL_RATE / MEL_FRAMES_PER_MOTION_FRAME
"""Motion frames per second, 28.71."""
