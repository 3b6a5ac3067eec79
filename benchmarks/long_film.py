"""An hour of speech to a film: time, memory, and whether picture and sound are still in step at its end.

    python benchmarks/long_film.py [--minutes 60] [--size 128]

assets/speech.wav over and over, with `kmtalk animate` and a film of SIZE × SIZE pixels. The last half minute is
animated alone as well. Prints time and peak memory of the processes together, the lengths of the two tracks, by how
many frames the mouth in the last half minute of the long film is late against the short one (the lag at which the
brightness around the mouth correlates best), and by how much the sound of the long film is late against the speech.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import psutil
import soundfile

from kmtalk.assets import asset_path

FPS = 30
TAIL = 30.0  # seconds
SOUND_RATE = 16000


def animate(speech: Path, folder: Path, size: int) -> tuple[Path, float, float]:
    """Run the command. Returns the film, the seconds it took, and the most MB that its processes used together."""
    began, most = time.perf_counter(), 0.0
    command = [sys.executable, "-m", "kmtalk.cli", "animate", speech, "-o", folder, "--size", str(size)]
    command += ["--template", "light", "--json"]
    running = subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    ended = threading.Event()

    def watch() -> None:
        nonlocal most
        while not ended.wait(0.5):
            used = 0
            for process in [own := psutil.Process(running.pid), *own.children(recursive=True)]:
                try:
                    used += process.memory_full_info().pss
                except psutil.Error:
                    continue
            most = max(most, used / 1e6)

    threading.Thread(target=watch, daemon=True).start()
    out, err = running.communicate()
    ended.set()
    if running.returncode:
        raise SystemExit(err.decode().splitlines()[-1])
    written = [Path(p) for p in json.loads(out.splitlines()[-1])["written"]]
    return next(p for p in written if p.suffix == ".mp4"), time.perf_counter() - began, most


def decoded(film: Path, *options: str) -> bytes:
    """What ffmpeg gives for a film."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(film), *options, "-"]
    return subprocess.run(command, capture_output=True, check=True).stdout


def mouth_brightness(film: Path, size: int) -> np.ndarray:
    """Mean brightness of the lower middle of each picture (N,)."""
    box = f"crop={size // 3}:{size // 4}:{size // 3}:{size * 11 // 20},scale=8:8:flags=area"
    pictures = np.frombuffer(decoded(film, "-vf", box, "-f", "rawvideo", "-pix_fmt", "gray"), np.uint8)
    return pictures.reshape(-1, 64).mean(1)


def lag(long: np.ndarray, short: np.ndarray, most: int) -> tuple[int, float]:
    """By how many values `long` is late against `short`, at most `most`, and their correlation there."""
    inner = short[most:-most]
    found = [np.corrcoef(long[most + n : most + n + len(inner)], inner)[0, 1] for n in range(-most, most + 1)]
    return int(np.argmax(found)) - most, float(np.max(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--size", type=int, default=128)
    options = parser.parse_args()
    speech, rate = soundfile.read(asset_path("speech.wav"), dtype="float32")
    count = round(options.minutes * 60 * rate)
    samples = np.tile(speech, count // len(speech) + 1)[:count]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        soundfile.write(folder / "long.wav", samples, rate)
        soundfile.write(folder / "tail.wav", samples[-round(TAIL * rate) :], rate)
        short, *_ = animate(folder / "tail.wav", folder / "short", options.size)
        film, took, used = animate(folder / "long.wav", folder / "long", options.size)
        print(f"{options.minutes:g} min: {took:.0f} s, {took / (60 * options.minutes):.2f} × real time, {used:.0f} MB")
        pictures = mouth_brightness(film, options.size)
        raw = decoded(film, "-f", "f32le", "-ac", "1", "-ar", str(SOUND_RATE))
        sound = np.frombuffer(raw, np.float32)
        print(
            f"pictures {len(pictures) / FPS:.3f} s, sound {len(sound) / SOUND_RATE:.3f} s, speech {count / rate:.3f} s"
        )
        alone = mouth_brightness(short, options.size)[: round(TAIL * FPS)]
        start = round((count / rate - TAIL) * FPS)
        frames, r = lag(pictures[start : start + len(alone)], alone, 10)
        print(f"mouth: {frames} frames late (r {r:.2f})")
        true = np.frombuffer(
            decoded(folder / "tail.wav", "-f", "f32le", "-ac", "1", "-ar", str(SOUND_RATE)), np.float32
        )
        begin = round((count / rate - TAIL) * SOUND_RATE)
        late, r = lag(sound[begin : begin + len(true)], true, SOUND_RATE // 20)
        print(f"sound: {late / SOUND_RATE * 1000:.1f} ms late (r {r:.2f})")


if __name__ == "__main__":
    main()
