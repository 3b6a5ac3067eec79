"""Coarticulation: phones → mouth trajectories in millimetres over time.

Each channel (aperture, upper lip, width, protrusion, jaw) is the mean of the phones' targets T, weighted by a dominance
D that decreases with the distance τ in time (Cohen & Massaro 1993: D = α·exp(−(θ|τ|)^c), F = Σ D·T / Σ D). The result
is smoothed with the response of a critically damped mass (Saltzman & Munhall 1989), applied without lag. Contacts are
then enforced: bilabials close the lips, labiodentals bring the lower lip to the teeth, sibilants keep the jaw raised.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import gaussian_filter1d

from kmtalk.articulation import targets
from kmtalk.articulation.styles import SpeakingStyle
from kmtalk.articulation.targets import Contact, PhoneTarget
from kmtalk.speech.alignment import Alignment
from kmtalk.speech.phones import canonical_phone
from kmtalk.speech.prosody import Prosody

TIME_STEP = 0.005  # seconds between the samples of the internal curves
MAX_INFLUENCE_SECONDS = 0.6  # seconds from a phone beyond which its dominance is zero
MIN_PAUSE_SECONDS = 0.08  # seconds; a longer gap between phones is a pause


@dataclass(frozen=True)
class Dynamics:
    """Dominance and speed of one channel.

    Attributes:
        anticipation_rate: θ before a phone, in 1/s.
        carryover_rate: θ after a phone, in 1/s.
        pause_anticipation_rate: θ before a pause, in 1/s.
        pause_carryover_rate: θ after a pause, in 1/s.
        exponent: c.
        natural_frequency: Natural frequency of the articulator, in Hz.
        emphasis: Relative increase of a vowel's target per 10 dB of level.
    """

    anticipation_rate: float
    carryover_rate: float
    pause_anticipation_rate: float
    pause_carryover_rate: float
    exponent: float
    natural_frequency: float
    emphasis: float


# Aperture and width were fitted on the same clips as the targets; `kmtalk evaluate` measures the error on other clips.
# Several values lie on the bounds of the search, so they have no physiological meaning. The others and the emphasis are
# set by hand: rounding begins 60-200 ms early, and the jaw is slower than the lips.
APERTURE = Dynamics(39.9, 23.6, 13.8, 80.0, 1.88, 19.8, 0.04)
WIDTH = Dynamics(60.0, 17.9, 3.0, 80.0, 2.0, 6.1, 0.0)
PROTRUSION = Dynamics(12.0, 14.0, 8.0, 25.0, 1.0, 9.0, 0.0)
JAW = Dynamics(18.0, 20.0, 6.0, 14.0, 1.2, 8.0, 0.06)
LABIAL_RATE_FACTOR = 3.0  # lips that close move faster than the other articulators
PITCH_EMPHASIS = 0.005  # relative increase of a vowel's target per semitone above the speaker's median
FULL_EFFORT_JAW = 8.0  # mm of jaw drop from which effort acts in full: who speaks up opens low vowels above all
LEAST_EFFORT = 0.3  # exponent of the effort in phones with a high jaw
PREPARATORY_OPENING_MM = 4.0  # mm that the mouth opens before speech begins
CLOSURE_SHARE = 0.63  # share of a bilabial's duration for which the lips are closed
CLOSURE_SECONDS = 0.06  # seconds; minimum time for which the lips are closed
CLOSURE_RAMP = 0.04  # seconds from open to closed
LABIODENTAL_GAP = 1.5  # mm between the lips in f and v
LABIODENTAL_WINDOW = (0.021, 0.048)  # seconds that the contact begins after the phone's start and ends after its end
UPPER_LIP_SHARE = 0.15  # of an opening without phones
LOUD_JAW_SHARE = 0.6  # jaw drop per aperture where the mouth follows loudness
CROSSFADE = 0.1  # seconds of transition to loudness-driven motion where no phones were found
SIBILANT_JAW = 2.0  # mm; maximum jaw drop in a sibilant
SIBILANT_RAMP = 0.06  # seconds


@dataclass(frozen=True)
class ArticulatoryTrajectories:
    """Mouth trajectories of a clip with N frames.

    Attributes:
        aperture: (N,) gap between the inner lips in mm.
        upper_lip: (N,) rise of the upper lip in mm, relative to rest.
        width: (N,) distance of the mouth corners in mm, relative to rest.
        protrusion: (N,) forward movement of the lips in mm.
        jaw: (N,) jaw drop in mm.
        bilabial_closure: (N,) degree of bilabial contact, in [0, 1].
        shape_weights: Weights (N,) by name of the shapes that are set directly (tongue, labiodental, press).
    """

    aperture: np.ndarray
    upper_lip: np.ndarray
    width: np.ndarray
    protrusion: np.ndarray
    jaw: np.ndarray
    bilabial_closure: np.ndarray
    shape_weights: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Gesture:
    """An articulatory target over an interval.

    Attributes:
        target: The target.
        start: Start in seconds.
        end: End in seconds.
        level_db: Level in dB relative to the loud parts of the clip.
        pitch_semitones: Pitch in semitones relative to the speaker's median.
        is_vowel: True for vowels and diphthongs.
        is_pause: True for pauses, which have the target of rest.
    """

    target: PhoneTarget
    start: float
    end: float
    level_db: float = 0.0
    pitch_semitones: float = 0.0
    is_vowel: bool = False
    is_pause: bool = False

    @property
    def is_labial(self) -> bool:
        """True if the target is a bilabial or labiodental contact."""
        return self.target.contact in (Contact.BILABIAL, Contact.LABIODENTAL)


def trajectories_from_phones(
    alignment: Alignment,
    prosody: Prosody,
    duration: float,
    times: np.ndarray,
    style: SpeakingStyle,
    rng: np.random.Generator,
) -> ArticulatoryTrajectories:
    """Compute mouth trajectories from phones.

    Args:
        alignment: Phones of the clip.
        prosody: Loudness and pitch of the clip.
        duration: Length of the clip in seconds.
        times: (N,) frame times in seconds.
        style: Speaking style.
        rng: Source of the random variation (`SpeakingStyle.residual`).

    Returns:
        Trajectories at `times`.
    """
    gestures = gestural_score(alignment, prosody, duration, style)
    clock = np.arange(int(duration / TIME_STEP) + 2) * TIME_STEP
    aperture = _blend_targets([g.target.aperture for g in gestures], gestures, clock, APERTURE, style, "aperture")
    preparation = _preparatory_opening(gestures, clock)
    aperture = np.maximum(aperture + preparation, 0.0)
    upper_lip = _blend_targets([g.target.upper_lip for g in gestures], gestures, clock, APERTURE, style, "aperture")
    upper_lip = upper_lip + UPPER_LIP_SHARE * preparation
    width = _blend_targets([g.target.width for g in gestures], gestures, clock, WIDTH, style, "width")
    protrusion = _blend_targets(
        [g.target.protrusion for g in gestures], gestures, clock, PROTRUSION, style, "protrusion"
    )
    jaw = np.maximum(_blend_targets([g.target.jaw for g in gestures], gestures, clock, JAW, style, "jaw"), 0.0)
    if style.noise_mm > 0:
        speaking = gaussian_filter1d(_speech_activity(gestures, clock), 0.06 / TIME_STEP)
        for curve, size in ((aperture, 1.0), (width, 1.0), (jaw, 0.6)):
            noise = gaussian_filter1d(rng.normal(size=len(clock)), 0.05 / TIME_STEP)
            noise *= style.noise_mm * size / max(noise.std(), 1e-9)
            curve += noise * speaking * (1.0 if curve is width else np.clip(curve / 4.0, 0, 1))
    bilabial = _contact_curve(gestures, clock, Contact.BILABIAL)
    labiodental = _contact_curve(gestures, clock, Contact.LABIODENTAL)
    sibilant = _contact_curve(gestures, clock, Contact.SIBILANT)
    aperture = (1 - labiodental) * aperture + labiodental * np.minimum(aperture, LABIODENTAL_GAP)
    aperture = (1 - bilabial) * aperture
    jaw = (1 - sibilant) * jaw + sibilant * np.minimum(jaw, SIBILANT_JAW * style.jaw)
    shapes = {
        "mouthLabiodental": 0.85 * labiodental * (1 - bilabial),
        **_tongue_curves(gestures, clock),
        "mouthPressLeft": 0.12 * bilabial,
        "mouthPressRight": 0.12 * bilabial,
    }

    def sample(curve: np.ndarray) -> np.ndarray:
        return np.interp(times, clock, curve)

    return ArticulatoryTrajectories(
        sample(aperture),
        sample(upper_lip),
        sample(width),
        sample(protrusion),
        sample(jaw),
        sample(bilabial),
        {name: np.clip(sample(curve), 0, 1) for name, curve in shapes.items()},
    )


def trajectories_from_loudness(prosody: Prosody, times: np.ndarray, style: SpeakingStyle) -> ArticulatoryTrajectories:
    """Compute mouth trajectories without phones: the mouth opens with the level of the voiced parts.

    Args:
        prosody: Loudness and pitch of the clip.
        times: (N,) frame times in seconds.
        style: Speaking style.

    Returns:
        Trajectories at `times`; width and protrusion are zero.
    """
    level = np.clip(prosody.level_db / 25 + 1, 0, 1) * np.clip(0.35 + prosody.voiced, 0, 1)
    opening = 9.0 * style.effort * prosody.interpolate(times, gaussian_filter1d(level, 3.0)) ** 1.3
    zero = np.zeros_like(opening)
    return ArticulatoryTrajectories(
        opening, UPPER_LIP_SHARE * opening, zero, zero, LOUD_JAW_SHARE * style.jaw * opening, zero
    )


def crossfade_span(
    span: tuple[float, float], times: np.ndarray, inner: ArticulatoryTrajectories, outer: ArticulatoryTrajectories
) -> ArticulatoryTrajectories:
    """Replace part of a clip's trajectories.

    Args:
        span: Start and end of the part in seconds.
        times: (N,) frame times in seconds.
        inner: Trajectories inside the span. Their `shape_weights` are not used.
        outer: Trajectories outside the span.

    Returns:
        Trajectories that are cross-faded over `CROSSFADE` seconds at both ends, inside the span.
    """
    start, end = span
    share = np.clip(np.minimum(times - start, end - times) / CROSSFADE, 0, 1)

    def mixed(name: str) -> np.ndarray:
        return share * getattr(inner, name) + (1 - share) * getattr(outer, name)

    return ArticulatoryTrajectories(
        mixed("aperture"),
        mixed("upper_lip"),
        mixed("width"),
        mixed("protrusion"),
        mixed("jaw"),
        mixed("bilabial_closure"),
        {name: curve * (1 - share) for name, curve in outer.shape_weights.items()},
    )


def bilabial_closure(
    alignment: Alignment,
    times: np.ndarray,
    release: float = CLOSURE_RAMP,
    hold: tuple[float, float] = (CLOSURE_SHARE, CLOSURE_SECONDS),
) -> np.ndarray:
    """Return the degree (N,) of lip closure by p, b and m at `times` (N,) in seconds, in [0, 1].

    Args:
        alignment: Phones of the clip.
        times: Times (N,) in seconds.
        release: Time in seconds over which the lips part.
        hold: Share of the phone for which the lips are closed, and its minimum in seconds.
    """
    gestures, clock = _phone_gestures(alignment, times)
    out: np.ndarray = np.interp(times, clock, _contact_curve(gestures, clock, Contact.BILABIAL, release, hold))
    return out


def contact_degree(alignment: Alignment, times: np.ndarray, contact: Contact) -> np.ndarray:
    """Return the degree (N,) of a contact at `times` (N,) in seconds, in [0, 1]."""
    gestures, clock = _phone_gestures(alignment, times)
    out: np.ndarray = np.interp(times, clock, _contact_curve(gestures, clock, contact))
    return out


def tongue_curves(alignment: Alignment, times: np.ndarray) -> dict[str, np.ndarray]:
    """Return the weights (N,) of tongueTipUp, tongueInterdental and tongueDorsumUp at `times` (N,) in seconds."""
    gestures, clock = _phone_gestures(alignment, times)
    return {name: np.interp(times, clock, curve) for name, curve in _tongue_curves(gestures, clock).items()}


def _phone_gestures(alignment: Alignment, times: np.ndarray) -> tuple[list[Gesture], np.ndarray]:
    """Return one gesture per phone, with its target as it is, and the clock of the internal curves up to `times`."""
    labelled = [(targets.PHONE_TARGETS[canonical_phone(p.label)], p) for p in alignment.phones]
    clock = np.arange(int(times[-1] / TIME_STEP) + 2) * TIME_STEP
    return [Gesture(target, p.start, p.end) for target, p in labelled], clock


def gestural_score(alignment: Alignment, prosody: Prosody, duration: float, style: SpeakingStyle) -> list[Gesture]:
    """Compute the gestural score: one gesture per phone and pause, and two per diphthong, in time order.

    Args:
        alignment: Phones of the clip.
        prosody: Loudness and pitch of the clip.
        duration: Length of the clip in seconds.
        style: Speaking style, which scales the targets.
    """
    gestures: list[Gesture] = []
    previous_end = -1.0  # the face is at rest before the clip
    for phone in alignment.phones:
        if phone.start - previous_end > MIN_PAUSE_SECONDS:
            gestures.append(Gesture(targets.REST_TARGET, previous_end, phone.start, is_pause=True))
        label = canonical_phone(phone.label)
        middle = np.linspace(phone.start, phone.end, 7)[1:-1]
        level = float(prosody.interpolate(middle, prosody.level_db).mean())
        pitch = float(prosody.interpolate(middle, prosody.pitch_semitones).mean())
        parts = [(label, phone.start, phone.end)]
        if label in targets.DIPHTHONG_GLIDES:
            split = phone.start + targets.DIPHTHONG_SPLIT * (phone.end - phone.start)
            parts = [(label, phone.start, split), (targets.DIPHTHONG_GLIDES[label], split, phone.end)]
        for name, start, end in parts:
            target = targets.PHONE_TARGETS[name]
            effort = style.effort ** np.clip(target.jaw / FULL_EFFORT_JAW, LEAST_EFFORT, 1.0)
            target = targets.scale_target(target, effort, style.rounding, effort * style.jaw)
            gestures.append(Gesture(target, start, end, level, pitch, label in targets.VOWELS))
        previous_end = phone.end
    gestures.append(Gesture(targets.REST_TARGET, previous_end, duration + 1.0, is_pause=True))
    return gestures


def _blend_targets(
    values: list[float],
    gestures: list[Gesture],
    clock: np.ndarray,
    dynamics: Dynamics,
    style: SpeakingStyle,
    channel: str,
) -> np.ndarray:
    """Return a channel at the times `clock`: the dominance-weighted mean of `values`, smoothed."""
    numerator, denominator = np.zeros(len(clock)), np.full(len(clock), 1e-8)
    for value, g in zip(values, gestures, strict=True):
        weight = getattr(g.target, f"{channel}_weight")
        before, after = dynamics.anticipation_rate, dynamics.carryover_rate
        if g.is_pause:
            before, after = dynamics.pause_anticipation_rate, dynamics.pause_carryover_rate
        elif g.is_labial and channel == "aperture":
            before, after = before * LABIAL_RATE_FACTOR, after * LABIAL_RATE_FACTOR
        elif g.is_vowel and dynamics.emphasis:
            scale = 1 + dynamics.emphasis * (np.clip(g.level_db, -25, 3) + 6) / 10 + PITCH_EMPHASIS * g.pitch_semitones
            value *= float(np.clip(scale, 0.5, 1.6))
        first = max(0, int((g.start - MAX_INFLUENCE_SECONDS) / TIME_STEP))
        stop = max(first, int((g.end + MAX_INFLUENCE_SECONDS) / TIME_STEP) + 1)
        t = clock[first:stop]
        distance = before * np.maximum(g.start - t, 0) + after * np.maximum(t - g.end, 0)
        dominance = weight * np.exp(-np.minimum((style.tempo * distance) ** dynamics.exponent, 60.0))
        numerator[first:stop] += dominance * value
        denominator[first:stop] += dominance
    return _critically_damped(numerator / denominator, dynamics.natural_frequency * style.tempo)


def _critically_damped(curve: np.ndarray, hz: float) -> np.ndarray:
    """Filter a curve with a critically damped mass, forward and backward in time so that there is no lag."""
    from scipy.signal import oaconvolve  # slow to import

    omega = 2 * np.pi * hz
    s = np.arange(-int(0.4 / TIME_STEP), int(0.4 / TIME_STEP) + 1) * TIME_STEP
    kernel = (1 + omega * np.abs(s)) * np.exp(-omega * np.abs(s))
    half = len(s) // 2
    padded = np.pad(curve, half, mode="edge")
    return oaconvolve(padded, kernel / kernel.sum(), mode="valid")


def _ramp(clock: np.ndarray, start: float, end: float, rise: float, fall: float) -> np.ndarray:
    """Return 1 between `start` and `end` with raised-cosine flanks of `rise` and `fall` seconds outside."""
    x = np.clip((clock - start + rise) / rise, 0, 1) * np.clip((end + fall - clock) / fall, 0, 1)
    return 0.5 - 0.5 * np.cos(np.pi * x)


def _contact_curve(
    gestures: list[Gesture],
    clock: np.ndarray,
    contact: Contact,
    release: float | None = None,
    closure: tuple[float, float] = (CLOSURE_SHARE, CLOSURE_SECONDS),
) -> np.ndarray:
    """Return the degree of a contact at the times `clock`, in [0, 1]; it ends over `release` seconds."""
    out = np.zeros(len(clock))
    for g in gestures:
        if g.target.contact is not contact:
            continue
        start, end = g.start, g.end
        if contact is Contact.BILABIAL:
            middle = (start + end) / 2
            hold = max(closure[0] * (end - start), closure[1]) / 2
            start, end = middle - hold, middle + hold
        elif contact is Contact.LABIODENTAL:
            middle = (start + end) / 2
            start = min(start + LABIODENTAL_WINDOW[0], middle - 0.02)
            end = max(end + LABIODENTAL_WINDOW[1], middle + 0.02)
        flank = SIBILANT_RAMP if contact is Contact.SIBILANT else CLOSURE_RAMP
        first = max(0, int((start - 0.1) / TIME_STEP))
        stop = max(first, int((end + 0.2) / TIME_STEP) + 2)
        part = _ramp(clock[first:stop], start, end, flank, release or flank)
        out[first:stop] = np.maximum(out[first:stop], part)
    return out


def _tongue_curve(values: list[float], gestures: list[Gesture], clock: np.ndarray) -> np.ndarray:
    """Return the weight of a tongue shape at the times `clock`; each gesture has flanks of 45 ms."""
    out = np.zeros(len(clock))
    for value, g in zip(values, gestures, strict=True):
        if value > 0:
            first = max(0, int((g.start - 0.1) / TIME_STEP))
            stop = max(first, int((g.end + 0.1) / TIME_STEP) + 2)
            part = value * _ramp(clock[first:stop], g.start + 0.01, g.end - 0.01, 0.045, 0.045)
            out[first:stop] = np.maximum(out[first:stop], part)
    return out


def _tongue_curves(gestures: list[Gesture], clock: np.ndarray) -> dict[str, np.ndarray]:
    """Return the weights of the tongue's shapes at the times `clock`; a raised tip leaves the back no room."""
    tip = _tongue_curve([g.target.tongue_tip_up for g in gestures], gestures, clock)
    between = _tongue_curve([g.target.tongue_interdental for g in gestures], gestures, clock)
    back = _tongue_curve([g.target.tongue_dorsum_up for g in gestures], gestures, clock)
    room = 1 - np.clip(tip + between, 0, 1)
    return {"tongueTipUp": tip, "tongueInterdental": between, "tongueDorsumUp": back * room}


