"""Gives the waiting jobs to processes, follows their progress, and ends those that take too much time or memory."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from kmtalk.server.settings import ServerSettings
from kmtalk.server.store import JobRecord, JobStore
from kmtalk.server.worker import RESULT, EndMessage, StageMessage, Task, decode_message, worker_main

POLL_SECONDS = 0.1
JOBS_PER_PROCESS = 50
"""Jobs after which a process is replaced, so that memory that libraries keep is freed."""

EXPIRY_SECONDS = 60.0  # between searches for expired jobs
DATABASE_SECONDS = 2.0  # until a database that failed is used again


class Supervisor:
    """Runs the jobs of a store.

    Args:
        store: The jobs.
        settings: Number of processes, and limits.
        log: Receives one line for each job that ends.
    """

    def __init__(self, store: JobStore, settings: ServerSettings, log: Callable[[str], None]) -> None:
        self._store, self._settings, self._log = store, settings, log
        self._stopping, self._wake = threading.Event(), threading.Event()
        self._progress: dict[str, StageMessage] = {}
        self._slots = [_Slot(self, number) for number in range(settings.workers)]
        self._threads = [threading.Thread(target=s.run, name=f"worker {s.number}", daemon=True) for s in self._slots]
        self._threads.append(threading.Thread(target=self._remove_expired, name="expiry", daemon=True))

    def start(self) -> None:
        """Begin with the jobs that wait."""
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """Say that a job was added or cancelled."""
        self._wake.set()

    def stop(self) -> None:
        """End all processes; their jobs wait again."""
        self._stopping.set()
        self._wake.set()
        for thread in self._threads:
            thread.join()

    def progress_of(self, job_id: str) -> StageMessage | None:
        """Return the last progress of a running job."""
        return self._progress.get(job_id)

    def _remove_expired(self) -> None:
        while not self._stopping.is_set():
            with suppress(sqlite3.Error):  # the processes' threads say so
                self._store.remove_expired(self._settings.keep_hours * 3600)
            self._stopping.wait(EXPIRY_SECONDS)


class _Slot:
    """One process at a time, and the thread that gives it jobs."""

    def __init__(self, supervisor: Supervisor, number: int) -> None:
        self.number = number
        self.process: Any = None
        self._supervisor = supervisor
        self._claimed: JobRecord | None = None
        self._connection: Connection | None = None
        self._done = 0

    def run(self) -> None:
        """Do jobs until the server ends. Where the database fails, as on a full disk, they wait for it."""
        supervisor = self._supervisor
        while not supervisor._stopping.is_set():
            try:
                if self._claimed is not None:  # one whose end could not be noted
                    supervisor._store.return_unstarted(self._claimed.id)
                self._claimed = supervisor._store.claim()
                if self._claimed is None:
                    supervisor._wake.wait(POLL_SECONDS * 5)
                    supervisor._wake.clear()
                    continue
                self._do(self._claimed)
                supervisor._progress.pop(self._claimed.id, None)
                self._claimed = None
            except sqlite3.Error as error:
                supervisor._log(f"the database of the jobs fails ({error}); it is tried again")
                self._end_process()
                if self._claimed is not None:
                    supervisor._progress.pop(self._claimed.id, None)
                supervisor._stopping.wait(DATABASE_SECONDS)
        self._end_process()

    def _do(self, job: JobRecord) -> None:
        store, settings, log = self._supervisor._store, self._supervisor._settings, self._supervisor._log
        folder = store.folder_of(job.id)
        shutil.rmtree(folder / RESULT, ignore_errors=True)  # of an attempt before
        task = Task(folder, job.options, job.speech_name, job.character, settings.max_minutes * 60)
        try:
            end = self._wait_for_end(job, self._give(task))
        except (EOFError, OSError, ValueError):  # the process died, or says what it should not
            self._end_process()
            if store.give_back(job.id):
                log(f"job {job.id[:8]}: its process died; it is tried again")
                return
            end = EndMessage("its process died; too little memory is the usual reason", {}, ())
        if end is None:  # cancelled, or the server ends
            return
        if end.error is None:
            store.finish(job.id, end.files, end.warnings)
        else:
            store.fail(job.id, end.error, end.warnings)
        log(f"job {job.id[:8]}: {end.error or 'done'}")
        self._done += 1
        if self._done >= JOBS_PER_PROCESS:
            self._end_process()

    def _give(self, task: Task) -> Connection:
        if self._connection is None or not self.process.is_alive():
            self._end_process()
            context = multiprocessing.get_context("spawn")
            self._connection, child = context.Pipe()
            threads = max(1, (os.cpu_count() or 1) // self._supervisor._settings.workers)
            self.process = context.Process(target=worker_main, args=(child, threads), daemon=False)
            self.process.start()
            child.close()
        self._connection.send(task)
        return self._connection

    def _wait_for_end(self, job: JobRecord, connection: Connection) -> EndMessage | None:
        """Follow a job to its end; None where it was cancelled or the server ends.

        Raises:
            EOFError, OSError: The process died.
            ValueError: It sent something else than a message.
        """
        supervisor, settings = self._supervisor, self._supervisor._settings
        deadline = time.monotonic() + settings.job_minutes * 60
        while True:
            if connection.poll(POLL_SECONDS):
                message = decode_message(connection.recv_bytes())
                if isinstance(message, EndMessage):
                    return message
                supervisor._progress[job.id] = message
            if supervisor._stopping.is_set():
                self._end_process()
                supervisor._store.return_unstarted(job.id)
                return None
            now = supervisor._store.get(job.id)
            if now is None or now.state != "running":
                self._end_process()
                return None
            if time.monotonic() > deadline:
                self._end_process()
                return EndMessage(f"took longer than {settings.job_minutes:g} minutes", {}, ())
            if (held := resident_bytes(self.process.pid)) > settings.memory_gigabytes * 1e9:
                self._end_process()
                needs = f"needs {held / 1e9:.1f} GB of memory; this server allows {settings.memory_gigabytes:g}"
                return EndMessage(needs, {}, ())

    def _end_process(self) -> None:
        if self._connection is not None:
            self._connection.close()
        if self.process is not None:
            self.process.kill()
            self.process.join()
        self._connection, self.process, self._done = None, None, 0


def resident_bytes(process_id: int) -> int:
    """Return the memory that a process holds; 0 where the system does not tell."""
    with suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{process_id}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0
