"""Who does the work: processes on this machine, or actors of a Ray cluster. Each loads its models once."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol

from kmtalk.batch.jobs import Job, JobSettings
from kmtalk.errors import InputError

SHUTDOWN_TIMEOUT = 5.0  # seconds that workers have to tidy up


@dataclass(frozen=True)
class JobResult:
    """``error`` is None where all went well; ``written`` are the files with their sizes in bytes."""

    seconds: float
    error: str | None = None
    written: tuple[tuple[str, int], ...] = ()
    warnings: tuple[str, ...] = ()


class Worker:
    """One process's KMTalk. One thread: clips run side by side, and the outputs do not depend on how many."""

    def __init__(self, recipe: JobSettings) -> None:
        import warnings

        import torch

        from kmtalk.pipeline import KMTalk

        warnings.filterwarnings("ignore")
        torch.set_num_threads(1)
        self._recipe, self._said = recipe, list[str]()
        self._talk = KMTalk(
            recipe.whisper,
            recipe.aligner,
            recipe.acoustic,
            recipe.dictionary,
            recipe.network,
            warn=self._said.append,
        )

    def run(self, task: Job) -> JobResult:
        """Animate one clip; whatever goes wrong with it is told, not raised."""
        began = time.monotonic()
        self._said.clear()
        try:
            written = self._animate(task)
            sizes = tuple((str(p), p.stat().st_size) for p in written)
            return JobResult(time.monotonic() - began, None, sizes, tuple(self._said))
        except InputError as error:
            return JobResult(time.monotonic() - began, " ".join(str(error).split()))
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            told = f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
            return JobResult(time.monotonic() - began, " ".join(told.split()))

    def _animate(self, task: Job) -> list[Path]:
        r = self._recipe.model_copy(update=task.overrides)
        text = task.text
        if text is not None and text.endswith(".txt"):
            try:
                text = Path(text).read_text(encoding="utf-8-sig")
            except (OSError, UnicodeDecodeError) as error:
                raise InputError(f"{text}: not a text file that can be read ({error})") from None
        animation = self._talk.animate(
            task.speech,
            r.template,
            landmarks=r.landmarks,
            text=text,
            textgrid=task.textgrid,
            fps=r.fps,
            language=r.language,
            motion=r.motion,
            style=r.style,
            intensity=r.intensity,
            expression=r.expression,
            seed=r.seed,
        )
        written = animation.save(task.output, r.formats, size=r.size, quality=r.quality, bake=r.bake)
        return [file for p in written for file in (sorted(p.rglob("*")) if p.is_dir() else [p])]


class Executor(Protocol):
    """Workers by number; ``submit`` one a task, ``wait`` waits for any: its number and result, None where it died."""

    size: int

    def submit(self, who: int, task: Job) -> None: ...
    def wait(self) -> tuple[int, JobResult | None]: ...
    def shutdown(self, busy: Collection[int]) -> None: ...


def run_jobs(crew: Executor, tasks: Sequence[Job]) -> Iterator[tuple[Job, JobResult]]:
    """Every task with its result, as they come in. A worker that dies takes one clip with it and is replaced."""
    waiting, busy = list(reversed(tasks)), dict[int, Job]()
    try:
        while waiting or busy:
            for who in range(crew.size):
                if who not in busy and waiting:
                    busy[who] = waiting.pop()
                    crew.submit(who, busy[who])
            who, result = crew.wait()
            task = busy.pop(who)
            yield task, result or JobResult(0.0, "the process died; too little memory is the usual reason")
    finally:
        crew.shutdown(busy.keys())


class ProcessExecutor:
    """Processes of this machine."""

    def __init__(self, recipe: JobSettings, size: int) -> None:
        self.size, self._recipe = size, recipe
        self._context = multiprocessing.get_context("spawn")
        self._desks: dict[int, tuple[Any, Connection]] = {}

    def submit(self, who: int, task: Job) -> None:
        if who not in self._desks:
            here, there = self._context.Pipe()
            process = self._context.Process(target=_worker_main, args=(there, self._recipe), daemon=False)
            process.start()
            there.close()
            self._desks[who] = (process, here)
        with suppress(BrokenPipeError):  # died while idle: next() will notice
            self._desks[who][1].send(task)

    def wait(self) -> tuple[int, JobResult | None]:
        lines = {connection: who for who, (_, connection) in self._desks.items()}
        connection = wait(list(lines))[0]
        assert isinstance(connection, Connection)
        who = lines[connection]
        try:
            result: JobResult = connection.recv()
            return who, result
        except (EOFError, ConnectionResetError):
            self._desks.pop(who)[0].join()
            return who, None

    def shutdown(self, busy: Collection[int]) -> None:
        for who, (process, connection) in self._desks.items():
            with suppress(OSError):
                process.terminate() if who in busy else connection.send(None)
        until = time.monotonic() + SHUTDOWN_TIMEOUT
        for process, _ in self._desks.values():
            process.join(timeout=max(0.0, until - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()


def _worker_main(line: Connection, recipe: JobSettings) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C reaches all; the batch itself decides
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that half-written files go
    threading.Thread(target=_exit_with_parent, args=(os.getppid(),), daemon=True).start()
    worker = Worker(recipe)
    while True:
        try:
            task = line.recv()
        except EOFError:
            return
        if task is None:
            return
        line.send(worker.run(task))


def _check_address(address: str) -> None:
    """Raise InputError where nobody listens at "host:port": Ray itself would wait for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():
        return  # local, auto
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"--ray {address}: no cluster answers there ({error})") from None


def _exit_with_parent(parent: int) -> None:
    """End this process where its parent was killed: nobody may write into a batch that another run takes up."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)


class RayExecutor:
    """Actors of a Ray cluster, one CPU each. All machines must see the same files."""

    def __init__(self, recipe: JobSettings, size: int | None, address: str) -> None:
        try:
            import ray
        except ImportError:
            raise InputError("--ray needs Ray: pip install 'kmtalk[ray]'") from None
        self._ray, self._recipe = ray, recipe
        _check_address(address)
        try:
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(f"--ray {address}: no cluster answers there ({reason[:120]})") from None
        cpus = int(ray.cluster_resources().get("CPU", 1))
        self.size = max(1, min(size or cpus, cpus))
        self._make: Callable[[], Any] = lambda: ray.remote(num_cpus=1)(Worker).remote(recipe)
        self._actors: dict[int, Any] = {}
        self._due: dict[Any, int] = {}

    def submit(self, who: int, task: Job) -> None:
        if who not in self._actors:
            self._actors[who] = self._make()
        self._due[self._actors[who].do.remote(task.with_absolute_paths())] = who

    def wait(self) -> tuple[int, JobResult | None]:
        done = self._ray.wait(list(self._due), num_returns=1)[0][0]
        who = self._due.pop(done)
        try:
            result: JobResult = self._ray.get(done)
            return who, result
        except self._ray.exceptions.RayError:
            self._actors.pop(who, None)
            return who, None

    def shutdown(self, busy: Collection[int]) -> None:
        self._ray.shutdown()
