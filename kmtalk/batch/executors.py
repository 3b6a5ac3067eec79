"""Executors of a batch: processes on this machine, or actors of a Ray cluster. Each loads its models once."""

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
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol

from kmtalk.batch.jobs import Job, JobSettings
from kmtalk.errors import InputError
from kmtalk.settings import AnimationSettings, SoundSettings
from kmtalk.text_files import read_text_file

SHUTDOWN_TIMEOUT_SECONDS = 5.0  # seconds that workers have to finish


@dataclass(frozen=True)
class JobResult:
    """Outcome of one job.

    Attributes:
        seconds: Time that the job took.
        error: One line on what went wrong; None on success.
        written: Files that were written, with their sizes in bytes.
        warnings: One-line warnings.
    """

    seconds: float
    error: str | None = None
    written: tuple[tuple[str, int], ...] = ()
    warnings: tuple[str, ...] = ()


MOST_ATTEMPTS = 3


class Worker:
    """A process's KMTalk. It uses one thread, so that the outputs do not depend on the number of workers."""

    def __init__(self, settings: JobSettings) -> None:
        import warnings

        import torch

        from kmtalk.pipeline import KMTalk

        warnings.filterwarnings("ignore")
        torch.set_num_threads(1)
        self._settings, self._warnings = settings, list[str]()
        self._talk = KMTalk(
            settings.recognition, network=settings.network, joint=settings.joint, warn=self._warnings.append
        )

    def run(self, job: Job) -> JobResult:
        """Animate one clip; errors are returned, not raised."""
        began = time.monotonic()
        self._warnings.clear()
        try:
            written = self._animate(job)
            sizes = tuple((str(p), p.stat().st_size) for p in written)
            return JobResult(time.monotonic() - began, None, sizes, tuple(self._warnings))
        except InputError as error:
            return JobResult(time.monotonic() - began, " ".join(str(error).split()))
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            message = f"{type(error).__name__}: {error} ({Path(frame.filename).name}:{frame.lineno})"
            return JobResult(time.monotonic() - began, " ".join(message.split()))

    def _animate(self, job: Job) -> list[Path]:
        shared, text = self._settings, job.text
        if job.text_file is not None:
            text = read_text_file(job.text_file)
        animation = self._talk.animate(
            job.speech,
            job.template or shared.template,
            landmarks=job.landmarks or shared.landmarks,
            text=text,
            textgrid=job.textgrid,
            tier=job.tier,
            sound=SoundSettings.create(shared.sound, **job.sound_overrides),
            settings=AnimationSettings.create(shared.animation, **job.overrides),
        )
        written = animation.save(job.output_dir, shared.export)
        return [file for p in written for file in (sorted(p.rglob("*")) if p.is_dir() else [p])]


class Executor(Protocol):
    """Runs jobs on numbered workers.

    Attributes:
        size: Number of workers.
    """

    size: int

    def submit(self, worker: int, job: Job) -> None:
        """Give a job to an idle worker."""
        ...

    def wait(self) -> tuple[int, JobResult | None]:
        """Wait for any worker; returns its number and the result, or None where the worker died."""
        ...

    def shutdown(self, busy: Collection[int]) -> None:
        """End all workers; those in `busy` are stopped in the middle of their jobs."""
        ...


def run_jobs(executor: Executor, jobs: Sequence[Job]) -> Iterator[tuple[Job, JobResult]]:
    """Yield each job with its result, in the order of completion.

    A worker that dies is replaced, and its job is begun again, `MOST_ATTEMPTS` times in all.
    """
    waiting, running, attempts = list(reversed(jobs)), dict[int, Job](), Counter[Path]()
    try:
        while waiting or running:
            for worker in range(executor.size):
                if worker not in running and waiting:
                    running[worker] = waiting.pop()
                    executor.submit(worker, running[worker])
            worker, result = executor.wait()
            job = running.pop(worker)
            attempts[job.output_dir] += 1
            if result is None and attempts[job.output_dir] < MOST_ATTEMPTS:
                waiting.append(job)
                continue
            yield job, result or JobResult(0.0, f"its process died {MOST_ATTEMPTS} times; is there enough memory?")
    finally:
        executor.shutdown(running.keys())


