"""kmtalk corpus build, check, align and size."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kmtalk.cli.command import command
from kmtalk.cli.console import CommandOutput
from kmtalk.errors import InputError

CorpusPath = Annotated[Path, typer.Argument(help="Folder of the corpus.", show_default=False)]
CorpusKind = Annotated[str, typer.Option("--corpus", help="vocaset, biwi, or folder (a folder with a manifest.json).")]
CorpusFps = Annotated[float, typer.Option(help="Frame rate of VOCASET: 60, or 30 (every second frame).")]
TextGrids = Annotated[
    Path | None, typer.Option(help="Folder of the TextGrids (default: textgrids/ of the corpus).", show_default=False)
]

app = typer.Typer(no_args_is_help=True, help="Build, check and align corpora.")


@command
def build(
    console: CommandOutput,
    kind: Annotated[
        str,
        typer.Argument(
            help="simulated: many voices with the simulated speaker's motion. joint: the voice joe and others with "
            "exact phones and simulated motion, and GRID (--grid), for the joint model. facegood: FACEGOOD's curves "
            "(--source) on the default rig, for kind: rig. vocaset, vocaset-raw, biwi, biwi-raw: a miniature corpus in "
            "that layout, to try the commands on.",
            show_default=False,
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to create.", show_default=False)],
    clips: Annotated[int, typer.Option(min=1, help="Approximate number of clips of simulated.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of sentences, styles and augmentation.")] = 0,
    source: Annotated[Path | None, typer.Option(help="Folder of facegood's curves.", show_default=False)] = None,
    hours: Annotated[float, typer.Option(min=0.01, help="Hours of synthetic speech of joint.")] = 4.0,
    dialogues: Annotated[
        float, typer.Option(min=0, help="Hours of conversations in joint as well, for networks that listen.")
    ] = 0.0,
    grid: Annotated[
        list[str] | None,
        typer.Option(help="Speaker of GRID and the folder of the corpus, for joint: s1=FOLDER.", show_default=False),
    ] = None,
) -> None:
    """Build a corpus from the installed voices (data/README.md lists them), or from another corpus."""
    from kmtalk.corpora.facegood import build_facegood_corpus
    from kmtalk.corpora.miniature import LAYOUTS, build_from_voices
    from kmtalk.corpora.simulated import build_simulated_corpus
    from kmtalk.face.rig import load_light_head
    from kmtalk.output import atomic_write
    from kmtalk.speech.transcribe import load_transcriber

    if kind not in ("simulated", "joint", "facegood", *LAYOUTS):
        raise InputError(f"{kind}: no such corpus to build; one of simulated, joint, facegood, {', '.join(LAYOUTS)}")
    if dialogues and kind != "joint":
        raise InputError("--dialogues is for the joint corpus")
    if grid and kind != "joint":
        raise InputError("--grid is for the joint corpus; configs of other networks name GRID themselves")
    speakers = [_read_grid_option(given) for given in grid or ()]
    if (kind == "facegood") != (source is not None):
        raise InputError("facegood needs --source, the folder of its curves; other corpora are built without it")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"{output}: exists already; give a new folder")
    rig = load_light_head()
    with atomic_write(output) as temporary:
        temporary.mkdir()
        if kind == "simulated":
            count = build_simulated_corpus(temporary, rig, clips, seed, console, console.log)
        elif kind == "joint":
            from kmtalk.joint.corpus_building import build_joint_corpus
            from kmtalk.pipeline import KMTalk

            predictor = KMTalk(warn=console.log, progress=console).predictor
            count = build_joint_corpus(
                temporary, rig, predictor, hours, speakers, dialogues, seed, console, console.log
            )
        elif source is not None:
            count = build_facegood_corpus(source, temporary, rig, load_transcriber(), console, console.log)
        else:
            count = build_from_voices(temporary, kind, rig, seed, console, console.log)
    console.summary |= {"clips": count}
    console.print(f"{output}: {count} clips" + ("" if kind == "facegood" else ", simulated"))


def _read_grid_option(given: str) -> tuple[str, Path]:
    speaker, equals, folder = given.partition("=")
    if not equals or not folder:
        raise InputError(f"--grid {given}: give the speaker and the folder of the corpus, as s1=FOLDER")
    return speaker, Path(folder)


@command
def check(
    console: CommandOutput,
    path: CorpusPath,
    kind: CorpusKind = "vocaset",
    fps: CorpusFps = 30.0,
    textgrids: TextGrids = None,
) -> None:
    """Check units, vertex order, frame rates and gaps of a corpus, in a table. Exit code 2 if one is wrong."""
    from kmtalk.corpora.check import check_corpus
    from kmtalk.corpora.registry import load_mesh_corpus

    results = check_corpus(load_mesh_corpus(kind, path, fps, textgrids), console)
    console.summary["results"] = [vars(result) for result in results]
    for result in results:
        console.print(f"{result.verdict:6s} {result.check:35s} {result.note}")
    wrong = [result.check for result in results if result.verdict == "wrong"]
    if wrong:
        raise InputError(f"{path}: wrong: {'; '.join(wrong)}")


@command
def align(
    console: CommandOutput,
    path: CorpusPath,
    kind: CorpusKind = "vocaset",
    textgrids: TextGrids = None,
    whisper: Annotated[str, typer.Option(help="Whisper model, by name or path.")] = "base",
) -> None:
    """Transcribe and align every clip that has no TextGrid yet."""
    from kmtalk.corpora.registry import load_mesh_corpus
    from kmtalk.evaluation.corpus_alignment import align_corpus
    from kmtalk.pipeline import KMTalk

    corpus = load_mesh_corpus(kind, path, textgrids=textgrids)
    talk = KMTalk(whisper=whisper, warn=lambda line: None)
    written, without_phones = align_corpus(corpus, talk, console, console.log)
    existing = len(corpus.clips) - written - without_phones
    console.summary |= {"written": written, "without_phones": without_phones}
    console.print(f"{path}: {written} TextGrids written, {existing} existed, {without_phones} clips without phones")


@command
def size(
    console: CommandOutput,
    config: Annotated[list[Path], typer.Argument(help="YAML configs; see data/configs.", show_default=False)],
) -> None:
    """Print the number of parameters of each config's network, and its operations per second of sound."""
    from kmtalk.evaluation.model_size import format_size_table

    for line in format_size_table(config):
        console.print(line)


app.command()(build)
app.command()(check)
app.command()(align)
app.command()(size)