def _speech_activity(gestures: list[Gesture], clock: np.ndarray) -> np.ndarray:
    """Return 1 during phones and 0 during pauses."""
    out = np.zeros(len(clock))
    for g in gestures:
        if not g.is_pause:
            out[slice(*np.searchsorted(clock, (g.start, g.end)))] = 1.0
    return out


def _preparatory_opening(gestures: list[Gesture], clock: np.ndarray) -> np.ndarray:
    """Return the opening in mm in the 450 ms before speech begins, except before a bilabial."""
    out = np.zeros(len(clock))
    for pause, following in zip(gestures[:-1], gestures[1:], strict=True):
        if not pause.is_pause or following.is_pause or following.target.contact is Contact.BILABIAL:
            continue
        onset = following.start
        part = slice(*np.searchsorted(clock, (onset - 0.45, onset + 0.05)))
        rise = 0.5 - 0.5 * np.cos(np.pi * np.clip((clock[part] - (onset - 0.45)) / 0.3, 0, 1))
        fall = 0.5 - 0.5 * np.cos(np.pi * np.clip((onset + 0.05 - clock[part]) / 0.15, 0, 1))
        room = np.clip((onset - max(pause.start, 0.0) - 0.2) / 0.3, 0, 1)  # no opening in short pauses
        out[part] += PREPARATORY_OPENING_MM * room * rise * fall
    return out
