"""Many clips: what is done already is skipped, what failed is tried again, and one clip's failure stops no other."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from kmtalk.batch.executors import Executor, JobResult, ProcessExecutor, RayExecutor, run_jobs
from kmtalk.batch.jobs import Job, JobSettings, check_job_settings
from kmtalk.errors import InputError
from kmtalk.output import check_writable
from kmtalk.progress import Progress

LOG_NAME = "batch.jsonl"
USER_EDITABLE_FILES = ("keys.json", "speech.TextGrid")


@dataclass(frozen=True)
class BatchSummary:
    """How a batch went: clips that were ``completed`` now, ``skipped`` because they were done before, and ``failed``."""

    completed: int
    skipped: int
    failed: int


def run_batch(
    tasks: list[Job],
    recipe: JobSettings,
    output: Path,
    jobs: int | None = None,
    ray: str | None = None,
    progress: Progress | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> BatchSummary:
    """Animate all ``tasks`` into their folders under ``output``; the log there (batch.jsonl) tells of each.

    ``jobs`` processes (None: one a CPU), or as many actors of the Ray cluster at ``ray`` ("local" starts one). Raises
    InputError for a recipe that no clip could follow, and where another batch writes there.
    """
    check_job_settings(recipe)
    check_writable(output / LOG_NAME)
    output.mkdir(parents=True, exist_ok=True)
    lock = FileLock(output / ".batch.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise InputError(f"{output}: another batch is writing there") from None
    try:
        for folder in {task.output.parent for task in tasks}:  # left by a batch that was killed
            for left in folder.glob(".kmtalk-*"):
                shutil.rmtree(left, ignore_errors=True)
        with (progress or Progress()).stage("batch", len(tasks)) as advance:
            return _run_pending(tasks, recipe, output, jobs, ray, advance, log)
    finally:
        lock.release()


def _run_pending(
    tasks: list[Job],
    recipe: JobSettings,
    output: Path,
    jobs: int | None,
    ray: str | None,
    advance: Callable[[int], None],
    say: Callable[[str], None],
) -> BatchSummary:
    log = output / LOG_NAME
    known, how = read_log(log), recipe.fingerprint()
    keys = {task.output: task.fingerprint(how) for task in tasks}
    todo = [task for task in tasks if not _is_done(known.get(str(task.output)), keys[task.output])]
    skipped, done, failed = len(tasks) - len(todo), 0, 0
    advance(skipped)
    if not todo:
        return BatchSummary(0, skipped, 0)
    crew: Executor
    if ray is not None:
        crew = RayExecutor(recipe, jobs, ray)
    else:
        crew = ProcessExecutor(recipe, min(jobs or os.cpu_count() or 1, len(todo)))
    with log.open("a", encoding="utf-8") as file:
        if log.stat().st_size and not log.read_bytes().endswith(b"\n"):
            file.write("\n")  # a line that a kill cut short
        for task, result in run_jobs(crew, todo):
            file.write(json.dumps(_entry(task, keys[task.output], result)) + "\n")
            file.flush()
            done, failed = done + (result.error is None), failed + (result.error is not None)
            for warning in result.warnings:
                say(f"{task.speech}: {warning}")
            if result.error is not None:
                say(result.error if str(task.speech) in result.error else f"{task.speech}: {result.error}")
            advance(skipped + done + failed)
    return BatchSummary(done, skipped, failed)


def _entry(task: Job, key: str, result: JobResult) -> dict[str, object]:
    return {
        "speech": str(task.speech),
        "output": str(task.output),
        "status": "done" if result.error is None else "failed",
        "seconds": round(result.seconds, 2),
        "error": result.error,
        "warnings": result.warnings,
        "key": key,
        "written": dict(result.written),
    }


def read_log(path: Path) -> dict[str, Mapping[str, Any]]:
    """The last entry of every clip, by its output folder; damaged lines are passed over."""
    entries: dict[str, Mapping[str, Any]] = {}
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError, KeyError, TypeError):
                entry = json.loads(line)
                entries[entry["output"]] = entry
    return entries


def _is_done(entry: Mapping[str, Any] | None, key: str) -> bool:
    """Whether the clip was done, with the same sound and options, and its files are whole; those that people edit may
    have changed."""
    if entry is None or entry.get("status") != "done" or entry.get("key") != key:
        return False
    files = {Path(p): size for p, size in entry["written"].items()}
    return all(p.is_file() and (p.name in USER_EDITABLE_FILES or p.stat().st_size == size) for p, size in files.items())
