"""What the server survives: killed processes, killed servers, malformed uploads; and its memory over many jobs.

    python benchmarks/serve.py [--jobs 50] [--malformed 200] [--memory-jobs 200]

Jobs are two seconds of the demo with its words, animated by rules. Prints one line for each claim.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import soundfile

from kmtalk.assets import asset_path

OPTIONS = {"text": "Thank you for calling", "motion": "rules", "formats": ["npz"]}
LIMITS = ("--requests-per-minute", "100000", "--max-waiting", "100000", "--workers", "1")


class Server:
    """`kmtalk serve` on a free port."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "kmtalk.cli", "serve", "-o", str(folder), "--port", "0", *LIMITS]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.process.stdout is not None
        self.client = httpx.Client(base_url=self.process.stdout.readline().strip(), timeout=60)
        while True:
            with contextlib.suppress(httpx.TransportError):
                self.client.get("/health")
                return
            time.sleep(0.05)

    def add(self, speech: bytes, character: tuple[str, bytes] | None = None) -> int | str:
        """Give a job; returns its identifier, or the status of a refusal."""
        files = {"speech": ("speech.wav", speech)} | ({"character": character} if character else {})
        answer = self.client.post("/jobs", files=files, data={"options": json.dumps(OPTIONS)})
        return str(answer.json()["id"]) if answer.status_code == 201 else answer.status_code

    def states(self, jobs: list[str]) -> Counter[str]:
        """Return how many jobs are in each state."""
        return Counter(self.client.get(f"/jobs/{job}").json()["state"] for job in jobs)

    def wait(self, jobs: list[str]) -> Counter[str]:
        """Wait until all jobs have ended."""
        while (states := self.states(jobs)).keys() & {"waiting", "running"}:
            time.sleep(0.5)
        return states

    def children(self) -> list[psutil.Process]:
        """Return the processes that animate."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def memory(self) -> float:
        """Return the megabytes that the server and its processes hold."""
        held = 0
        for process in [psutil.Process(self.process.pid), *self.children()]:
            with contextlib.suppress(psutil.NoSuchProcess):
                held += process.memory_info().rss
        return held / 1e6


def kill_while_working(folder: Path, speech: bytes, count: int, rng: random.Random) -> str:
    """Kill processes, and the server itself, while jobs are done."""
    server = Server(folder)
    jobs = [str(server.add(speech)) for _ in range(count)]
    workers = servers = 0
    while server.states(jobs).keys() & {"waiting", "running"}:
        time.sleep(rng.uniform(15, 40))  # a process needs some seconds before it can do its first job
        if rng.random() < 0.3:
            server.process.kill()
            server.process.wait()
            servers += 1
            server = Server(folder)
        else:
            for child in server.children():
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
                    workers += 1
    states = server.wait(jobs)
    server.process.kill()
    return f"{count} jobs, {workers} processes and {servers} servers killed: {dict(states)}"


def malformed(speech: bytes, mesh: bytes, count: int, rng: random.Random) -> Iterator[tuple[bytes, bytes | None]]:
    """Yield damaged sounds, and sounds with damaged meshes."""
    for number in range(count):
        source = bytearray(speech if number % 2 else mesh)
        how = rng.randrange(4)
        if how == 0:
            source = source[: rng.randrange(1, 200)]
        elif how == 1:
            source = bytearray(rng.randbytes(rng.randrange(1, 5000)))
        elif how == 2:
            for _ in range(20):
                source[rng.randrange(min(64, len(source)))] = rng.randrange(256)
        else:
            source = bytearray(b"<html>not what it says</html>" * rng.randrange(1, 50))
        yield (bytes(source), None) if number % 2 else (speech, bytes(source))


def refuse(folder: Path, speech: bytes, mesh: bytes, count: int, rng: random.Random) -> str:
    """Give damaged files."""
    server = Server(folder)
    answers: Counter[str] = Counter()
    jobs = []
    for sound, shape in malformed(speech, mesh, count, rng):
        added = server.add(sound, None if shape is None else ("mesh.glb", shape))
        if isinstance(added, int):
            answers[str(added)] += 1
        else:
            jobs.append(added)
    server.wait(jobs)
    for job in jobs:
        found = server.client.get(f"/jobs/{job}").json()
        error = found["error"] or ""
        clean = error and "within kmtalk" not in error and "process died" not in error and "/" not in error
        answers[
            found["state"] if found["state"] == "done" else "refused in one line" if clean else f"bad: {error}"
        ] += 1
    alive = server.client.get("/health").status_code == 200
    server.process.kill()
    return f"{count} damaged uploads: {dict(answers)}; the server answers: {alive}"


def memory(folder: Path, speech: bytes, count: int) -> str:
    """Measure memory while jobs are done."""
    server = Server(folder)
    held = []
    for _ in range(count):
        server.wait([str(server.add(speech))])
        held.append(server.memory())
    server.process.kill()
    part = max(1, count // 10)
    first, last = sum(held[part : 2 * part]) / part, sum(held[-part:]) / part
    return f"{count} jobs: {first:.0f} MB at their beginning, {last:.0f} MB at their end, {max(held):.0f} MB at most"


def main() -> None:
    """Run all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=50)
    parser.add_argument("--malformed", type=int, default=200)
    parser.add_argument("--memory-jobs", type=int, default=200)
    given = parser.parse_args()
    rng = random.Random(0)
    samples, rate = soundfile.read(asset_path("speech.wav"))
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        soundfile.write(place / "short.wav", samples[: 2 * rate], rate)
        speech, mesh = (place / "short.wav").read_bytes(), asset_path("face.obj").read_bytes()[:200_000]
        if given.jobs:
            print(kill_while_working(place / "a", speech, given.jobs, rng), flush=True)
        if given.malformed:
            print(refuse(place / "b", speech, mesh, given.malformed, rng), flush=True)
        if given.memory_jobs:
            print(memory(place / "c", speech, given.memory_jobs), flush=True)


if __name__ == "__main__":
    main()
