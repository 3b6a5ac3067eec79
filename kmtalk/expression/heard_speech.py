"""What a listener notices in another's speech: where it pauses, where its pitch is low, and where it ends on a rise.

Everything here is causal: what is found at a time depends on the sound before it, and on the 30 ms that a window of
analysis reaches beyond it. Levels and pitches are therefore judged against those heard so far, and not against the
whole clip as in `kmtalk.speech.prosody`.

Ward, N. & Tsukahara, W. (2000): Prosodic features which cue back-channel responses in English and Japanese. Journal of
Pragmatics 32, 1177-1207.
"""

from __future__ import annotations

import math
from bisect import insort
from dataclasses import dataclass

import numpy as np

from kmtalk.speech.audio import SILENCE_DB, rms_level
from kmtalk.speech.prosody import HOP_SECONDS, estimate_pitch

LOW_PITCH_PERCENTILE = 26.0
LOW_PITCH_SECONDS, SPEECH_SECONDS = 0.11, 0.70
LEAST_INTERVAL, RESPONSE_SECONDS = 0.80, 0.70
"""Ward & Tsukahara's rule for English: a region of pitch below the 26th percentile that lasts 110 ms, after 700 ms of
speech, calls for a back-channel 700 ms later, unless there was one within 800 ms."""

PAUSE_SECONDS = 0.2
"""Silence from which on speech has paused; closures of stops are shorter."""

RISE_PERCENTILE = 75.0
RISE_SECONDS = 0.3
"""A phrase ends on a rise where the pitch of its last 300 ms climbs, and ends above this percentile."""

LEAST_PITCHES = 40  # voiced frames, 0.4 s, before percentiles mean anything
SPEECH_RANGE_DB = 12.0  # between the loud and the quiet of what was heard; less is a tone or noise
SPEECH_SHARE = 0.35  # of that range; speech is above it
ATTACK_SECONDS, DECAY_DB = 0.05, 2.0  # how loud and quiet follow the level: time constant, and dB per second back
BEAT_SECONDS = (0.1, 0.45)  # time constants of a syllable's loudness and of the phrase's


@dataclass(frozen=True)
class HeardSpeech:
    """What was noticed. Value i of a curve is at (i + 0.5) · `HOP_SECONDS` seconds; times are in seconds.

    Attributes:
        speaking: (H,) bool, whether there is speech; gaps shorter than `PAUSE_SECONDS` are part of it.
        beat: (H,) loudness of the syllables against that of the phrase, about -1 to 1.
        back_channels: Rising times at which the rule of Ward and Tsukahara calls for a response.
        pauses: Rising times at which a pause is noticed after at least `SPEECH_SECONDS` of speech.
        rises: Those of the pauses before which the pitch rose, as at the end of a question.
    """

    speaking: np.ndarray
    beat: np.ndarray
    back_channels: np.ndarray
    pauses: np.ndarray
    rises: np.ndarray


def analyze_heard_speech(samples: np.ndarray) -> HeardSpeech:
    """Find in mono samples (S,) at `SAMPLE_RATE` what a listener reacts to; an hour takes about ten seconds."""
    level = np.maximum(rms_level(samples, window=0.03, hop=HOP_SECONDS), SILENCE_DB)
    loud_enough, beat = _follow_level(level.tolist())
    f0, strength = estimate_pitch(samples, len(level))
    voiced = (strength > 0.45) & loud_enough
    semitones = np.where(voiced, 12 * np.log2(np.maximum(f0, 1.0)), np.nan)
    return _notice(loud_enough, semitones, beat)


def _follow_level(level: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return whether each level (H,) in dB is speech's, and the syllables' beat, by the levels before it."""
    attack = 1 - math.exp(-HOP_SECONDS / ATTACK_SECONDS)
    quick, slow = (1 - math.exp(-HOP_SECONDS / seconds) for seconds in BEAT_SECONDS)
    loud = quiet = syllable = phrase = level[0]
    speech, beat = np.zeros(len(level), bool), np.zeros(len(level))
    for i, now in enumerate(level):
        loud = loud + attack * (now - loud) if now > loud else loud - DECAY_DB * HOP_SECONDS
        quiet = quiet + attack * (now - quiet) if now < quiet else quiet + DECAY_DB * HOP_SECONDS
        quiet = min(quiet, loud)
        heard = loud - quiet >= SPEECH_RANGE_DB and now > quiet + SPEECH_SHARE * (loud - quiet)
        speech[i] = heard
        syllable += quick * (now - syllable)
        phrase += slow * (now - phrase)
        beat[i] = np.tanh((syllable - phrase) / 12) if heard else 0.0
    return speech, beat


def _notice(loud_enough: np.ndarray, semitones: np.ndarray, beat: np.ndarray) -> HeardSpeech:
    """Find the times to which a listener may respond, step by step through the hops (H,)."""
    low_hops, speech_hops, pause_hops = (
        round(s / HOP_SECONDS) for s in (LOW_PITCH_SECONDS, SPEECH_SECONDS, PAUSE_SECONDS)
    )
    speaking = np.zeros(len(loud_enough), bool)
    back_channels: list[float] = []
    pauses: list[float] = []
    rises: list[float] = []
    pitches: list[float] = []  # all that were heard, sorted
    began, last, low = 0, -pause_hops - 1, 0
    for i in range(len(loud_enough)):
        time = (i + 1) * HOP_SECONDS
        if loud_enough[i]:
            if i - last > pause_hops:
                began = i
            last = i
        silent = i - last
        speaking[i] = silent < pause_hops
        if silent == pause_hops and last - began >= speech_hops:
            pauses.append(time)
            if _rose(semitones[: last + 1], pitches):
                rises.append(time)
        pitch = float(semitones[i])
        if not math.isnan(pitch):
            insort(pitches, pitch)
            low = low + 1 if pitch < _percentile(pitches, LOW_PITCH_PERCENTILE) else 0
        elif silent >= 2:  # one unvoiced hop does not end a region
            low = 0
        if low == low_hops and len(pitches) >= LEAST_PITCHES and i - began >= speech_hops:
            at = time + RESPONSE_SECONDS
            if not back_channels or at - back_channels[-1] >= LEAST_INTERVAL:
                back_channels.append(at)
    return HeardSpeech(speaking, beat, np.array(back_channels), np.array(pauses), np.array(rises))


def _percentile(ordered: list[float], percent: float) -> float:
    return ordered[min(len(ordered) - 1, int(percent / 100 * len(ordered)))]


def _rose(semitones: np.ndarray, pitches: list[float]) -> bool:
    """Whether the last pitches (H,), NaN where unvoiced, climb to an end that is high for the speaker."""
    end = semitones[-round(RISE_SECONDS / HOP_SECONDS) :]
    end = end[~np.isnan(end)]
    if len(pitches) < LEAST_PITCHES or len(end) < 9:
        return False
    third = len(end) // 3
    first, final = np.median(end[:third]), np.median(end[-third:])
    return bool(final - first > 1.5 and final > _percentile(pitches, RISE_PERCENTILE))
