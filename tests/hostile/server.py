"""A process that has imported kmtalk, and runs each command in a fork of its own, under limits of time and memory.

It reads one JSON object per line from stdin, `{"argv": […], "folder": …, "seconds": …}`, and writes one to stdout: the
exit status, the seconds that the command took, and its memory above that of the process before the command began.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys
import tempfile
import time
import warnings
from pathlib import Path

import psutil

BYTES = 2 << 30
"""Memory that one command may take."""
GRACE = 6.0
"""Where others use the cores too, a command that is not at work is stopped after this many times its seconds."""


def _run_here(argv: list[str]) -> int:
    """Run the command line in this process, as the console script does; return its exit code."""
    from kmtalk.cli import app

    sys.argv = ["kmtalk", *argv]
    try:
        app()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _redirect(folder: Path) -> None:
    for number, name in ((0, os.devnull), (1, folder / "stdout"), (2, folder / "stderr")):
        handle = os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(handle, number)
        os.close(handle)
    # a terminal's or pipe's encoding, whatever this process began with
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115


def _child(argv: list[str], folder: Path) -> None:
    """The fork: never returns."""
    code = 70
    try:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CPU, (60, 60))  # where this program is killed, its fork ends all the same
        _redirect(folder)
        os.chdir(folder / "work")
        os.environ["TMPDIR"] = tempfile.tempdir = str(folder / "tmp")
        try:
            code = _run_here(argv)
        except BaseException:
            import traceback

            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _memory(process: psutil.Process) -> int:
    """Memory of a process and its children that is not shared with others, in bytes."""
    total = 0
    for one in [process, *process.children(recursive=True)]:
        try:
            facts = one.memory_info()
            total += facts.rss - facts.shared
        except psutil.Error:
            continue
    return total


def _watch(pid: int, limit: float) -> dict[str, object]:
    began, peak, base, stopped = time.monotonic(), 0, None, ""
    child = psutil.Process(pid)
    step = 0
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        seconds = time.monotonic() - began
        if done:
            break
        step += 1
        if step % 4 == 0:
            try:
                held = _memory(child)
                times = child.cpu_times()
            except psutil.Error:
                continue
            base = held if base is None else base
            peak = max(peak, held - base)
            busy = times.user + times.system + times.children_user + times.children_system
            late = seconds > limit and (busy > limit or seconds > GRACE * limit)
            stopped = "memory" if peak > BYTES else "time" if late else ""
            if stopped:
                break
        time.sleep(0.005)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)  # also children that the command left
    if stopped:
        _, status = os.waitpid(pid, 0)
    return {
        "code": os.waitstatus_to_exitcode(status),
        "stopped": stopped,
        "seconds": round(seconds, 3),
        "megabytes": peak >> 20,
    }


def main() -> None:
    orders, answers = os.fdopen(os.dup(0), encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    warmup = json.loads(orders.readline())
    warnings.filterwarnings("ignore")
    with tempfile.TemporaryDirectory() as folder:
        # what the commands import and cache is there before the first fork
        _redirect(Path(folder))
        os.chdir(folder)
        for argv in warmup:
            if _run_here(argv):
                answers.write(json.dumps({"failed": argv, "stderr": Path(folder, "stderr").read_text()}) + "\n")
                answers.flush()
                return
        os.chdir("/")
    answers.write(json.dumps({"ready": True}) + "\n")
    answers.flush()
    while line := orders.readline():
        job = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _child(job["argv"], Path(job["folder"]))
        answers.write(json.dumps(_watch(pid, job["seconds"])) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
