"""Word error rate and time of the engines that run Whisper, on the same human prompts in one run.

    apt-get install asterisk-core-sounds-en-wav asterisk-core-sounds-en
    python benchmarks/whisper_engines.py [--count 80] [--whisper base]

Prompts and normalisation are those of benchmarks/prompts.py. The engines take turns with each prompt. Prints for each
the word error rate, and the time as a share of openai-whisper's.
"""

from __future__ import annotations

import argparse
import time

import jiwer
from prompts import load_prompts
from whisper.normalizers import EnglishTextNormalizer

from kmtalk.speech.audio import load_audio
from kmtalk.speech.transcribe import load_transcriber

ENGINES = ("openai-whisper", "faster-whisper")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=80)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--whisper", default="base", help="name of the model")
    options = parser.parse_args()
    normalize = EnglishTextNormalizer()
    prompts = [(load_audio(path), normalize(text)) for path, text in load_prompts(options.count, options.seed)]
    transcribers = {engine: load_transcriber(options.whisper, engine) for engine in ENGINES}
    seconds, heard = dict.fromkeys(ENGINES, 0.0), {engine: [] for engine in ENGINES}
    for transcriber in transcribers.values():
        transcriber.transcribe(prompts[0][0], "en")
    for audio, _ in prompts:
        for engine, transcriber in transcribers.items():
            began = time.perf_counter()
            heard[engine].append(normalize(transcriber.transcribe(audio, "en").text))
            seconds[engine] += time.perf_counter() - began
    length = sum(audio.duration for audio, _ in prompts)
    print(f"Whisper {options.whisper}, {len(prompts)} prompts, {length:.0f} s")
    for engine in ENGINES:
        errors = jiwer.wer([text for _, text in prompts], heard[engine])
        share = seconds[engine] / seconds[ENGINES[0]]
        print(f"{engine:<16} word error rate {errors:6.2%}, {share:.2f} × {ENGINES[0]} ({seconds[engine]:.1f} s)")


if __name__ == "__main__":
    main()
