"""Runs cases on a few processes, each of which has imported kmtalk once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Self

import psutil
from case import Case
from judge import Verdict, judge, snapshot
from seeds import ROOT

SERVER = Path(__file__).with_name("server.py")


def warm_up(seeds: Path) -> list[list[str]]:
    """Commands on the seeds that import and cache what the cases need."""
    speech, grid, mesh = (str(seeds / n) for n in ("speech.wav", "speech.TextGrid", "face.obj"))
    rules = ["--textgrid", grid, "--motion", "rules"]
    return [
        ["keys", speech, *rules, "--template", "light", "-o", "a.json"],
        ["keys", speech, "--textgrid", grid, "--template", "light", "-o", "b.json"],
        ["animate", speech, *rules, "--template", mesh, "-o", "c.pc2"],
        ["align", speech, "--text", "Thank you for calling", "-o", "d.TextGrid"],
        ["complete", "a.json", speech, "--template", "light", "-o", "e.csv"],
        ["export", str(seeds / "animation.npz"), "-o", "f.glb"],
        ["corpus", "size", str(seeds / "train.yaml")],
        ["corpus", "check", str(seeds / "own"), "--corpus", "folder"],
    ]


class _Server:
    """One process of server.py."""

    def __init__(self, seeds: Path, folder: Path) -> None:
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(folder / "cache"), "COLUMNS": "200",
                       "PYTHONPATH": os.pathsep.join(paths)}  # fmt: skip
        self._process = subprocess.Popen(
            [sys.executable, str(SERVER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._ask(warm_up(seeds))
        self._folder = folder

    def _ask(self, order: object) -> dict:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline() or '{"failed": "the process has died"}')
        if "failed" in answer:
            raise RuntimeError(f"the hostile cases cannot be run: {answer}")
        return answer

    def run(self, case: Case) -> Verdict:
        with tempfile.TemporaryDirectory(dir=self._folder, prefix="case-") as name:
            folder = Path(name)
            work = folder / "work"
            work.mkdir()
            (folder / "tmp").mkdir()
            case.lay_out(work)
            before = snapshot(work)
            answer = self._ask({"argv": list(case.argv), "folder": name, "seconds": case.seconds})
            return judge(case, answer, folder, before)

    def close(self) -> None:
        for child in psutil.Process(self._process.pid).children(recursive=True):
            with suppress(psutil.Error):
                child.kill()
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


class Pool:
    """Context manager with `size` processes; `run` yields verdicts as they come."""

    def __init__(self, seeds: Path, size: int) -> None:
        self._seeds, self._size = seeds, size

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="hostile-"))
        self._threads = ThreadPoolExecutor(self._size)
        self._idle: SimpleQueue[_Server] = SimpleQueue()
        make = [self._threads.submit(_Server, self._seeds, self._folder) for _ in range(self._size)]
        self._servers = [future.result() for future in make]
        for server in self._servers:
            self._idle.put(server)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for server in self._servers:
            server.close()
        self._threads.shutdown()
        shutil.rmtree(self._folder, ignore_errors=True)

    def run(self, cases: Iterable[Case]) -> Iterator[Verdict]:
        """Run the cases; few are held at once, since some are large."""
        pending = set()
        for case in cases:
            if len(pending) >= 2 * self._size:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
            pending.add(self._threads.submit(self._run_one, case))
        for future in pending:
            yield future.result()

    def _run_one(self, case: Case) -> Verdict:
        server = self._idle.get()
        try:
            return server.run(case)
        finally:
            self._idle.put(server)
