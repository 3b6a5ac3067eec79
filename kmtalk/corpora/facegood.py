"""FACEGOOD: curves of a face rig that animators made of one woman speaking Mandarin (MIT, FACEGOOD-Audio2Face).

The user passes the folder. Its curves show rounding and closure as animators make them; they are mapped to the default
rig's shapes. It has no transcript, so that Whisper and espeak-ng give the phones, whose times are found by the English
aligner's nearest phones.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from kmtalk.array_files import load_arrays
from kmtalk.articulation.speaker import SimulatedSpeaker
from kmtalk.articulation.styles import SPEAKING_STYLES
from kmtalk.corpora.folder import MANIFEST_NAME
from kmtalk.corpora.mesh_corpus import TEXTGRID_DIR
from kmtalk.errors import InputError
from kmtalk.face.rig import Rig
from kmtalk.progress import Progress
from kmtalk.speech.alignment import write_textgrid
from kmtalk.speech.alignment_pipeline import AlignmentError
from kmtalk.speech.audio import SAMPLE_RATE, audio_from_samples, load_audio
from kmtalk.speech.espeak import espeak
from kmtalk.speech.phones import canonical_phone
from kmtalk.speech.pocketsphinx_aligner import PocketSphinxAligner
from kmtalk.speech.transcriber import Transcriber
from kmtalk.synthesis.voices import Voice, install_command

STYLE = "facegood"
CORPUS_NAME = "FACEGOOD, curves by animators, mapped"
LEAD_FRAMES = 1  # frames by which the curves follow the sound
MIN_CLIP_SECONDS = 1.0  # seconds; shorter segments are left out

_SIDES = ("l", "r")
_RULE_SHAPES = ("tongueTipUp", "tongueInterdental", "tongueDorsumUp", "mouthLabiodental")


def map_curves(curves: dict[str, np.ndarray], rig: Rig) -> np.ndarray:
    """Map FACEGOOD's curves to weights of the default rig.

    Corner pull, chin raise and tooth curves are left out: speech motion does not move those shapes.

    Args:
        curves: Curves (N,) by name, in [0, 1].
        rig: Rig with the shapes of the default head.

    Returns:
        Weights (N, R) in [0, 1].
    """
    c = {name: np.asarray(values, np.float64) for name, values in curves.items()}

    def mean(*names: str) -> np.ndarray:
        out: np.ndarray = np.mean([c[n] for n in names], axis=0)
        return out

    funnel = mean(*(f"mouth_funnel_{lip}{side}" for lip in "du" for side in _SIDES))
    pucker = mean(*(f"mouth_pucker_{side}" for side in _SIDES))
    suck = mean(*(f"mouth_suck_{lip}{side}" for lip in "du" for side in _SIDES))
    press = mean(*(f"mouth_press_{side}" for side in _SIDES))
    # the full jaw of the rig drops by 27 mm, as the curve's would; "oh" and "oo" are mouths with an open jaw
    jaw = 0.85 * c["mouth_stretch_c"] + 0.2 * c["mouth_oh_c"] + 0.1 * c["mouth_oo_c"]
    shapes = {
        "jawOpen": jaw,
        "mouthClose": jaw * np.clip(4 * (press + suck), 0, 1),  # lips pressed or drawn in touch
        "mouthFunnel": funnel + 0.5 * c["mouth_oh_c"],
        "mouthPucker": pucker + c["mouth_oo_c"],
        "mouthProtrude": 0.4 * c["mouth_oo_c"],
    }
    for side, name in zip(_SIDES, ("Left", "Right"), strict=True):
        shapes |= {
            f"mouthLowerDown{name}": c[f"mouth_lowerLipDepress_{side}"],
            f"mouthUpperUp{name}": c[f"mouth_upperLipRaise_{side}"],
            f"mouthStretch{name}": c[f"mouth_lipStretch_{side}"],
            f"mouthPress{name}": press + 0.5 * suck,
        }
    out = np.zeros((len(jaw), len(rig.shape_names)))
    for name, values in shapes.items():
        out[:, rig.index[name]] = np.clip(values, 0, 1)
    return out


def mandarin_phones(text: str) -> list[list[str]]:
    """Return the ARPAbet phones of each word of a Mandarin text, by espeak-ng's rules."""
    out = []
    for word in espeak().ipa_words("cmn", text):
        plain = re.sub(r"[\dɜˈˌ-]", "", word)  # espeak writes the second tone as ɜ
        for written, ipa in (("ts.", "tʂ"), ("s.", "ʂ"), ("nɡ", "ŋ"), ("i.", "ɨ"), ("i\u032a", "ɨ")):
            plain = plain.replace(written, ipa)
        plain = re.sub(r"(?<=[ptkɕsʂ])h", "", plain)  # aspiration
        labels = re.findall(r"tɕ|tʂ|ts|ai|ei|ɑu|ou|[^\W\d_]", plain)
        diphthongs = {"ai": "AY", "ei": "EY", "ɑu": "AW", "ou": "OW", "y": "UW"}
        phones = [diphthongs.get(label) or canonical_phone(label) for label in labels]
        if phones:
            out.append(phones)
    return out


