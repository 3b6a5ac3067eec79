"""Forty human prompts of a voice never trained on: word errors, alignments found, key frames, mouths.

    apt-get install asterisk-core-sounds-en-wav asterisk-core-sounds-en
    python benchmarks/prompts.py [--count 40] [--seed 0] [--whisper base]

Prompts: Debian's asterisk-core-sounds-en-wav (Allison Smith, CC BY-SA 3.0, 8 kHz) with the transcripts
in asterisk-core-sounds-en's documentation; those of 40 to 220 characters without ellipses, stage
directions or symbols, ``count`` of them drawn by ``seed``. Word error rate after Whisper's own English
normaliser on both sides (the field's convention; some transcripts are misspelt, and count as errors).
Alignments: the prompt with its true text is accepted by the embedded aligner, and with the text of the
next prompt refused. Key frames: share of frames at 30 fps. With an MFA model (``--acoustic`` and
``--dictionary``) also: share of PocketSphinx's phones that it finds as well, in order and stress apart,
and how far apart the two place their starts.

Mouths, by the true text's phones, of the rules and of the network (with and without motion.finish), on
the rig's own lips at 30 fps: share of p b m whose least aperture is within 10 % of the prompt's open range
(95th percentile over the least), and stillness in silences of 300 ms and more: share whose aperture's
standard deviation is within 1 % of the open range, less 100 ms after and before speech, and over the whole
silence, in which lips come to rest and make ready.
"""

from __future__ import annotations

import argparse
import difflib
import gzip
import random
from pathlib import Path

import numpy as np
from whisper.normalizers import EnglishTextNormalizer

from kmtalk import KMTalk, keys, metrics
from kmtalk.articulation.mouth_solver import MouthSolver
from kmtalk.articulation.speaker import SimulatedSpeaker
from kmtalk.articulation.styles import SPEAKING_STYLES
from kmtalk.face.motion import frame_count
from kmtalk.motion.inference import predict_motion, select_key_frames
from kmtalk.motion.styles import DEFAULT_STYLE, style_mixture
from kmtalk.speech.alignment import Alignment
from kmtalk.speech.alignment_pipeline import AlignmentError, Transcript
from kmtalk.speech.audio import Audio, load_audio
from kmtalk.speech.mfa_aligner import MfaAligner
from kmtalk.speech.pocketsphinx_aligner import PocketSphinxAligner
from kmtalk.speech.transcribe import Transcriber

SOUNDS = Path("/usr/share/asterisk/sounds/en_US_f_Allison")
TEXTS = Path("/usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz")


def prompts(count: int, seed: int) -> list[tuple[Path, str]]:
    if not (SOUNDS.is_dir() and TEXTS.is_file()):
        raise SystemExit("apt-get install asterisk-core-sounds-en-wav asterisk-core-sounds-en")
    texts = {}
    for line in gzip.decompress(TEXTS.read_bytes()).decode().splitlines():
        name, colon, text = line.partition(":")
        if colon and not line.startswith(";"):
            texts[name.strip()] = text.strip()
    fit = [
        (SOUNDS / f"{name}.wav", text)
        for name, text in sorted(texts.items())
        if 40 < len(text) < 220
        and not any(mark in text for mark in ("...", "*", "(", "[", "#"))
        and (SOUNDS / f"{name}.wav").is_file()
    ]
    random.Random(seed).shuffle(fit)
    return fit[:count]


def word_errors(said: list[str], heard: list[str]) -> int:
    """Levenshtein distance over words."""
    row = np.arange(len(heard) + 1)
    for i, a in enumerate(said, 1):
        previous, row[0] = row.copy(), i
        for j, b in enumerate(heard, 1):
            row[j] = min(previous[j] + 1, row[j - 1] + 1, previous[j - 1] + (a != b))
    return int(row[-1])


def starts_apart(ours: Alignment, theirs: Alignment) -> list[float]:
    """Seconds between the starts of phones that both have, in order."""
    left, right = ([p.label.rstrip("012") for p in a.phones] for a in (ours, theirs))
    blocks = difflib.SequenceMatcher(None, left, right, autojunk=False).get_matching_blocks()
    pairs = [(ours.phones[b.a + k], theirs.phones[b.b + k]) for b in blocks for k in range(b.size)]
    return [abs(p.start - q.start) for p, q in pairs]


