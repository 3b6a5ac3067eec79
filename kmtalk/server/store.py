"""The server's jobs in a SQLite database, which survives a restart, and a folder for each.

A job is `waiting`, `running`, and at the end `done`, `failed` or `cancelled`.
"""

from __future__ import annotations

import json
import secrets
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from kmtalk.errors import InputError
from kmtalk.server.settings import JobOptions

JobState = Literal["waiting", "running", "done", "failed", "cancelled"]
WAITING, RUNNING, DONE, FAILED, CANCELLED = get_args(JobState)
FINISHED = (DONE, FAILED, CANCELLED)
MAX_ATTEMPTS = 5
"""Times that a job is begun whose process dies."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, number INTEGER, state TEXT NOT NULL, options TEXT NOT NULL, speech_name TEXT NOT NULL,
    character TEXT, attempts INTEGER NOT NULL DEFAULT 0, created REAL NOT NULL, started REAL, finished REAL,
    error TEXT, warnings TEXT NOT NULL DEFAULT '[]', files TEXT NOT NULL DEFAULT '{}'
);
CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state, number);
"""


@dataclass(frozen=True)
class JobRecord:
    """One job.

    Attributes:
        id: Its identifier, which cannot be guessed.
        number: Place in the order in which jobs were given.
        state: One of `WAITING`, `RUNNING`, `DONE`, `FAILED` and `CANCELLED`.
        options: What it asks for.
        speech_name: Name of the sound as it was given, for titles alone.
        character: Kind of the character's file; None for the default head.
        attempts: Times that it was begun.
        created, started, finished: Seconds since 1970; None where it did not happen yet.
        error: One line on what went wrong.
        warnings: One-line warnings.
        files: Names and sizes in bytes of the result's files.
    """

    id: str
    number: int
    state: JobState
    options: JobOptions
    speech_name: str
    character: str | None
    attempts: int
    created: float
    started: float | None
    finished: float | None
    error: str | None
    warnings: tuple[str, ...]
    files: dict[str, int]


