"""`kmtalk serve` in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

httpx = pytest.importorskip("httpx")
psutil = pytest.importorskip("psutil")
pytest.importorskip("fastapi")

WORDS = "Thank you for calling"
RULES = {"text": WORDS, "motion": "rules", "formats": ["npz"]}


class Server:
    """`kmtalk serve` in a folder, on a free port."""

    def __init__(self, folder, *options, environment=None):
        self.folder, self.options = folder, [*map(str, options)]
        self.environment = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}
        self.start()

    def start(self):
        with open(f"{self.folder}.log", "w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "kmtalk.cli", "serve", "-o", str(self.folder), "--port", "0", *self.options],
                stdout=subprocess.PIPE, stderr=log, text=True, env=self.environment,
            )  # fmt: skip
        self.address = self.process.stdout.readline().strip()
        assert self.address.startswith("http://127.0.0.1:"), self.said()
        self.client = httpx.Client(base_url=self.address.partition("?")[0], timeout=60)
        for _ in range(200):
            with contextlib.suppress(httpx.TransportError):
                self.client.get("/health")
                return
            time.sleep(0.05)
        raise AssertionError("the server does not answer")

    def children(self):
        return [p for p in psutil.Process(self.process.pid).children(recursive=True) if p.status() != "zombie"]

    def kill(self):
        children = self.children()
        self.process.kill()
        self.process.wait()
        return children

    def stop(self):
        self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        out, _ = self.process.communicate(timeout=30)
        return self.process.returncode, out, self.said()

    def said(self):
        """What it has written to stderr."""
        return Path(f"{self.folder}.log").read_text()

    def post(self, speech, options=RULES, character=None, **given):
        files = {"speech": (Path(speech).name, Path(speech).read_bytes())}
        if character is not None:
            files["character"] = (Path(character).name, Path(character).read_bytes())
        return self.client.post("/jobs", files=files, data={"options": json.dumps(options)}, **given)

    def add(self, speech, options=RULES, character=None):
        answer = self.post(speech, options, character)
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]

    def get(self, job):
        return self.client.get(f"/jobs/{job}").json()

    def wait(self, job, seconds=180.0):
        deadline = time.monotonic() + seconds
        while (found := self.get(job))["state"] in ("waiting", "running"):
            assert time.monotonic() < deadline, found
            time.sleep(0.1)
        return found