def score_mouths(chosen: list[tuple[Path, str]]) -> None:
    talk = KMTalk()
    speaker, solver = SimulatedSpeaker(talk.rig), MouthSolver(talk.rig)
    network = talk.network
    columns = [talk.rig.index[n] for n in network.config.shape_names]

    def by_rules(audio: Audio, alignment: Alignment) -> np.ndarray:
        return speaker.mouth_weights(alignment, audio, 30.0, SPEAKING_STYLES["neutral"])

    def by_network(audio: Audio, alignment: Alignment) -> np.ndarray:
        return talk.predictor.predict(talk.rig, alignment, audio, 30.0, DEFAULT_STYLE)

    def unfinished(audio: Audio, alignment: Alignment) -> np.ndarray:
        count = frame_count(audio.duration, 30.0)
        out = np.zeros((count, len(talk.rig.names)))
        located = select_key_frames(alignment, count, 30.0, network.config.key_placement)
        style = style_mixture(network.config, DEFAULT_STYLE)
        out[:, columns] = predict_motion(network, talk.predictor.encode_audio(audio), located, count, 30.0, style)
        return out

    heard = [talk.align(path, text=text) for path, text in chosen]
    for name, perform in (("rules", by_rules), ("network", by_network), ("  unfinished", unfinished)):
        shut, still, whole = [], [], []
        for audio, alignment in heard:
            mouth = solver.measure(perform(audio, alignment)).frontal_channels
            wide, spans = metrics.open_range(mouth), metrics.find_silences(alignment, audio.duration)
            shut += [least / wide for least in metrics.minimum_apertures(mouth, alignment, 30.0)]
            still += [s / wide for s in metrics.silence_deviations(mouth, 30.0, spans, 0.1, 0.1)]
            whole += [s / wide for s in metrics.silence_deviations(mouth, 30.0, spans, 0.0, 0.0)]
        print(
            f"{name:12s} closed {100 * np.mean(np.array(shut) <= 0.1):5.1f} % of {len(shut)} p b m;  "
            f"still {100 * np.mean(np.array(still) <= 0.01):5.1f} % of {len(still)} silences "
            f"(whole: {100 * np.mean(np.array(whole) <= 0.01):.1f} %, SD {100 * np.median(whole):.1f} % in median)"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--whisper", default="base")
    parser.add_argument("--acoustic", help="an MFA acoustic model to compare with the embedded aligner")
    parser.add_argument("--dictionary")
    options = parser.parse_args()
    chosen = prompts(options.count, options.seed)
    ears, aligner, plain = Transcriber(options.whisper), PocketSphinxAligner(), EnglishTextNormalizer()
    mfa = MfaAligner(options.acoustic, options.dictionary) if options.acoustic else None
    apart: list[float] = []
    errors = words = found = refused = key_frames = frames = phones = 0
    for (path, text), (_, other) in zip(chosen, [*chosen[1:], chosen[0]], strict=True):
        audio = load_audio(path)
        said, heard = plain(text).split(), plain(ears.transcribe(audio, "en").text).split()
        mistakes = word_errors(said, heard)
        errors, words = errors + mistakes, words + len(said)
        if mistakes:
            print(f"  {mistakes} in: {' '.join(heard)}\n     for: {' '.join(said)}")
        try:
            alignment = aligner.align(audio, Transcript(text))
        except AlignmentError as error:
            print(f"  not aligned: {path.stem}: {error}")
        else:
            found += 1
            count = frame_count(audio.duration, 30.0)
            if mfa is not None:
                apart += starts_apart(mfa.align(audio, Transcript(text)), alignment)
                phones += len(alignment.phones)
            key_frames, frames = key_frames + len(keys.locate_key_frames(alignment, count, 30.0)), frames + count
        try:
            aligner.align(audio, Transcript(other))
        except AlignmentError:
            refused += 1
    print(f"{len(chosen)} human prompts, Whisper {options.whisper}, PocketSphinx, 30 fps")
    print(f"word error rate          {100 * errors / words:.2f} %  ({errors} of {words} words)")
    print(f"true text aligned        {100 * found / len(chosen):.1f} %")
    print(f"another's text refused   {100 * refused / len(chosen):.1f} %")
    print(f"key frames               {100 * key_frames / frames:.1f} % of frames")
    if mfa is not None:
        median, near = np.median(np.abs(apart)), np.mean(np.array(apart) <= 0.025)
        print(f"MFA against PocketSphinx {100 * len(apart) / phones:.1f} % of phones the same; starts apart by")
        print(f"                         {1000 * median:.0f} ms in median, 25 ms or less in {100 * near:.0f} %")
    score_mouths(chosen)


if __name__ == "__main__":
    main()