def build_facegood_corpus(
    source: Path,
    folder: Path,
    rig: Rig,
    transcriber: Transcriber,
    progress: Progress | None = None,
    warn: Callable[[str], None] = lambda line: None,
) -> int:
    """Convert FACEGOOD to a folder of clips with a rig's weights, one clip per segment that Whisper finds.

    Tongue and labiodental contact, which the curves lack, are those of the simulated speaker.

    Args:
        source: Folder with `curves.npz` and `audio/`.
        folder: Folder of the corpus; for kind rig (`load_rig_folder`).
        rig: Rig to animate.
        transcriber: Transcribes the Mandarin sound.
        progress: Receives progress.
        warn: Receives one line per segment that is left out.

    Returns:
        The number of clips.

    Raises:
        InputError: `source` is not FACEGOOD, or espeak-ng is not installed.
    """
    missing = install_command(Voice("espeak", ""))
    if missing:
        raise InputError(f"phones of Mandarin need espeak-ng; {missing}")
    if not (source / "curves.npz").is_file():
        raise InputError(f"{source}: not FACEGOOD's data: it has no curves.npz")
    try:
        arrays = load_arrays(source / "curves.npz")
        names, starts = [str(n) for n in arrays["names"]], arrays["start"].tolist()
        values, takes, fps = arrays["values"].astype(np.float32), [str(t) for t in arrays["clip"]], float(arrays["fps"])
        if values.shape[1:] != (len(names),) or len(starts) != len(takes) + 1 or not 0 < fps < 10_000:
            raise ValueError("its arrays contradict one another")
    except InputError:
        raise
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(f"{source / 'curves.npz'}: not FACEGOOD's curves ({error}); unpack them again") from None
    speaker, aligner, progress = SimulatedSpeaker(rig), PocketSphinxAligner(), progress or Progress()
    for subfolder in ("audio", "motion", TEXTGRID_DIR):
        (folder / subfolder).mkdir(parents=True, exist_ok=True)
    clips: list[dict[str, object]] = []
    with progress.stage("takes", len(takes)) as advance:
        for number, take in enumerate(takes):
            advance(number)
            rows = values[starts[number] + LEAD_FRAMES : starts[number + 1]]
            motion = map_curves({n: rows[:, i] for i, n in enumerate(names)}, rig)
            audio = load_audio(source / "audio" / f"{take}.flac")
            for segment in transcriber.transcribe(audio, "zh").segments:
                first, last = round(segment.start * fps), min(round(segment.end * fps), len(motion))
                if last - first < MIN_CLIP_SECONDS * fps:
                    continue
                samples = audio.samples[round(first / fps * SAMPLE_RATE) : round(last / fps * SAMPLE_RATE)]
                part = audio_from_samples(samples, SAMPLE_RATE, take)
                try:
                    alignment = aligner.align_phones(part, mandarin_phones(segment.text))
                except AlignmentError as error:
                    warn(f"{take}, {segment.start:.1f} to {segment.end:.1f} s left out: {error}")
                    continue
                weights = motion[first:last]
                rules = speaker.mouth_weights(alignment, part, fps, SPEAKING_STYLES["neutral"])
                for name in _RULE_SHAPES:
                    weights[:, rig.index[name]] = rules[: len(weights), rig.index[name]]
                stem = f"{take}-{first:05d}"
                soundfile.write(folder / "audio" / f"{stem}.flac", samples, SAMPLE_RATE)
                np.save(folder / "motion" / f"{stem}.npy", weights.astype(np.float32))
                write_textgrid(alignment, folder / TEXTGRID_DIR / f"{stem}.TextGrid", part.duration)
                paths = {"audio": f"audio/{stem}.flac", "motion": f"motion/{stem}.npy"}
                clips.append({"name": stem, **paths, "fps": fps, "identity": STYLE})
    if not clips:
        raise InputError(f"{source}: no speech could be aligned")
    manifest = {"name": CORPUS_NAME, "shapes": list(rig.shape_names), "clips": clips}
    (folder / MANIFEST_NAME).write_text(json.dumps(manifest) + "\n")
    return len(clips)
