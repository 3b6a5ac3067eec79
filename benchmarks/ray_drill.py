"""A batch on a Ray cluster of four workers that are killed at random: is every clip finished, with the same bytes?

    python benchmarks/ray_drill.py [--clips 40] [--kills 8] [--seed 0]

Starts a cluster on this machine, with token authentication. A client without the token is refused first. The clips are
cuts of assets/speech.wav, animated by rules. The manifest is done in two parts on the cluster (`--shard`), and whole
without Ray in another folder, to which every file is compared.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import soundfile

from kmtalk.assets import asset_path

PORT, WORKERS, SECONDS = 6399, 4, 2.0
RAY = [sys.executable, "-m", "ray.scripts.scripts"]
KMTALK = [sys.executable, "-m", "kmtalk.cli", "batch"]
OPTIONS = ["--motion", "rules", "--formats", "npz,csv", "--language", "en"]


def write_manifest(folder: Path, count: int) -> Path:
    """Write the clips and their manifest."""
    sound, rate = soundfile.read(asset_path("speech.wav"), dtype="float32")
    rows = []
    for n, start in enumerate(np.linspace(0, len(sound) / rate - SECONDS, count)):
        path = folder / f"{n:03d}.wav"
        soundfile.write(path, sound[int(start * rate) : int((start + SECONDS) * rate)], rate)
        rows.append({"speech": str(path), "text": "thank you for calling", "seed": n})
    (folder / "clips.json").write_text(json.dumps(rows))
    return folder / "clips.json"


def outputs(folder: Path) -> dict[str, bytes]:
    """The files of all clips by name."""
    kept = [p for p in folder.rglob("*") if p.is_file() and p.parent != folder]
    return {str(p.relative_to(folder)): p.read_bytes() for p in kept}


def kill_workers(running: subprocess.Popen[bytes], left: int, rng: random.Random) -> int:
    """Kill up to `left` of the cluster's workers while a batch runs; returns how many."""
    killed = 0
    while running.poll() is None:
        time.sleep(rng.uniform(2, 6))
        found = [p for p in psutil.process_iter(["cmdline"]) if "ray::Worker" in " ".join(p.info["cmdline"] or [])]
        if found and killed < left:
            rng.choice(found).kill()
            killed += 1
    return killed


def main() -> None:
    """Start the cluster, run the batches, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng, plain = random.Random(options.seed), dict(os.environ)
    known = plain | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    address = f"127.0.0.1:{PORT}"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = write_manifest(folder, options.clips)
        start = [*RAY, "start", "--head", "--port", str(PORT), "--num-cpus", str(WORKERS), "--include-dashboard=false"]
        subprocess.run(start, env=known, check=True, stdout=subprocess.DEVNULL)
        try:
            command = [*KMTALK, str(manifest), *OPTIONS, "--ray", address]
            wrong = plain | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}
            refused = subprocess.run(
                [*command, "-o", str(folder / "no")], env=wrong, capture_output=True, text=True, check=False
            )
            print(f"with a wrong token: exit code {refused.returncode}: {refused.stderr.strip()[-200:]}")
            killed = 0
            for part in (1, 2):
                arguments = [*command, "-o", str(folder / "there"), "--shard", f"{part}/2"]
                with subprocess.Popen(arguments, env=known) as running:
                    killed += kill_workers(running, (options.kills * part) // 2 - killed, rng)
                print(f"part {part} of 2: exit code {running.returncode}, {killed} workers killed so far", flush=True)
        finally:
            subprocess.run([*RAY, "stop", "--force"], env=known, check=False, stdout=subprocess.DEVNULL)
        again = subprocess.run([*KMTALK, str(manifest), *OPTIONS, "-o", str(folder / "there")], check=False)
        subprocess.run([*KMTALK, str(manifest), *OPTIONS, "-o", str(folder / "here"), "-q"], check=True)
        here, there = outputs(folder / "here"), outputs(folder / "there")
        equal = sum(there.get(name) == content for name, content in here.items())
        print(f"{equal} of {len(here)} files equal; exit code {again.returncode}")
        sys.exit(here != there or refused.returncode != 2)


if __name__ == "__main__":
    main()
