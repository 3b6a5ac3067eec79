"""Runs a batch: finished clips are skipped, failed ones are tried again, and one failure does not stop the others."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout

from kmtalk.batch.executors import Executor, JobResult, ProcessExecutor, RayExecutor, run_jobs
from kmtalk.batch.jobs import Job, JobSettings, check_job_settings
from kmtalk.errors import InputError
from kmtalk.output import check_writable
from kmtalk.progress import Progress
from kmtalk.working_folders import sweep

LOG_NAME = "batch.jsonl"
LOCK_NAME = ".batch.lock"
USER_EDITABLE_FILES = ("keys.json", "speech.TextGrid")


@dataclass(frozen=True)
class BatchSummary:
    """Counts of clips: `completed` in this run, `skipped` because they were finished before, and `failed`."""

    completed: int
    skipped: int
    failed: int


@dataclass(frozen=True)
class Shard:
    """A part of a batch, which one of several machines does: each `count`th clip, from the clip `number` on.

    Attributes:
        number: Which part, from 1.
        count: Number of parts.
    """

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse K/N, such as 2/8; raises InputError for anything else."""
        number, slash, count = (part.strip() for part in text.partition("/"))
        digits = number.isdecimal() and count.isdecimal() and len(number + count) < 12
        if not slash or not digits or not 1 <= int(number) <= int(count):
            raise InputError(f"--shard {text[:40]}: give which part and of how many, such as 2/8")
        return cls(int(number), int(count))

    def name(self, whole: str) -> str:
        """Return the name of this part's file for that of a whole batch: batch-2-of-8.jsonl for batch.jsonl."""
        return whole.replace("batch", f"batch-{self.number}-of-{self.count}")


def run_batch(
    jobs: list[Job],
    settings: JobSettings,
    output: Path,
    workers: int | None = None,
    ray: str | None = None,
    shard: Shard | None = None,
    progress: Progress | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> BatchSummary:
    """Animate all jobs into their folders under `output`, whose batch.jsonl records each of them.

    Args:
        jobs: The clips.
        settings: Settings that they share.
        output: Folder of the batch.
        workers: Number of processes or actors; None for one per CPU.
        ray: Address of a Ray cluster ("local" starts one); None uses processes on this machine.
        shard: The part of the jobs that is done here, with a log of its own; None for all.
        progress: Receives the progress of the batch.
        log: Called with each warning and error.

    Raises:
        InputError: The settings cannot be used for any clip, or another batch is writing to `output`: a whole one, or
            one of the same part.
    """
    check_job_settings(settings)
    log_name = LOG_NAME if shard is None else shard.name(LOG_NAME)
    check_writable(output / log_name)
    output.mkdir(parents=True, exist_ok=True)
    if shard is not None:
        jobs = jobs[shard.number - 1 :: shard.count]
    with _locked(output, shard):
        for folder in {f for job in jobs for f in (job.output_dir, job.output_dir.parent)}:
            sweep(folder)  # what a batch left that was killed
        with (progress or Progress()).stage("batch", len(jobs)) as advance:
            return _run_pending(jobs, settings, output / log_name, workers, ray, advance, log)


@contextmanager
def _locked(output: Path, shard: Shard | None) -> Iterator[None]:
    """Hold the lock of a batch, or of its part; no whole batch runs beside a part.

    Raises:
        InputError: Another one holds it.
    """
    own = output / (LOCK_NAME if shard is None else shard.name(LOCK_NAME))
    others = [output / LOCK_NAME] if shard is not None else sorted(output.glob(LOCK_NAME.replace("batch", "batch-*")))
    with ExitStack() as held:
        try:
            held.enter_context(FileLock(own, timeout=0))
            for path in others:
                with FileLock(path, timeout=0):
                    pass
        except Timeout:
            raise InputError(f"{output}: another batch is writing there") from None
        yield


def _run_pending(
    jobs: list[Job],
    settings: JobSettings,
    log_file: Path,
    workers: int | None,
    ray: str | None,
    advance: Callable[[int], None],
    log: Callable[[str], None],
) -> BatchSummary:
    logs = sorted(log_file.parent.glob(LOG_NAME.replace("batch", "batch*")), key=lambda path: path.stat().st_mtime)
    entries: dict[str, Mapping[str, Any]] = {}
    for path in logs:  # a batch may be continued in other parts, or whole
        entries |= read_log(path)
    shared = settings.fingerprint()
    fingerprints = {job.output_dir: job.fingerprint(shared) for job in jobs}
    pending = [job for job in jobs if not _is_finished(entries.get(str(job.output_dir)), fingerprints[job.output_dir])]
    skipped, completed, failed = len(jobs) - len(pending), 0, 0
    advance(skipped)
    if not pending:
        return BatchSummary(0, skipped, 0)
    executor: Executor
    if ray is not None:
        executor = RayExecutor(settings, workers, ray)
    else:
        executor = ProcessExecutor(settings, min(workers or os.cpu_count() or 1, len(pending)))
    with log_file.open("a", encoding="utf-8") as file:
        if log_file.stat().st_size and not log_file.read_bytes().endswith(b"\n"):
            file.write("\n")  # a line that was cut off by a kill
        for job, result in run_jobs(executor, pending):
            file.write(json.dumps(_entry(job, fingerprints[job.output_dir], result)) + "\n")
            file.flush()
            completed, failed = completed + (result.error is None), failed + (result.error is not None)
            for warning in result.warnings:
                log(f"{job.speech}: {warning}")
            if result.error is not None:
                log(result.error if str(job.speech) in result.error else f"{job.speech}: {result.error}")
            advance(skipped + completed + failed)
    return BatchSummary(completed, skipped, failed)


def _entry(job: Job, fingerprint: str, result: JobResult) -> dict[str, object]:
    return {
        "speech": str(job.speech),
        "output_dir": str(job.output_dir),
        "status": "completed" if result.error is None else "failed",
        "seconds": round(result.seconds, 2),
        "error": result.error,
        "warnings": result.warnings,
        "fingerprint": fingerprint,
        "written": dict(result.written),
    }


def read_log(path: Path) -> dict[str, Mapping[str, Any]]:
    """The last entry of each clip in a batch.jsonl, by output folder; damaged lines are ignored."""
    entries: dict[str, Mapping[str, Any]] = {}
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError, KeyError, TypeError):
                entry = json.loads(line)
                entries[entry["output_dir"]] = entry
    return entries


def _is_finished(entry: Mapping[str, Any] | None, fingerprint: str) -> bool:
    """Whether the clip was completed with the same sound and settings and its files are whole; files that people edit
    may have changed."""
    if entry is None or entry.get("status") != "completed" or entry.get("fingerprint") != fingerprint:
        return False
    files = {Path(p): size for p, size in entry["written"].items()}
    return all(p.is_file() and (p.name in USER_EDITABLE_FILES or p.stat().st_size == size) for p, size in files.items())
