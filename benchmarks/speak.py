"""Time from a text to an animation of some ten seconds of speech, beside Whisper's time for the same sound in one run.

    python benchmarks/speak.py [--runs 5]

"speak" is `KMTalk.speak` with models that are loaded: "voice" is its speech synthesis, "face" what follows. "from the
start" is a process of its own, from the first line of Python to the animation: imports and models included. Every
figure is the least of all runs.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable

from kmtalk import KMTalk
from kmtalk.speaking import load_voice, synthesize_text
from kmtalk.speech.openai_whisper import OpenAIWhisper

TEXT = (
    "The quick brown fox jumps over the lazy dog, while five wizards mumble about the big blue moon. We have to move "
    "very fast before the boat leaves the harbor, my friend, so please come now."
)
COLD = """
import time
start = time.perf_counter()
from concurrent.futures import ThreadPoolExecutor
from kmtalk.speaking import load_voice
with ThreadPoolExecutor(1) as pool:  # as the command does
    loading = pool.submit(load_voice)
    from kmtalk import KMTalk
    talk = KMTalk()
    talk.speak({text!r}, voice=loading.result())
print(time.perf_counter() - start)
"""


def least(runs: int, function: Callable[[], object]) -> float:
    """The least seconds that a function takes."""
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="runs of each")
    options = parser.parse_args()
    talk, voice, transcriber = KMTalk(), load_voice(), OpenAIWhisper("base")
    animation = talk.speak(TEXT, voice=voice)
    audio, alignment = animation.audio, animation.alignment
    transcriber.transcribe(audio, "en")
    whole = least(options.runs, lambda: talk.speak(TEXT, voice=voice))
    spoken = least(options.runs, lambda: synthesize_text(voice, TEXT))
    face = least(options.runs, lambda: talk.animate(audio, textgrid=alignment))
    whisper = least(options.runs, lambda: transcriber.transcribe(audio, "en"))
    code = COLD.format(text=TEXT)
    cold = min(
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(options.runs)
    )
    print(f"{audio.duration:.1f} s of speech, {len(animation.motion)} frames")
    rows = ("speak", whole), ("  voice", spoken), ("  face", face), ("from the start", cold), ("Whisper base", whisper)
    for name, seconds in rows:
        print(f"{name:15s} {seconds:5.2f} s   {seconds / whisper:5.2f} × Whisper's time")


if __name__ == "__main__":
    main()
