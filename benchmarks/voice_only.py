"""What --voice-only does where music or noise stands beside the sample recording.

    python benchmarks/voice_only.py

Prints, for each sound beside the speech and with and without `voice_only`: phones at the clean recording's places
(within 20 ms), and how far the mouth opens while the other sound is alone.
"""

from __future__ import annotations

import argparse

import numpy as np

from kmtalk import KMTalk, SoundSettings
from kmtalk.assets import asset_path
from kmtalk.speech.audio import SAMPLE_RATE, audio_from_samples, load_audio

ALONE = 4.0  # seconds before the speech, and after it, in which the other sound is alone


def music(seconds: float) -> np.ndarray:
    """Chords of plucked strings with a beat: samples (S,) with a peak of 1."""
    rng, out = np.random.default_rng(0), np.zeros(round(seconds * SAMPLE_RATE))
    chords = [(220.0, 277.2, 329.6), (174.6, 220.0, 261.6), (196.0, 246.9, 293.7), (164.8, 207.7, 246.9)]
    note = np.arange(round(0.5 * SAMPLE_RATE)) / SAMPLE_RATE
    for beat, start in enumerate(range(0, len(out) - len(note), len(note))):
        for pitch in chords[beat // 4 % 4]:
            for partial in range(1, 7):
                out[start : start + len(note)] += (
                    np.sin(2 * np.pi * partial * pitch * note) * np.exp(-3 * partial**0.5 * note) / partial
                )
        out[start : start + len(note)] += 2 * rng.standard_normal(len(note)) * np.exp(-60 * note)
    return out / np.abs(out).max()


def noise(seconds: float) -> np.ndarray:
    """Pink noise that swells, as of traffic: samples (S,) with a peak of 1."""
    count = round(seconds * SAMPLE_RATE)
    spectrum = np.fft.rfft(np.random.default_rng(1).standard_normal(count))
    out = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 20)), count)
    out *= 1 + 0.7 * np.sin(2 * np.pi * 0.3 * np.arange(count) / SAMPLE_RATE)
    return out / np.abs(out).max()


def slams(seconds: float) -> np.ndarray:
    """A door that falls shut every 1.3 s: samples (S,) with a peak of 1."""
    rng, out = np.random.default_rng(2), np.zeros(round(seconds * SAMPLE_RATE))
    decay = np.exp(-12 * np.arange(SAMPLE_RATE // 2) / SAMPLE_RATE)
    for start in range(SAMPLE_RATE // 2, len(out) - len(decay), round(1.3 * SAMPLE_RATE)):
        out[start : start + len(decay)] += np.cumsum(rng.standard_normal(len(decay))) * decay
    return out / np.abs(out).max()


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    talk = KMTalk(warn=lambda line: None)
    speech = load_audio(asset_path("speech.wav")).samples
    clean = talk.align(audio_from_samples(speech, SAMPLE_RATE))[1].phones
    silent = np.zeros(round(ALONE * SAMPLE_RATE), np.float32)
    print("sound         beside  under  voice_only  phones found  opening alone (95 %, most)")
    for name, make in (("music", music), ("noise", noise), ("door slams", slams)):
        for beside, under in ((-6, None), (-6, -30), (-6, -15)):
            whole = make(2 * ALONE + len(speech) / SAMPLE_RATE) * 0.5
            gain = np.full(len(whole), 10 ** (beside / 20))
            gain[len(silent) : len(silent) + len(speech)] = 0 if under is None else 10 ** (under / 20)
            mixed = np.concatenate([silent, speech, silent]) + (whole * gain)[: len(speech) + 2 * len(silent)]
            audio = audio_from_samples(mixed.astype(np.float32), SAMPLE_RATE, name)
            for voice_only in (False, True):
                made = talk.animate(audio, "light", sound=SoundSettings(voice_only=voice_only), expression=False)
                found = {(p.label, round(p.start - ALONE, 2)) for p in made.alignment.phones}
                near = [
                    any((p.label, round(p.start + d, 2)) in found for d in (-0.02, -0.01, 0, 0.01, 0.02)) for p in clean
                ]
                marks, mm = made.template.landmarks, made.template.mm_per_unit
                lips = made.vertices[:, [marks["lip_inner_upper"], marks["lip_inner_lower"]]]
                opening = np.linalg.norm(lips[:, 0] - lips[:, 1], axis=1) * mm
                times = (np.arange(len(opening)) + 0.5) / made.fps
                alone = opening[(times < ALONE - 0.3) | (times > ALONE + len(speech) / SAMPLE_RATE + 0.3)]
                print(
                    f"{name:<12} {beside:>4} dB  {'none' if under is None else f'{under} dB':>6}  {voice_only!s:<10} "
                    f"{sum(near):>4} of {len(near)}   {np.percentile(alone, 95):5.2f} {alone.max():5.2f} mm"
                )


if __name__ == "__main__":
    main()
