"""Accuracy on forty human prompts of an unseen voice: transcription, alignment, key frames and mouths.

    apt-get install asterisk-core-sounds-en-wav asterisk-core-sounds-en
    python benchmarks/prompts.py [--count 40] [--seed 0] [--whisper base]

Prompts: Debian's asterisk-core-sounds-en-wav (Allison Smith, CC BY-SA 3.0, 8 kHz) with the transcripts in
asterisk-core-sounds-en's documentation; of those with 40 to 220 characters and without ellipses, stage directions or
symbols, `count` are drawn by `seed`.

- Word error rate: after Whisper's English normaliser on both sides (the field's convention; some transcripts are
  misspelt, and count as errors).
- Alignment: how often PocketSphinx accepts the true text, and refuses the text of the next prompt.
- Key frames: share of frames at 30 fps.
- With an MFA model (`--acoustic-model` and `--dictionary`): share of PocketSphinx's phones that MFA finds too, in order
  and ignoring stress, and the difference of their starts.
- Mouths, by the phones of the true text, of the rules and of the network (with and without
  `kmtalk.motion.postprocessing`), measured on the rig's own lips at 30 fps: share of p, b and m whose minimum aperture
  is within 10 % of the prompt's open range (95th percentile minus minimum); and stillness in silences of 300 ms and
  more: share of silences whose standard deviation of the aperture is within 1 % of the open range, without 100 ms after
  and before speech, and over the whole silence, in which lips settle and prepare.
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
from kmtalk.speech.alignment_pipeline import AlignmentError
from kmtalk.speech.audio import Audio, load_audio
from kmtalk.speech.mfa_aligner import MfaAligner
from kmtalk.speech.pocketsphinx_aligner import PocketSphinxAligner
from kmtalk.speech.transcribe import load_transcriber

SOUNDS = Path("/usr/share/asterisk/sounds/en_US_f_Allison")
TEXTS = Path("/usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz")


def load_prompts(count: int, seed: int) -> list[tuple[Path, str]]:
    """Audio files and transcripts of `count` prompts drawn by `seed`."""
    if not (SOUNDS.is_dir() and TEXTS.is_file()):
        raise SystemExit("apt-get install asterisk-core-sounds-en-wav asterisk-core-sounds-en")
    texts = {}
    for line in gzip.decompress(TEXTS.read_bytes()).decode().splitlines():
        name, colon, text = line.partition(":")
        if colon and not line.startswith(";"):
            texts[name.strip()] = text.strip()
    suitable = [
        (SOUNDS / f"{name}.wav", text)
        for name, text in sorted(texts.items())
        if 40 < len(text) < 220
        and not any(mark in text for mark in ("...", "*", "(", "[", "#"))
        and (SOUNDS / f"{name}.wav").is_file()
    ]
    random.Random(seed).shuffle(suitable)
    return suitable[:count]


def word_errors(reference: list[str], hypothesis: list[str]) -> int:
    """Levenshtein distance over words."""
    row = np.arange(len(hypothesis) + 1)
    for i, a in enumerate(reference, 1):
        previous, row[0] = row.copy(), i
        for j, b in enumerate(hypothesis, 1):
            row[j] = min(previous[j] + 1, row[j - 1] + 1, previous[j - 1] + (a != b))
    return int(row[-1])


def start_differences(first: Alignment, second: Alignment) -> list[float]:
    """Differences in seconds of the starts of phones that both alignments contain, in order."""
    left, right = ([p.label.rstrip("012") for p in a.phones] for a in (first, second))
    blocks = difflib.SequenceMatcher(None, left, right, autojunk=False).get_matching_blocks()
    pairs = [(first.phones[b.a + k], second.phones[b.b + k]) for b in blocks for k in range(b.size)]
    return [abs(p.start - q.start) for p, q in pairs]


def score_mouths(prompts: list[tuple[Path, str]]) -> None:
    """Print lip closure and stillness of the rules and the network."""
    talk = KMTalk()
    speaker, solver = SimulatedSpeaker(talk.rig), MouthSolver(talk.rig)
    network = talk.network
    columns = [talk.rig.index[n] for n in network.config.shape_names]

    def by_rules(audio: Audio, alignment: Alignment) -> np.ndarray:
        return speaker.mouth_weights(alignment, audio, 30.0, SPEAKING_STYLES["neutral"])

    def by_network(audio: Audio, alignment: Alignment) -> np.ndarray:
        return talk.predictor.predict(talk.rig, alignment, audio, 30.0, DEFAULT_STYLE)

    def without_postprocessing(audio: Audio, alignment: Alignment) -> np.ndarray:
        count = frame_count(audio.duration, 30.0)
        out = np.zeros((count, len(talk.rig.shape_names)))
        key_frames = select_key_frames(alignment, count, 30.0, network.config.key_placement)
        style = style_mixture(network.config.styles, DEFAULT_STYLE)
        features = talk.predictor.encode_audio(audio)
        out[:, columns] = predict_motion(network, features, alignment, key_frames, count, 30.0, style)
        return out

    aligned = [talk.align(path, text=text) for path, text in prompts]
    for name, predict in (("rules", by_rules), ("network", by_network), ("unprocessed", without_postprocessing)):
        closures, inner_deviations, whole_deviations = [], [], []
        for audio, alignment in aligned:
            mouth = solver.measure(predict(audio, alignment)).lip_channels
            open_range, spans = metrics.open_range(mouth), metrics.find_silences(alignment, audio.duration)
            closures += [minimum / open_range for minimum in metrics.minimum_apertures(mouth, alignment, 30.0)]
            inner_deviations += [s / open_range for s in metrics.silence_deviations(mouth, 30.0, spans, 0.1, 0.1)]
            whole_deviations += [s / open_range for s in metrics.silence_deviations(mouth, 30.0, spans, 0.0, 0.0)]
        print(
            f"{name:12s} closed {100 * np.mean(np.array(closures) <= 0.1):5.1f} % of {len(closures)} p b m;  "
            f"still {100 * np.mean(np.array(inner_deviations) <= 0.01):5.1f} % of {len(inner_deviations)} silences "
            f"(whole: {100 * np.mean(np.array(whole_deviations) <= 0.01):.1f} %, "
            f"SD {100 * np.median(whole_deviations):.1f} % in median)"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=40, help="number of prompts")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draw")
    parser.add_argument("--whisper", default="base", help="size of Whisper")
    parser.add_argument("--whisper-engine", default="auto", help="as for kmtalk animate")
    parser.add_argument("--acoustic-model", help="MFA acoustic model to compare with PocketSphinx")
    parser.add_argument("--dictionary", help="MFA pronunciation dictionary for --acoustic-model")
    options = parser.parse_args()
    selected = load_prompts(options.count, options.seed)
    transcriber, aligner, normalize = (
        load_transcriber(options.whisper, options.whisper_engine),
        PocketSphinxAligner(),
        EnglishTextNormalizer(),
    )
    mfa = MfaAligner(options.acoustic_model, options.dictionary) if options.acoustic_model else None
    differences: list[float] = []
    errors = words = accepted = refused = key_frames = frames = phones = 0
    for (path, text), (_, other_text) in zip(selected, [*selected[1:], selected[0]], strict=True):
        audio = load_audio(path)
        reference, hypothesis = normalize(text).split(), normalize(transcriber.transcribe(audio, "en").text).split()
        mistakes = word_errors(reference, hypothesis)
        errors, words = errors + mistakes, words + len(reference)
        if mistakes:
            print(f"  {mistakes} in: {' '.join(hypothesis)}\n     for: {' '.join(reference)}")
        try:
            alignment = aligner.align(audio, aligner.words(text, "en"))
        except AlignmentError as error:
            print(f"  not aligned: {path.stem}: {error}")
        else:
            accepted += 1
            count = frame_count(audio.duration, 30.0)
            if mfa is not None:
                differences += start_differences(mfa.align(audio, mfa.words(text, "en")), alignment)
                phones += len(alignment.phones)
            key_frames, frames = key_frames + len(keys.locate_key_frames(alignment, count, 30.0)), frames + count
        try:
            aligner.align(audio, aligner.words(other_text, "en"))
        except AlignmentError:
            refused += 1
    print(f"{len(selected)} human prompts, Whisper {options.whisper}, PocketSphinx, 30 fps")
    print(f"word error rate          {100 * errors / words:.2f} %  ({errors} of {words} words)")
    print(f"true text accepted       {100 * accepted / len(selected):.1f} %")
    print(f"other text refused       {100 * refused / len(selected):.1f} %")
    print(f"key frames               {100 * key_frames / frames:.1f} % of frames")
    if mfa is not None:
        median, near = np.median(np.abs(differences)), np.mean(np.array(differences) <= 0.025)
        print(f"MFA against PocketSphinx {100 * len(differences) / phones:.1f} % of phones the same; starts differ by")
        print(f"                         {1000 * median:.0f} ms in median, 25 ms or less in {100 * near:.0f} %")
    score_mouths(selected)


if __name__ == "__main__":
    main()
