"""kmtalk fit."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from kmtalk.cli.command import command
from kmtalk.cli.console import CommandOutput
from kmtalk.cli.options import Landmarks
from kmtalk.errors import InputError
from kmtalk.settings import CharacterSettings


@command
def fit(
    console: CommandOutput,
    template: Annotated[Path, typer.Argument(help="Face mesh, or a folder of OBJ shapes.", show_default=False)],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Rig to write (default: TEMPLATE.kmrig).")
    ] = None,
    landmarks: Landmarks = None,
    character: CharacterSettings = CharacterSettings(),
    refine: Annotated[bool, typer.Option("--refine", help="Register by Amberg's non-rigid ICP (slower).")] = False,
    reference_rig: Annotated[
        Path | None, typer.Option(help="A .kmrig of the same topology, whose shapes are transferred.")
    ] = None,
) -> None:
    """Fit the rig to a mesh: writes face.kmrig, a preview face-fit.png and a report face-fit.json."""
    import json

    from kmtalk.face.files.load import load_template
    from kmtalk.face.fit_landmarks import FaceNotFoundError
    from kmtalk.face.rig_file import RIG_SUFFIX, save_rig_file
    from kmtalk.face.shape_names import LANDMARK_NAMES
    from kmtalk.output import atomic_write

    if output is None and not template.name:
        raise InputError(f"{template}: give -o with the rig's name")
    if template.suffix.lower() == RIG_SUFFIX:
        raise InputError(f"{template}: is a fitted rig already; use it with kmtalk animate --template")
    output = output or template.with_suffix(RIG_SUFFIX)
    if output.suffix.lower() != RIG_SUFFIX:
        raise InputError(f"{output}: -o takes a file ending in {RIG_SUFFIX}")
    preview_path, report_path = (output.with_name(f"{output.stem}-fit{suffix}") for suffix in (".png", ".json"))
    console.check_outputs(output, preview_path, report_path)
    mesh = load_template(template, character.node, character.head_bone, character.map)  # before the models
    with console.stage("load"):
        from kmtalk.pipeline import KMTalk
        from kmtalk.render.fit_preview import write_fit_preview, write_mesh_preview

    talk = KMTalk(warn=console.log, progress=console)
    try:
        fitted = talk.fit(mesh, landmarks, refine=refine, reference=reference_rig)
    except FaceNotFoundError as error:
        hint = ""
        with suppress(InputError), atomic_write(preview_path) as temporary:  # the error stands without a picture
            write_mesh_preview(temporary, mesh)
            hint = f" (the views that were searched: {preview_path})"
        raise InputError(f"{error}{hint}") from None
    report = fitted.report
    with atomic_write(output) as temporary:
        save_rig_file(temporary, fitted)
    with atomic_write(report_path) as temporary:
        located = fitted.rig.template
        points = {
            name: located.vertices[vertex].astype(float).tolist()
            for name, vertex in located.landmarks.items()
            if name in LANDMARK_NAMES
        }
        document = report.to_dict() | {"landmarks": points}
        temporary.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    written = [output, report_path]
    try:
        with console.stage("preview"), atomic_write(preview_path) as temporary:
            write_fit_preview(temporary, fitted)
        written.append(preview_path)
    except InputError as error:
        console.log(f"no preview: {error}")
    if not console.quiet:
        summary = f"{template}: {report.method}, confidence {report.confidence}"
        matched = [str(report.measurements[key]) for key in ("matched_by_effect",) if key in report.measurements]
        for line in (summary, fitted.describe(), *report.warnings, *report.notes, *matched):
            console.log(line)
    console.summary |= {"method": report.method, "confidence": report.confidence}
    console.report_written(written)