class ProcessExecutor:
    """Processes on this machine."""

    def __init__(self, settings: JobSettings, size: int) -> None:
        self.size, self._settings = size, settings
        self._context = multiprocessing.get_context("spawn")
        self._workers: dict[int, tuple[Any, Connection]] = {}

    def submit(self, worker: int, job: Job) -> None:
        if worker not in self._workers:
            parent, child = self._context.Pipe()
            process = self._context.Process(target=_worker_main, args=(child, self._settings), daemon=False)
            process.start()
            child.close()
            self._workers[worker] = (process, parent)
        with suppress(BrokenPipeError):  # the worker died while idle: wait() reports it
            self._workers[worker][1].send(job)

    def wait(self) -> tuple[int, JobResult | None]:
        numbers = {connection: number for number, (_, connection) in self._workers.items()}
        connection = wait(list(numbers))[0]
        assert isinstance(connection, Connection)
        worker = numbers[connection]
        try:
            result: JobResult = connection.recv()
            return worker, result
        except (EOFError, ConnectionResetError):
            self._workers.pop(worker)[0].join()
            return worker, None

    def shutdown(self, busy: Collection[int]) -> None:
        for worker, (process, connection) in self._workers.items():
            with suppress(OSError):
                process.terminate() if worker in busy else connection.send(None)
        deadline = time.monotonic() + SHUTDOWN_TIMEOUT_SECONDS
        for process, _ in self._workers.values():
            process.join(timeout=max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()


def _worker_main(connection: Connection, settings: JobSettings) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the batch itself decides
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # half-written files are removed on the way out
    threading.Thread(target=exit_with_parent, args=(os.getppid(),), daemon=True).start()
    worker = Worker(settings)
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        if job is None:
            return
        connection.send(worker.run(job))


def _check_address(address: str) -> None:
    """Raise InputError where no server listens at "host:port"; Ray itself would wait for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():
        return  # local, auto
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"--ray {address}: no cluster answers there ({error})") from None


def exit_with_parent(parent: int) -> None:
    """End this process when its parent is killed, so that it does not write into a batch that another run resumes."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)


class RayExecutor:
    """Actors of a Ray cluster, with one CPU each. All machines must see the same files."""

    def __init__(self, settings: JobSettings, size: int | None, address: str) -> None:
        try:
            import ray
        except ImportError:
            raise InputError("--ray needs Ray: pip install 'kmtalk[ray]'") from None
        self._ray = ray
        _check_address(address)
        try:
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(f"--ray {address}: no cluster answers there ({reason[:120]})") from None
        cpus = int(ray.cluster_resources().get("CPU", 1))
        self.size = max(1, min(size or cpus, cpus))
        self._make_actor: Callable[[], Any] = lambda: ray.remote(num_cpus=1)(Worker).remote(
            settings.with_absolute_paths()
        )
        self._actors: dict[int, Any] = {}
        self._pending: dict[Any, int] = {}

    def submit(self, worker: int, job: Job) -> None:
        if worker not in self._actors:
            self._actors[worker] = self._make_actor()
        self._pending[self._actors[worker].run.remote(job.with_absolute_paths())] = worker

    def wait(self) -> tuple[int, JobResult | None]:
        done = self._ray.wait(list(self._pending), num_returns=1)[0][0]
        worker = self._pending.pop(done)
        try:
            result: JobResult = self._ray.get(done)
            return worker, result
        except self._ray.exceptions.RayError:
            self._actors.pop(worker, None)
            return worker, None

    def shutdown(self, busy: Collection[int]) -> None:
        self._ray.shutdown()
