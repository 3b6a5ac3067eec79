"""Phones → how the mouth moves, in millimetres over time.

Every phone pulls each channel towards its target with a dominance that fades with distance (Cohen &
Massaro 1993: D = α·exp(−(θ|τ|)^c), F = Σ D·T / Σ D); the articulators follow as critically damped
masses (Saltzman & Munhall 1989), here without lag. Contacts are then made hard: a bilabial closes, a
labiodental touches, a sibilant holds the jaw up.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.signal import oaconvolve

from kmtalk.articulation import targets
from kmtalk.articulation.prosody import Prosody
from kmtalk.articulation.styles import SpeakingStyle
from kmtalk.articulation.targets import Contact, PhoneTarget
from kmtalk.speech.alignment import Alignment

TIME_STEP = 0.005  # seconds, inner clock
MAX_DISTANCE = 0.6  # seconds beyond which a phone is not felt
MAX_GAP = 0.08  # seconds between phones that are not yet a pause


@dataclass(frozen=True)
class Dynamics:
    """Dominance and speed of one channel: ``anticipation_rate`` and ``carryover_rate`` are θ in 1/s before and after a
    phone, ``pause_anticipation_rate`` and ``pause_carryover_rate`` the same for silence, ``exponent`` is c, ``natural_frequency`` the natural
    frequency; ``emphasis`` is how much a vowel grows for 10 dB of level."""

    anticipation_rate: float
    carryover_rate: float
    pause_anticipation_rate: float
    pause_carryover_rate: float
    exponent: float
    natural_frequency: float
    emphasis: float


# Fitted on the same clips as the targets; `kmtalk evaluate` tells how well on others. Several
# lie on the bounds of the search: they are settings, not physiology. Emphasis is set by hand.
APERTURE = Dynamics(39.9, 23.6, 13.8, 80.0, 1.88, 19.8, 0.04)
WIDTH = Dynamics(60.0, 17.9, 3.0, 80.0, 2.0, 6.1, 0.0)
PROTRUSION = Dynamics(12.0, 14.0, 8.0, 25.0, 1.0, 9.0, 0.0)  # by hand: rounding starts 60–200 ms early
JAW = Dynamics(9.5, 30.8, 3.0, 13.4, 0.6, 12.0, 0.06)
LABIAL_RATE_FACTOR = 3.0  # lips that close come and go faster than the rest
PITCH_EMPHASIS = 0.005  # how much a vowel grows for a semitone above the speaker's median
PREOPENING = 4.0  # mm that the mouth opens while it makes ready to speak
CLOSURE_SHARE = 0.63  # of a bilabial's duration that is held shut, at least CLOSURE_HOLD each way
CLOSURE_HOLD = 0.03
CLOSURE_RAMP = 0.04  # seconds from open to shut
LABIODENTAL_GAP = 1.5  # mm between the lips at f v
LABIODENTAL_WINDOW = (0.021, 0.048)  # seconds: the bite begins after the phone's start and outlasts its end
CROSSFADE = 0.1  # seconds from phones to loudness where phones were not found
SIBILANT_JAW = 2.0  # mm
SIBILANT_RAMP = 0.06


@dataclass(frozen=True)
class ArticulatoryTrajectories:
    """By frame: ``aperture``, ``width``, ``protrusion``, ``jaw`` in mm and ``bilabial_closure`` (bilabial contact, 0 to
    1), each (N,), and weights (N,) of shapes that are set directly (tongue, labiodental, press)."""

    aperture: np.ndarray
    width: np.ndarray
    protrusion: np.ndarray
    jaw: np.ndarray
    bilabial_closure: np.ndarray
    shape_weights: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Gesture:
    """One target over an interval in seconds; ``level`` is its loudness in dB below the clip's loud parts,
    ``pitch`` in semitones around the speaker's median."""

    target: PhoneTarget
    start: float
    end: float
    level: float = 0.0
    pitch: float = 0.0
    is_vowel: bool = False
    is_pause: bool = False

    @property
    def is_labial(self) -> bool:
        return self.target.contact in (Contact.BILABIAL, Contact.LABIODENTAL)


