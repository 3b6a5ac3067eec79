"""kmtalk fit."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from kmtalk.cli.options import Landmarks
from kmtalk.cli.screen import Json, Quiet, check_no_input, session
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
    with session(quiet, as_json) as screen:
        import json

        from kmtalk.face.files.load import load_template
        from kmtalk.face.fit import NoFace
        from kmtalk.face.kmrig import SUFFIX, save_kmrig
        from kmtalk.face.names import MARKS
        from kmtalk.output import check_writable, finished

        if output is None and not template.name:
            raise InputError(f"{template}: give -o with the rig's name")
        if template.suffix.lower() == SUFFIX:
            raise InputError(f"{template}: is a fitted rig already; use it with kmtalk animate --template")
        target = output or template.with_suffix(SUFFIX)
        if target.suffix.lower() != SUFFIX:
            raise InputError(f"{target}: -o takes a file ending in {SUFFIX}")
        picture, paper = (target.with_name(f"{target.stem}-fit{suffix}") for suffix in (".png", ".json"))
        for path in (target, picture, paper):
            check_no_input(path, template, landmarks, rig)
            check_writable(path)
        with screen.stage("load"):
            from kmtalk.pipeline import KMTalk
            from kmtalk.render.preview import write_mesh_preview, write_preview

        talk = KMTalk(warn=screen.say, progress=screen)
        mesh = load_template(template)
        try:
            fitted = talk.fit(mesh, landmarks, refined=refine, known=rig)
        except NoFace as refusal:
            seen = ""
            with suppress(InputError), finished(picture) as temporary:  # the refusal stands without a picture
                write_mesh_preview(temporary, mesh)
                seen = f" (what was looked at: {picture})"
            raise InputError(f"{refusal}{seen}") from None
        with finished(target) as temporary:
            save_kmrig(temporary, fitted)
        with finished(paper) as temporary:
            t = fitted.rig.template
            marks = {name: t.vertices[v].astype(float).tolist() for name, v in t.landmarks.items() if name in MARKS}
            document = fitted.report.document() | {"landmarks": marks}
            temporary.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        written = [target, paper]
        try:
            with screen.stage("preview"), finished(picture) as temporary:
                write_preview(temporary, fitted)
            written.append(picture)
        except InputError as error:
            screen.say(f"no preview: {error}")
        report = fitted.report
        remarks = [f"{template}: {report.way}, confidence {report.confidence}", *report.doubts, *report.remarks]
        for line in [] if quiet else remarks:
            screen.say(line)
        screen.summary |= {"way": report.way, "confidence": report.confidence}
        screen.wrote(written)
