"""kmtalk fit."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from kmtalk.cli.console import Json, Quiet, check_not_an_input, run_command
from kmtalk.cli.options import Landmarks
from kmtalk.errors import InputError


def fit(
    template: Annotated[Path, typer.Argument(help="Face mesh, or a folder of OBJ shapes.", show_default=False)],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Rig to write (default: TEMPLATE.kmrig).")
    ] = None,
    landmarks: Landmarks = None,
    refine: Annotated[bool, typer.Option("--refine", help="Amberg's non-rigid ICP: slower.")] = False,
    rig: Annotated[Path | None, typer.Option(help="A .kmrig of the same topology, whose shapes carry over.")] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Fit the rig to a mesh: writes face.kmrig, a preview face-fit.png and a report face-fit.json."""
    with run_command(quiet, as_json) as screen:
        import json

        from kmtalk.face.files.load import load_template
        from kmtalk.face.fit import FaceNotFoundError
        from kmtalk.face.rig_file import SUFFIX, save_rig_file
        from kmtalk.face.shape_names import LANDMARK_NAMES
        from kmtalk.output import atomic_write, check_writable

        if output is None and not template.name:
            raise InputError(f"{template}: give -o with the rig's name")
        if template.suffix.lower() == SUFFIX:
            raise InputError(f"{template}: is a fitted rig already; use it with kmtalk animate --template")
        target = output or template.with_suffix(SUFFIX)
        if target.suffix.lower() != SUFFIX:
            raise InputError(f"{target}: -o takes a file ending in {SUFFIX}")
        picture, paper = (target.with_name(f"{target.stem}-fit{suffix}") for suffix in (".png", ".json"))
        for path in (target, picture, paper):
            check_not_an_input(path, template, landmarks, rig)
            check_writable(path)
        with screen.stage("load"):
            from kmtalk.pipeline import KMTalk
            from kmtalk.render.fit_preview import write_fit_preview, write_mesh_preview

        talk = KMTalk(warn=screen.log, progress=screen)
        mesh = load_template(template)
        try:
            fitted = talk.fit(mesh, landmarks, refine=refine, reference=rig)
        except FaceNotFoundError as refusal:
            seen = ""
            with suppress(InputError), atomic_write(picture) as temporary:  # the refusal stands without a picture
                write_mesh_preview(temporary, mesh)
                seen = f" (what was looked at: {picture})"
            raise InputError(f"{refusal}{seen}") from None
        with atomic_write(target) as temporary:
            save_rig_file(temporary, fitted)
        with atomic_write(paper) as temporary:
            t = fitted.rig.template
            marks = {
                name: t.vertices[v].astype(float).tolist() for name, v in t.landmarks.items() if name in LANDMARK_NAMES
            }
            document = fitted.report.to_dict() | {"landmarks": marks}
            temporary.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        written = [target, paper]
        try:
            with screen.stage("preview"), atomic_write(picture) as temporary:
                write_fit_preview(temporary, fitted)
            written.append(picture)
        except InputError as error:
            screen.log(f"no preview: {error}")
        report = fitted.report
        remarks = [f"{template}: {report.method}, confidence {report.confidence}", *report.warnings, *report.notes]
        for line in [] if quiet else remarks:
            screen.log(line)
        screen.summary |= {"way": report.method, "confidence": report.confidence}
        screen.report_written(written)