def trajectories_from_phones(
    alignment: Alignment,
    voice: Prosody,
    duration: float,
    times: np.ndarray,
    style: SpeakingStyle,
    rng: np.random.Generator,
) -> ArticulatoryTrajectories:
    """Tracks at ``times`` (N,) seconds of a clip of ``duration`` seconds."""
    gestures = gestural_score(alignment, voice, duration, style)
    clock = np.arange(int(duration / TIME_STEP) + 2) * TIME_STEP
    aperture = _blend_targets([g.target.aperture for g in gestures], gestures, clock, APERTURE, style, "aperture")
    aperture = np.maximum(aperture + _preparatory_opening(gestures, clock), 0.0)
    width = _blend_targets([g.target.width for g in gestures], gestures, clock, WIDTH, style, "width")
    protrusion = _blend_targets(
        [g.target.protrusion for g in gestures], gestures, clock, PROTRUSION, style, "protrusion"
    )
    jaw = np.maximum(_blend_targets([g.target.jaw for g in gestures], gestures, clock, JAW, style, "jaw"), 0.0)
    if style.residual > 0:
        speaking = gaussian_filter1d(_speech_activity(gestures, clock), 0.06 / TIME_STEP)
        for curve, size in ((aperture, 1.0), (width, 1.0), (jaw, 0.6)):
            noise = gaussian_filter1d(rng.normal(size=len(clock)), 0.05 / TIME_STEP)
            noise *= style.residual * size / max(noise.std(), 1e-9)
            curve += noise * speaking * (1.0 if curve is width else np.clip(curve / 4.0, 0, 1))
    shut = _contact_curve(gestures, clock, Contact.BILABIAL)
    bite = _contact_curve(gestures, clock, Contact.LABIODENTAL)
    hiss = _contact_curve(gestures, clock, Contact.SIBILANT)
    aperture = (1 - bite) * aperture + bite * np.minimum(aperture, LABIODENTAL_GAP)
    aperture = (1 - shut) * aperture
    jaw = (1 - hiss) * jaw + hiss * np.minimum(jaw, SIBILANT_JAW * style.jaw)
    shapes = {
        "mouthLabiodental": 0.85 * bite * (1 - shut),
        "tongueTipUp": _tongue_curve([g.target.tongue_tip_up for g in gestures], gestures, clock),
        "tongueInterdental": _tongue_curve([g.target.tongue_interdental for g in gestures], gestures, clock),
        "tongueDorsumUp": _tongue_curve([g.target.tongue_dorsum_up for g in gestures], gestures, clock),
        "mouthPressLeft": 0.12 * shut,
        "mouthPressRight": 0.12 * shut,
    }

    def sample(curve: np.ndarray) -> np.ndarray:
        return np.interp(times, clock, curve)

    tongue_room = 1 - np.clip(shapes["tongueTipUp"] + shapes["tongueInterdental"], 0, 1)
    shapes["tongueDorsumUp"] = shapes["tongueDorsumUp"] * tongue_room
    return ArticulatoryTrajectories(
        sample(aperture),
        sample(width),
        sample(protrusion),
        sample(jaw),
        sample(shut),
        {name: np.clip(sample(curve), 0, 1) for name, curve in shapes.items()},
    )


def trajectories_from_loudness(voice: Prosody, times: np.ndarray, style: SpeakingStyle) -> ArticulatoryTrajectories:
    """Without phones: the mouth opens with the level of the voiced sound and no more is claimed."""
    level = np.clip(voice.level / 25 + 1, 0, 1) * np.clip(0.35 + voice.voiced, 0, 1)
    opening = 9.0 * style.effort * voice.interpolate(times, gaussian_filter1d(level, 3.0)) ** 1.3
    zero = np.zeros_like(opening)
    return ArticulatoryTrajectories(opening, zero, zero, 0.75 * style.jaw * opening, zero)


