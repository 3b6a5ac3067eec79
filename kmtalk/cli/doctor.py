"""kmtalk doctor."""

from __future__ import annotations

from kmtalk.cli.console import Json, Quiet, run_command


def doctor(quiet: Quiet = False, as_json: Json = False) -> None:
    """Say which parts are found, and what each missing one would need. Exit code 1 where a face cannot be animated."""
    with run_command(quiet, as_json) as screen:
        from rich.console import Console
        from rich.table import Table

        from kmtalk.doctor import missing_required, run_checks

        with screen.stage("examine"):
            findings = list(run_checks())
        table = Table(box=None, pad_edge=False, show_header=False)
        for finding in findings:
            mark = "[green]✓" if finding.found else "[red]✗" if finding.required else "[dim]–"
            table.add_row(mark, finding.part, finding.found or f"[dim]{finding.remedy.replace('[', chr(92) + '[')}")
        lacking = missing_required(findings)
        if not as_json and not quiet:
            Console(soft_wrap=True).print(table)
        for finding in lacking:
            screen.log(f"{finding.part} is missing: {finding.remedy}")
        screen.summary = {"parts": [vars(f) for f in findings]}
        screen.exit_code = 1 if lacking else 0