class JobStore:
    """The jobs of a server. Usable from several threads; one process at a time.

    Args:
        folder: Folder of the database and of the jobs' folders; it is created.

    Raises:
        InputError: The folder cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self._lock = threading.Lock()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / "jobs").mkdir(mode=0o700, exist_ok=True)  # other users of this machine see none
            self._database = sqlite3.connect(self.folder / "jobs.sqlite", check_same_thread=False, isolation_level=None)
            self._database.row_factory = sqlite3.Row
            self._database.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;" + _SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise InputError(f"{folder}: the server cannot keep its jobs there ({error})") from None
        # what a server was doing that was killed; its processes have died with it
        self._execute("UPDATE jobs SET state = ? WHERE state = ?", WAITING, RUNNING)

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._database.close()

    def _execute(self, statement: str, *values: object) -> list[sqlite3.Row]:
        with self._lock:
            return self._database.execute(statement, values).fetchall()

    @staticmethod
    def new_id() -> str:
        """Return an identifier for a new job."""
        return secrets.token_hex(16)

    def folder_of(self, job_id: str) -> Path:
        """Return the folder of a job. `job_id` is one that `new_id` made."""
        return self.folder / "jobs" / job_id

    def add(self, job_id: str, options: JobOptions, speech_name: str, character: str | None) -> JobRecord:
        """Add a job, whose inputs are in its folder."""
        self._execute(
            "INSERT INTO jobs (id, number, state, options, speech_name, character, created) "
            "SELECT ?, COALESCE(MAX(number), 0) + 1, ?, ?, ?, ?, ? FROM jobs",
            job_id, WAITING, options.model_dump_json(), speech_name, character, time.time(),
        )  # fmt: skip
        found = self.get(job_id)
        assert found is not None
        return found

    def get(self, job_id: str) -> JobRecord | None:
        """Return a job; None where there is none of this identifier."""
        rows = self._execute("SELECT * FROM jobs WHERE id = ?", job_id)
        return _record(rows[0]) if rows else None

    def newest(self, limit: int = 100) -> list[JobRecord]:
        """Return the newest jobs, newest first."""
        return [_record(row) for row in self._execute("SELECT * FROM jobs ORDER BY number DESC LIMIT ?", limit)]

    def count_waiting(self) -> int:
        """Return how many jobs wait."""
        return int(self._execute("SELECT COUNT(*) FROM jobs WHERE state = ?", WAITING)[0][0])

    def place_of(self, job: JobRecord) -> int:
        """Return how many jobs wait before one."""
        rows = self._execute("SELECT COUNT(*) FROM jobs WHERE state = ? AND number < ?", WAITING, job.number)
        return int(rows[0][0])

    def claim(self) -> JobRecord | None:
        """Take the job that has waited longest; None where none waits."""
        rows = self._execute(
            "UPDATE jobs SET state = ?, started = ?, attempts = attempts + 1 WHERE id = "
            "(SELECT id FROM jobs WHERE state = ? ORDER BY number LIMIT 1) RETURNING *",
            RUNNING, time.time(), WAITING,
        )  # fmt: skip
        return _record(rows[0]) if rows else None

    def finish(self, job_id: str, files: dict[str, int], warnings: Sequence[str]) -> None:
        """Record that a running job is done."""
        self._end(job_id, DONE, None, files, warnings)

    def fail(self, job_id: str, error: str, warnings: Sequence[str] = ()) -> None:
        """Record that a running job cannot be done."""
        self._end(job_id, FAILED, error, {}, warnings)

    def _end(self, job_id: str, state: str, error: str | None, files: dict[str, int], warnings: Sequence[str]) -> None:
        self._execute(
            "UPDATE jobs SET state = ?, finished = ?, error = ?, files = ?, warnings = ? WHERE id = ? AND state = ?",
            state, time.time(), error, json.dumps(files), json.dumps(list(warnings)), job_id, RUNNING,
        )  # fmt: skip

    def give_back(self, job_id: str) -> bool:
        """Let a running job wait again whose process died; returns False where it was begun too often."""
        rows = self._execute(
            "UPDATE jobs SET state = ? WHERE id = ? AND state = ? AND attempts < ? RETURNING id",
            WAITING, job_id, RUNNING, MAX_ATTEMPTS,
        )  # fmt: skip
        return bool(rows)

    def return_unstarted(self, job_id: str) -> None:
        """Let a running job wait again, as if it had not been begun: the server ends."""
        self._execute(
            "UPDATE jobs SET state = ?, attempts = attempts - 1 WHERE id = ? AND state = ?", WAITING, job_id, RUNNING
        )

    def cancel(self, job_id: str) -> None:
        """End a job that waits or runs."""
        self._execute(
            "UPDATE jobs SET state = ?, finished = ? WHERE id = ? AND state IN (?, ?)",
            CANCELLED, time.time(), job_id, WAITING, RUNNING,
        )  # fmt: skip

    def remove(self, job_id: str) -> None:
        """Remove a finished job and its folder."""
        self._execute("DELETE FROM jobs WHERE id = ?", job_id)
        shutil.rmtree(self.folder_of(job_id), ignore_errors=True)

    def remove_expired(self, keep_seconds: float) -> int:
        """Remove the jobs that finished longer ago, and folders without a job; returns the number of jobs."""
        before = time.time() - keep_seconds
        rows = self._execute("SELECT id FROM jobs WHERE finished < ?", before)
        for row in rows:
            self.remove(row["id"])
        known = {row["id"] for row in self._execute("SELECT id FROM jobs")}
        for folder in (self.folder / "jobs").iterdir():
            if folder.name not in known and folder.stat().st_mtime < before:
                shutil.rmtree(folder, ignore_errors=True)
        return len(rows)

    @contextmanager
    def new_folder(self) -> Iterator[tuple[str, Path]]:
        """Context manager that yields an identifier and its new folder, which an error removes again."""
        job_id = self.new_id()
        folder = self.folder_of(job_id)
        folder.mkdir()
        try:
            yield job_id, folder
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


def _record(row: sqlite3.Row) -> JobRecord:
    facts = dict(row)
    facts["options"] = JobOptions.model_validate_json(facts["options"])
    facts["warnings"], facts["files"] = tuple(json.loads(facts["warnings"])), json.loads(facts["files"])
    return JobRecord(**facts)
