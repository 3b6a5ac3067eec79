"""Draws the frames of a video in several processes, each with its own OpenGL context.

A software OpenGL uses the cores better so: while one process waits for its picture or prepares the next one, another
draws. Frames go to the processes in short runs, and come back in order through files that all map: the shared
memory of a container is often too small.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kmtalk.render import opengl

if TYPE_CHECKING:
    from kmtalk.render.drawings import Drawing

LONGEST_RUN = 8  # frames
LARGEST_RUN = 32_000_000  # bytes
FEWEST_FRAMES = 100  # for which more processes are worth their start
MOST_PROCESSES = 4


def count_processes(frames: int, threads: int) -> int:
    """How many processes draw a video of so many frames with so many threads in all."""
    return 1 if frames < FEWEST_FRAMES else min(MOST_PROCESSES, threads)


def draw_frames(
    folder: Path, job: dict[str, Any], size: tuple[int, int], processes: int
) -> Generator[tuple[np.ndarray, str]]:
    """Yield the picture (H, W, 3) uint8 of each frame of a job, and the name of the OpenGL that has drawn it.

    A picture is valid until the next one is asked for.

    Args:
        folder: Folder of the job (see `worker`).
        job: Its description.
        size: Width and height of a picture in pixels.
        processes: How many processes draw; with one it is this process.

    Raises:
        OpenGLNotFoundError: No OpenGL works.
        OSError: A process was ended, or a file cannot be read.
    """
    if processes == 1:
        name, drawing = _start_drawing(folder, job)
        yield from ((picture, name) for picture in drawing.pictures(np.arange(job["frames"])))
        drawing.close()
        return
    # Mesa's own threads, for each process; one that has no core to itself would only be waited for
    os.environ["LP_NUM_THREADS"] = str(job["threads"] // processes if job["threads"] > processes else 0)
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # further ones would spin between the small products of NumPy
    shape, count = (size[1], size[0], 3), job["frames"]
    run = int(np.clip(LARGEST_RUN // np.prod(shape), 1, LONGEST_RUN))
    context = multiprocessing.get_context("spawn")  # OpenGL does not survive a fork
    paths = [folder / f"pictures-{n}" for n in range(2 * processes)]
    for path in paths:
        path.write_bytes(bytes(run * int(np.prod(shape))))  # a file with holes would end a process on a full disk
    slots = [np.memmap(path, np.uint8, "r", shape=(run, *shape)) for path in paths]
    pool = ProcessPoolExecutor(processes, context, _prepare_process, (folder, job, (run, *shape)))
    try:
        starts = iter(range(0, count, run))
        runs: deque[tuple[int, int, Future[str]]] = deque()

        def submit(slot: int) -> None:
            if (start := next(starts, None)) is not None:
                length = min(run, count - start)
                runs.append((slot, length, pool.submit(_draw_run, paths[slot], start, length)))

        for slot in range(len(slots)):
            submit(slot)
        while runs:
            slot, length, drawn = runs.popleft()
            name = drawn.result()
            yield from ((picture, name) for picture in slots[slot][:length])
            submit(slot)
    except BrokenProcessPool:
        raise OSError("a drawing process was ended; too little memory is the usual reason") from None
    finally:
        pool.shutdown(cancel_futures=True)


class _State:
    """What a drawing process keeps from run to run."""

    job: tuple[Path, dict[str, Any]]
    shape: tuple[int, ...]
    drawing: tuple[str, Drawing] | None = None


_state = _State()


def _prepare_process(folder: Path, job: dict[str, Any], shape: tuple[int, ...]) -> None:
    _state.job, _state.shape = (folder, job), shape
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the first one decides
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _draw_run(path: Path, start: int, count: int) -> str:
    """Draw frames into the pictures of a file; returns the name of the OpenGL."""
    if _state.drawing is None:  # here, so that its errors reach the first process
        _state.drawing = _start_drawing(*_state.job)
    name, drawing = _state.drawing
    pictures = np.memmap(path, np.uint8, "r+", shape=_state.shape)
    for n, picture in enumerate(drawing.pictures(np.arange(start, start + count))):
        pictures[n] = picture
    return name


def _start_drawing(folder: Path, job: dict[str, Any]) -> tuple[str, Drawing]:
    name = opengl.select_backend()
    from kmtalk.render.drawings import make_drawing  # after the selection of an OpenGL

    return name, make_drawing(folder, job)