def crossfade_span(
    span: tuple[float, float], times: np.ndarray, inner: ArticulatoryTrajectories, outer: ArticulatoryTrajectories
) -> ArticulatoryTrajectories:
    """``inner`` from span[0] to span[1] s, ``outer`` elsewhere, cross-faded over FADE s inside the span."""
    start, end = span
    share = np.clip(np.minimum(times - start, end - times) / CROSSFADE, 0, 1)

    def mixed(name: str) -> np.ndarray:
        return share * getattr(inner, name) + (1 - share) * getattr(outer, name)

    names = ("aperture", "width", "protrusion", "jaw", "shut")
    aperture, width, protrusion, jaw, shut = (mixed(name) for name in names)
    return ArticulatoryTrajectories(
        aperture, width, protrusion, jaw, shut, {k: v * (1 - share) for k, v in outer.shape_weights.items()}
    )


def bilabial_closure(alignment: Alignment, times: np.ndarray) -> np.ndarray:
    """How far p, b and m have brought the lips together at ``times`` (N,) s: 0 to 1."""
    labelled = [(targets.PHONE_TARGETS[targets.canonical_phone(p.label)], p) for p in alignment.phones]
    gestures = [Gesture(target, p.start, p.end) for target, p in labelled]
    clock = np.arange(int(times[-1] / TIME_STEP) + 2) * TIME_STEP
    out: np.ndarray = np.interp(times, clock, _contact_curve(gestures, clock, Contact.BILABIAL))
    return out


def gestural_score(alignment: Alignment, voice: Prosody, duration: float, style: SpeakingStyle) -> list[Gesture]:
    """The gestural score: phones with their targets, diphthongs in two, pauses between."""
    gestures: list[Gesture] = []
    last = -1.0  # before the clip the face was at rest
    for phone in alignment.phones:
        if phone.start - last > MAX_GAP:
            gestures.append(Gesture(targets.REST_TARGET, last, phone.start, is_pause=True))
        label = targets.canonical_phone(phone.label)
        middle = np.linspace(phone.start, phone.end, 7)[1:-1]
        level = float(voice.interpolate(middle, voice.level).mean())
        pitch = float(voice.interpolate(middle, voice.pitch).mean())
        parts = [(label, phone.start, phone.end)]
        if label in targets.DIPHTHONG_GLIDES:
            split = phone.start + targets.DIPHTHONG_SPLIT * (phone.end - phone.start)
            parts = [(label, phone.start, split), (targets.DIPHTHONG_GLIDES[label], split, phone.end)]
        for name, start, end in parts:
            target = targets.scale_target(
                targets.PHONE_TARGETS[name], style.effort, style.rounding, style.effort * style.jaw
            )
            gestures.append(Gesture(target, start, end, level, pitch, label in targets.VOWELS))
        last = phone.end
    gestures.append(Gesture(targets.REST_TARGET, last, duration + 1.0, is_pause=True))
    return gestures


def _blend_targets(
    values: list[float],
    gestures: list[Gesture],
    clock: np.ndarray,
    dynamics: Dynamics,
    style: SpeakingStyle,
    channel: str,
) -> np.ndarray:
    """Dominance-weighted targets, smoothed by the articulator's own inertia."""
    top, bottom = np.zeros(len(clock)), np.full(len(clock), 1e-8)
    for value, g in zip(values, gestures, strict=True):
        weight = getattr(g.target, f"{channel}_weight")
        before, after = dynamics.anticipation_rate, dynamics.carryover_rate
        if g.is_pause:
            before, after = dynamics.pause_anticipation_rate, dynamics.pause_carryover_rate
        elif g.is_labial and channel == "aperture":
            before, after = before * LABIAL_RATE_FACTOR, after * LABIAL_RATE_FACTOR
        elif g.is_vowel and dynamics.emphasis:
            louder = 1 + dynamics.emphasis * (np.clip(g.level, -25, 3) + 6) / 10 + PITCH_EMPHASIS * g.pitch
            value *= float(np.clip(louder, 0.5, 1.6))
        first = max(0, int((g.start - MAX_DISTANCE) / TIME_STEP))
        stop = max(first, int((g.end + MAX_DISTANCE) / TIME_STEP) + 1)
        t = clock[first:stop]
        away = before * np.maximum(g.start - t, 0) + after * np.maximum(t - g.end, 0)
        dominance = weight * np.exp(-np.minimum((style.tempo * away) ** dynamics.exponent, 60.0))
        top[first:stop] += dominance * value
        bottom[first:stop] += dominance
    return _critically_damped(top / bottom, dynamics.natural_frequency * style.tempo)


