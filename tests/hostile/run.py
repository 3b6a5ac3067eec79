"""Run the hostile cases: python tests/hostile/run.py [KIND …] [--every N] [--write FILE] (make hostile).

Prints every case that did what no command may, and a table of kinds × verdicts. Exit code 1 where there was one.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import kinds_binary
import kinds_mesh
import kinds_text
from case import Case
from judge import CLEAN, FAULTS, VERDICTS, Verdict
from pool import Pool
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from seeds import make_seeds

BEGIN, END = "<!-- hostile: begin -->", "<!-- hostile: end -->"


def all_cases(seeds: Path) -> Iterator[Case]:
    """All cases, the same in every run; of those with one name the first."""
    seen: set[str] = set()
    for make in (*kinds_text.ALL, *kinds_binary.ALL, *kinds_mesh.ALL):
        for case in make(seeds):
            if case.name not in seen:
                seen.add(case.name)
                yield case


def every(cases: Iterator[Case], step: int) -> Iterator[Case]:
    """Of each kind, the valid files and every so many of the others."""
    counts: Counter[str] = Counter()
    for case in cases:
        counts[case.kind] += 1
        if case.must_pass or counts[case.kind] % step == 1 or step == 1:
            yield case


def table(verdicts: list[Verdict]) -> list[str]:
    """Lines of a Markdown table, kind × verdict; faults have one column where there are none."""
    counts = Counter((v.case.kind, v.verdict) for v in verdicts)
    kinds = sorted({v.case.kind for v in verdicts}, key=str.lower)
    shown = [*CLEAN, *(v for v in FAULTS if any(counts[k, v] for k in kinds))]
    lines = [f"| Input | Cases | {' | '.join(shown)} | Faults |", f"| --- |{' ---: |' * (len(shown) + 2)}"]
    for kind in (*kinds, "**all**"):
        of = [k for k in kinds if kind in (k, "**all**")]
        numbers = [sum(counts[k, v] for k in of) for v in shown]
        cases, faults = (sum(counts[k, v] for k in of for v in group) for group in (VERDICTS, FAULTS))
        lines.append(f"| {kind} | {cases} | {' | '.join(map(str, numbers))} | {faults} |")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("kinds", nargs="*", help="kinds to run (default: all)")
    parser.add_argument("--every", type=int, default=1, help="of each kind, every so many cases")
    parser.add_argument("--name", default="", help="only cases with this in their name")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seeds", type=Path, help="folder of seeds, made there unless it is full")
    parser.add_argument("--write", type=Path, help="Markdown file whose table is replaced")
    options = parser.parse_args()
    console, verdicts = Console(stderr=True), []
    with tempfile.TemporaryDirectory() as folder:
        seeds = options.seeds or Path(folder)
        seeds.mkdir(exist_ok=True)
        if not any(seeds.iterdir()):
            make_seeds(seeds)

        def chosen() -> Iterator[Case]:
            cases = (c for c in all_cases(seeds) if not options.kinds or c.kind in options.kinds)
            return (c for c in every(cases, options.every) if options.name in c.name)

        total = sum(1 for _ in chosen())
        columns = (TextColumn("cases"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Pool(seeds, options.jobs) as pool, Progress(*columns, console=console) as bar:
            task = bar.add_task("cases", total=total)
            for verdict in pool.run(chosen()):
                verdicts.append(verdict)
                bar.advance(task)
                if verdict.verdict in FAULTS:
                    line = f"{verdict.verdict}: {verdict.case.name!a}: {verdict.note!a} ({verdict.seconds} s)"
                    print(f"{line}\n    kmtalk {' '.join(verdict.case.argv)[:300]!a}", flush=True)
    lines = table(verdicts)
    slowest = max(verdicts, key=lambda v: v.seconds)
    largest = max(verdicts, key=lambda v: v.megabytes)
    print("\n".join(lines))
    print(
        f"slowest: {slowest.seconds} s, {slowest.case.name!a}; largest: {largest.megabytes} MB, {largest.case.name!a}"
    )
    if options.write:
        text = options.write.read_text(encoding="utf-8")
        before, rest = text.split(BEGIN)
        facts = f"Slowest command: {slowest.seconds:.1f} s. Most memory: {largest.megabytes} MB."
        content = "\n".join([BEGIN, "", *lines, "", facts, "", END])
        options.write.write_text(before + content + rest.split(END)[1], encoding="utf-8")
    return int(any(v.verdict in FAULTS for v in verdicts))


if __name__ == "__main__":
    sys.exit(main())
