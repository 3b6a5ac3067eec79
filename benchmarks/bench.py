"""All speeds of `make bench`, as one table of ratios.

    python benchmarks/bench.py [--seconds 60] [--lengths 10,60,600] [--skip film,decoders,...]

The parts, each in its own process:

- speech: `animate` of a minute without film, and with its text, in multiples of openai-whisper's base model decoding
  greedily, and of real time; models are loaded before.
- film: frames a second of a whole film of a minute, from the start of its process to the file.
- decoders: see motion_speed.py.
- startup: see startup.py.
- lengths: time and peak memory of the command `kmtalk animate` for clips of several lengths.

The clip is assets/speech.wav over and over. Only ratios are comparable between machines.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from kmtalk.assets import asset_path

PARTS = ("speech", "film", "decoders", "startup", "lengths")
TEXT = (
    "Thank you for calling Super Awesome Company, Waldo's premier provider of perfect products. If you know your "
    "party's extension, you may dial it at any time."
)


def write_clip(path: Path, seconds: float) -> str:
    """Write the recording over and over; returns its text."""
    samples, rate = soundfile.read(asset_path("speech.wav"), dtype="float32")
    times = int(seconds * rate / len(samples)) + 1
    soundfile.write(path, np.tile(samples, times)[: int(seconds * rate)], rate)
    return " ".join([TEXT] * times)


def row(what: str, figure: str, bar: str, reached: bool | None) -> None:
    """Print a line of the table."""
    print(f"| {what} | {figure} | {bar} | {'' if reached is None else 'yes' if reached else '**no**'} |", flush=True)


def speech(folder: Path, seconds: float) -> None:
    """Print the times of `animate` beside Whisper's."""
    from stages import Stopwatch

    from kmtalk import KMTalk
    from kmtalk.speech.audio import load_audio
    from kmtalk.speech.openai_whisper import OpenAIWhisper

    text = write_clip(folder / "clip.wav", seconds)
    reference, audio = OpenAIWhisper("base"), load_audio(folder / "clip.wav")
    watch = Stopwatch()
    talk = KMTalk(progress=watch, warn=lambda line: None)
    talk.animate(asset_path("speech.wav"))  # loads the models
    reference.transcribe(load_audio(asset_path("speech.wav")), "en")
    began = time.perf_counter()
    reference.transcribe(audio, "en")
    whisper = time.perf_counter() - began
    took = {}
    for name, given in (("as it is heard", None), ("with its text", text)):
        watch.seconds.clear()
        began = time.perf_counter()
        talk.animate(folder / "clip.wav", text=given).save(folder / name, formats="npz,glb", progress=watch)
        took[name] = time.perf_counter() - began
        stages = ", ".join(f"{stage} {s:.2f}" for stage, s in watch.seconds.items() if s >= 0.005)
        print(f"<!-- {name}: {stages} s; openai-whisper {whisper:.2f} s -->")
        motion = watch.seconds["motion"]
    heard, given = took["as it is heard"], took["with its text"]
    row(
        f"`animate`, {seconds:g} s, without film",
        f"{heard / whisper:.2f} × openai-whisper base, greedy",
        "≤ 1.25",
        heard / whisper <= 1.25,
    )
    row("the same with `--text`", f"{given / seconds:.3f} × real time", "≤ 0.30", given / seconds <= 0.3)
    row("motion stage, with expression", f"{motion:.2f} s", "≤ 0.25 s", motion <= 0.25)


def finer_head(path: Path, count: int) -> Path:
    """Write the light head, with triangles of its face in four, as a mesh of at least `count` vertices."""
    import trimesh

    head = trimesh.load(asset_path("face.obj"), process=False, force="mesh")
    vertices, faces = head.vertices, head.faces
    front = np.argsort(-vertices[faces, 2].mean(1))
    for chosen in range(50, len(front), 50):
        finer = trimesh.remesh.subdivide(vertices, faces, front[:chosen])
        if len(finer[0]) >= count:
            break
    trimesh.Trimesh(*finer, process=False).export(path)
    return path