def _critically_damped(curve: np.ndarray, hz: float) -> np.ndarray:
    """A critically damped mass, forward and backward in time so that it does not lag."""
    omega = 2 * np.pi * hz
    s = np.arange(-int(0.4 / TIME_STEP), int(0.4 / TIME_STEP) + 1) * TIME_STEP
    kernel = (1 + omega * np.abs(s)) * np.exp(-omega * np.abs(s))
    half = len(s) // 2
    padded = np.pad(curve, half, mode="edge")
    return oaconvolve(padded, kernel / kernel.sum(), mode="valid")


def _ramp(clock: np.ndarray, start: float, end: float, rise: float, fall: float) -> np.ndarray:
    """1 between start and end, raised-cosine flanks outside."""
    x = np.clip((clock - start + rise) / rise, 0, 1) * np.clip((end + fall - clock) / fall, 0, 1)
    return 0.5 - 0.5 * np.cos(np.pi * x)


def _contact_curve(gestures: list[Gesture], clock: np.ndarray, contact: Contact) -> np.ndarray:
    """How far a contact is made, 0 to 1."""
    out = np.zeros(len(clock))
    for g in gestures:
        if g.target.contact is not contact:
            continue
        start, end = g.start, g.end
        if contact is Contact.BILABIAL:
            middle = (start + end) / 2
            hold = max(CLOSURE_SHARE * (end - start) / 2, CLOSURE_HOLD)
            start, end = middle - hold, middle + hold
        elif contact is Contact.LABIODENTAL:
            middle = (start + end) / 2
            start = min(start + LABIODENTAL_WINDOW[0], middle - 0.02)
            end = max(end + LABIODENTAL_WINDOW[1], middle + 0.02)
        flank = SIBILANT_RAMP if contact is Contact.SIBILANT else CLOSURE_RAMP
        first = max(0, int((start - 0.1) / TIME_STEP))
        stop = max(first, int((end + 0.1) / TIME_STEP) + 2)
        part = _ramp(clock[first:stop], start, end, flank, flank)
        out[first:stop] = np.maximum(out[first:stop], part)
    return out


def _tongue_curve(values: list[float], gestures: list[Gesture], clock: np.ndarray) -> np.ndarray:
    """The tongue is quick: each gesture with 40 ms flanks."""
    out = np.zeros(len(clock))
    for value, g in zip(values, gestures, strict=True):
        if value > 0:
            first = max(0, int((g.start - 0.1) / TIME_STEP))
            stop = max(first, int((g.end + 0.1) / TIME_STEP) + 2)
            part = value * _ramp(clock[first:stop], g.start + 0.01, g.end - 0.01, 0.045, 0.045)
            out[first:stop] = np.maximum(out[first:stop], part)
    return out


def _speech_activity(gestures: list[Gesture], clock: np.ndarray) -> np.ndarray:
    out = np.zeros(len(clock))
    for g in gestures:
        if not g.is_pause:
            out[(clock >= g.start) & (clock < g.end)] = 1.0
    return out


def _preparatory_opening(gestures: list[Gesture], clock: np.ndarray) -> np.ndarray:
    """The mouth opens a little in the 150–450 ms before speech begins, unless the first phone closes it."""
    out = np.zeros(len(clock))
    for pause, following in zip(gestures[:-1], gestures[1:], strict=True):
        if not pause.is_pause or following.is_pause or following.target.contact is Contact.BILABIAL:
            continue
        onset = following.start
        rise = 0.5 - 0.5 * np.cos(np.pi * np.clip((clock - (onset - 0.45)) / 0.3, 0, 1))
        fall = 0.5 - 0.5 * np.cos(np.pi * np.clip((onset + 0.05 - clock) / 0.15, 0, 1))
        room = np.clip((onset - max(pause.start, 0.0) - 0.2) / 0.3, 0, 1)  # a short pause leaves no time
        out += PREOPENING * room * rise * fall
    return out
