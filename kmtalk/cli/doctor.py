"""kmtalk doctor."""

from __future__ import annotations

from kmtalk.cli.command import command
from kmtalk.cli.console import CommandOutput


@command
def doctor(console: CommandOutput) -> None:
    """Show which parts are installed, and how to get missing ones. Exit code 1 where a required part is missing."""
    from rich.console import Console
    from rich.table import Table

    from kmtalk.doctor import missing_required, run_checks

    with console.stage("check"):
        results = list(run_checks())
    table = Table(box=None, pad_edge=False, show_header=False)
    for result in results:
        mark = "[green]✓" if result.found else "[red]✗" if result.required else "[dim]–"
        remedy = result.remedy.replace("[", chr(92) + "[")
        table.add_row(mark, result.part, result.found or f"[dim]{remedy}")
    missing = missing_required(results)
    if not console.as_json and not console.quiet:
        Console(soft_wrap=True).print(table)
    for result in missing:
        console.log(f"{result.part} is missing: {result.remedy}")
    console.summary = {"parts": [vars(result) for result in results]}
    console.exit_code = 1 if missing else 0
