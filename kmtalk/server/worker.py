"""The process that does the server's jobs: it decodes, animates and writes, and loads its models once."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from kmtalk.batch.executors import exit_with_parent
from kmtalk.errors import InputError
from kmtalk.progress import Progress
from kmtalk.server.settings import JobOptions

if TYPE_CHECKING:
    from kmtalk.pipeline import KMTalk

SPEECH, CHARACTER, RESULT = "speech", "character", "result"
"""Names of the sound, of the character (with its kind as suffix) and of the result's folder in a job's folder."""


@dataclass(frozen=True)
class Task:
    """What a worker is told to do.

    Attributes:
        folder: Folder of the job.
        options: What the job asks for.
        speech_name: Name of the sound in messages.
        character: Kind of the character's file; None for the default head.
        max_seconds: Longest sound.
    """

    folder: Path
    options: JobOptions
    speech_name: str
    character: str | None
    max_seconds: float


@dataclass(frozen=True)
class StageMessage:
    """Progress of a stage."""

    name: str
    done: int = 0
    total: int | None = None


@dataclass(frozen=True)
class EndMessage:
    """The end of a job: one line on what went wrong, or the names and sizes in bytes of the files."""

    error: str | None
    files: dict[str, int]
    warnings: tuple[str, ...]


def encode_message(message: StageMessage | EndMessage) -> bytes:
    """Encode a message as JSON: the server must not unpickle what a process says that decodes users' files."""
    kind = "end" if isinstance(message, EndMessage) else "stage"
    return json.dumps({"kind": kind, **asdict(message)}).encode()


def decode_message(data: bytes) -> StageMessage | EndMessage:
    """Undo `encode_message`; raises ValueError for anything else."""
    facts = json.loads(data)
    try:
        if facts.pop("kind") == "stage":
            total = facts["total"]
            return StageMessage(str(facts["name"]), int(facts["done"]), None if total is None else int(total))
        error, files = facts["error"], {str(name): int(size) for name, size in facts["files"].items()}
        return EndMessage(None if error is None else str(error), files, tuple(map(str, facts["warnings"])))
    except (AttributeError, KeyError, TypeError) as problem:
        raise ValueError(f"no message: {problem}") from None


class _Relay(Progress):
    """Sends progress to the server."""

    def __init__(self, send: Callable[[StageMessage], None]) -> None:
        self._send = send

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        shown = -1
        self._send(StageMessage(name, 0, total))

        def advance(done: int) -> None:
            nonlocal shown
            percent = done if not total else done * 100 // total
            if percent != shown:
                shown = percent
                self._send(StageMessage(name, done, total))

        yield advance


def worker_main(connection: Connection, threads: int) -> None:
    """Do the tasks that come over a connection, until it is closed. The process ends with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the server itself decides
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # half-written files are removed on the way out
    threading.Thread(target=exit_with_parent, args=(os.getppid(),), daemon=True).start()
    import warnings

    import torch

    from kmtalk.pipeline import KMTalk

    warnings.filterwarnings("ignore")
    torch.set_num_threads(threads)
    said: list[str] = []
    lock = threading.Lock()  # stages may be reported from several threads

    def send(message: StageMessage | EndMessage) -> None:
        with lock:
            connection.send_bytes(encode_message(message))

    talk = KMTalk(warn=said.append, progress=_Relay(send))
    while True:
        try:
            task: Task = connection.recv()
        except EOFError:
            return
        said.clear()
        send(_end_of(task, talk, said, _Relay(send)))


def _end_of(task: Task, talk: KMTalk, said: list[str], progress: Progress) -> EndMessage:
    """Do a task; errors are returned, not raised."""
    try:
        files, error = _animate(task, talk, progress), None
    except InputError as failure:
        files, error = {}, str(failure)
    except Exception:
        traceback.print_exc()  # for whoever runs the server
        files, error = {}, "an error within kmtalk; the server's log has it"
    warnings = tuple(_without_paths(line, task) for line in said)
    return EndMessage(None if error is None else _without_paths(error, task), files, warnings)


def _without_paths(line: str, task: Task) -> str:
    """Name the sound as the user does, and nothing of the server's folders; one line."""
    speech, character = task.folder / SPEECH, task.folder / f"{CHARACTER}.{task.character}"
    for path, name in ((speech, task.speech_name), (character, character.name), (task.folder, "job")):
        line = line.replace(str(path), name)
    return " ".join(line.split())


def _animate(task: Task, talk: KMTalk, progress: Progress) -> dict[str, int]:
    from kmtalk.speech.audio import load_audio

    audio = replace(load_audio(task.folder / SPEECH), source=task.speech_name)
    if audio.duration > task.max_seconds:
        raise InputError(
            f"{task.speech_name}: lasts {audio.duration / 60:.1f} minutes; this server takes {task.max_seconds / 60:g}"
        )
    template = None if task.character is None else task.folder / f"{CHARACTER}.{task.character}"
    animation = talk.animate(audio, template, text=task.options.text, settings=task.options.animation())
    animation.save(task.folder / RESULT, task.options.export(), progress=progress)
    result = task.folder / RESULT
    return {p.relative_to(result).as_posix(): p.stat().st_size for p in sorted(result.rglob("*")) if p.is_file()}