def film(folder: Path, seconds: float) -> None:
    """Print how fast films are made."""
    from kmtalk import KMTalk
    from kmtalk.render.video import render_video
    from kmtalk.settings import VideoSettings

    talk = KMTalk(warn=lambda line: None)
    for quality, size, length, bar in (("draft", "512x512", seconds, 60), ("high", "1080x1080", seconds / 6, 8)):
        text = write_clip(folder / "clip.wav", length)
        for face in ("light", None, finer_head(folder / "finer.obj", 10_000)):
            animation = talk.animate(folder / "clip.wav", face, text=text)
            settings = VideoSettings.create(None, size=size, quality=quality)
            began = time.perf_counter()
            render_video(animation.motion, animation.audio, folder / "film.mp4", settings)
            speed = len(animation.motion) / (time.perf_counter() - began)
            mesh = "a mesh, " if isinstance(face, Path) else ""
            vertices = f"{mesh}{len(animation.motion.rig.template.vertices):,} vertices"
            row(
                f"film of {length:g} s, {size}, {quality}, {vertices}",
                f"{speed:.1f} frames/s",
                f"≥ {bar}",
                speed >= bar,
            )


def decoders(folder: Path, seconds: float) -> None:
    """Print the motion stage beside other systems' decoders."""
    script = Path(__file__).with_name("motion_speed.py")
    command = [sys.executable, str(script), "--seconds", str(seconds)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    for line in lines:
        if "decoder, " in line:
            name, _, figure = line.partition(": ")
            ratio, bar = float(figure.split()[2]), 10 if name.startswith("FaceFormer") else 2
            row(
                f"{name}, random weights",
                f"{figure.split(', ')[1]} time ({figure.split(',')[0]})",
                f"≥ {bar} ×",
                ratio >= bar,
            )
        elif line.startswith("motion stage"):
            took = float(line.split(": ")[1].split()[0])
            row("motion stage from features, rig", f"{took:.3f} s", "≤ 0.25 s", took <= 0.25)
        else:
            row("its share of the rate of multiplying matrices", line.partition(" of ")[0], "", None)


def startup(folder: Path, seconds: float) -> None:
    """Print how soon commands answer."""
    command = [sys.executable, str(Path(__file__).with_name("startup.py")), "--runs", "3"]
    lines = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()[-2:]
    answer, read = float(lines[0].split()[1]), float(lines[1].split(" after ")[1].split()[0])
    row("`kmtalk --help`", f"{answer:.2f} s", "≤ 0.5 s", answer <= 0.5)
    row("`animate` until it reads the sound", f"{read:.2f} × `import torch`", "≤ 1.5", read <= 1.5)


def lengths(folder: Path, seconds: float, minutes: list[float]) -> None:
    """Print time and memory of whole commands for clips of several lengths, in seconds."""
    took, memory = [], []
    for length in minutes:
        write_clip(folder / "clip.wav", length)
        command = [sys.executable, "-m", "kmtalk.cli", "animate", str(folder / "clip.wav"), "--language", "en"]
        began = time.perf_counter()
        process = subprocess.Popen([*command, "-o", str(folder / "out"), "--no-video", "-q"])
        _, status, usage = os.wait4(process.pid, 0)
        assert status == 0
        took.append(time.perf_counter() - began)
        memory.append(usage.ru_maxrss / 1024)
        size = sum(f.stat().st_size for f in (folder / "out").iterdir()) / 1e6
        row(
            f"`kmtalk animate --no-video` of {length:g} s",
            f"{took[-1]:.1f} s, {memory[-1]:.0f} MB, files {size:.1f} MB",
            "",
            None,
        )
    start = took[0] - (took[1] - took[0]) / (minutes[1] - minutes[0]) * minutes[0]  # seconds that every command takes
    rates = [(t - start) / m for t, m in zip(took[1:], minutes[1:], strict=True)]
    spread, growth = max(rates) / min(rates) - 1, max(memory) / min(memory) - 1
    row(
        f"time per second of sound, {minutes[1]:g} to {minutes[-1]:g} s",
        f"differs by {spread:.0%}",
        "≤ 10 %",
        spread <= 0.1,
    )
    row("peak memory, shortest to longest", f"differs by {growth:.0%}", "≤ 20 %", growth <= 0.2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the clip")
    parser.add_argument("--lengths", default="10,60,600", help="lengths in seconds, at least two")
    parser.add_argument("--skip", default="", help=f"parts to leave out, of {', '.join(PARTS)}")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part is None:
        print(
            f"{len(os.sched_getaffinity(0))} cores\n\n| | measured | bar | reached |\n| --- | --- | --- | --- |",
            flush=True,
        )
        for part in PARTS:
            if part not in options.skip.split(","):
                subprocess.run([sys.executable, __file__, *sys.argv[1:], "--part", part], check=True)
        return
    with tempfile.TemporaryDirectory() as folder:
        if options.part == "lengths":
            lengths(Path(folder), options.seconds, [float(n) for n in options.lengths.split(",")])
        else:
            {"speech": speech, "film": film, "decoders": decoders, "startup": startup}[options.part](
                Path(folder), options.seconds
            )


if __name__ == "__main__":
    main()
