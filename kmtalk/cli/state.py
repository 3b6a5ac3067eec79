"""kmtalk doctor."""

from __future__ import annotations

from kmtalk.cli.screen import Json, Quiet, session


def doctor(quiet: Quiet = False, as_json: Json = False) -> None:
    """Say which parts are found, and what each missing one would need. Exit code 1 where a face cannot be animated."""
    with session(quiet, as_json) as screen:
        from rich.console import Console
        from rich.table import Table

        from kmtalk.doctor import examine, missing

        with screen.stage("examine"):
            findings = list(examine())
        table = Table(box=None, pad_edge=False, show_header=False)
        for finding in findings:
            mark = "[green]✓" if finding.found else "[red]✗" if finding.needed else "[dim]–"
            table.add_row(mark, finding.part, finding.found or f"[dim]{finding.remedy.replace('[', chr(92) + '[')}")
        lacking = missing(findings)
        if not as_json and not quiet:
            Console(soft_wrap=True).print(table)
        for finding in lacking:
            screen.say(f"{finding.part} is missing: {finding.remedy}")
        screen.summary = {"parts": [vars(f) for f in findings]}
        screen.code = 1 if lacking else 0
