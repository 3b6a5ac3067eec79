"""kmtalk evaluate and reproduce."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kmtalk.cli.command import command
from kmtalk.cli.console import CommandOutput
from kmtalk.cli.corpus import CorpusFps, CorpusKind, CorpusPath, TextGrids
from kmtalk.cli.options import parse_named_paths
from kmtalk.errors import InputError

app = typer.Typer(no_args_is_help=True, help="Reproduce the paper's tables.")


@command
def evaluate(
    console: CommandOutput,
    path: CorpusPath,
    corpus_name: Annotated[
        str,
        typer.Option(
            "--corpus", help="grid: tracked real lips. vocaset, biwi, folder: vertices. joint: sound and face."
        ),
    ] = "grid",
    network: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=FILE of trained weights, each a row; for grid, NAME-1, NAME-2 … are seeds of one network."
        ),
    ] = None,
    reference_phones: Annotated[
        bool, typer.Option("--reference-phones", help="grid: use the corpus' phones instead of kmtalk's transcription.")
    ] = False,
    cache: Annotated[Path | None, typer.Option(help="Folder that caches transcriptions and features.")] = None,
    max_clips: Annotated[int | None, typer.Option(min=2, help="Evaluate only the first clips.")] = None,
    split: Annotated[
        str | None,
        typer.Option(help="vertices: test (default), for BIWI test-a (default) or test-b, val, or one of your own."),
    ] = None,
    predictions: Annotated[
        list[str] | None,
        typer.Option(help="NAME=DIR of another system's .npy (FaceFormer, CodeTalker, SelfTalk), each a row."),
    ] = None,
    keys_from: Annotated[
        Path | None, typer.Option(help="vertices: DIR of .npy whose poses at the key frames the networks complete.")
    ] = None,
    identity: Annotated[
        str | None,
        typer.Option(
            help="vertices: training subject to condition on, or each (default: the clip's own, or the mean)."
        ),
    ] = None,
    lip_mask: Annotated[
        str | None, typer.Option(help="vertices: mask FILE or FILE:PART (default: located on the template).")
    ] = None,
    upper_face_mask: Annotated[
        str | None, typer.Option(help="vertices: mask of the upper face for FDD; as --lip-mask.")
    ] = None,
    speaker: Annotated[str, typer.Option(help="grid: the speaker of PATH, s1 or s4.")] = "s1",
    reader_corpus: Annotated[
        list[str] | None,
        typer.Option(help="grid: SPEAKER=DIR of a further speaker, on whose clips the lip reader is trained too."),
    ] = None,
    landmarks: Annotated[
        Path | None, typer.Option(help="vertices: landmarks of the first subject's template (JSON, vertex indices).")
    ] = None,
    fps: CorpusFps = 30.0,
    textgrids: TextGrids = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="vertices: folder for predictions, NAME/CLIP.npy.")
    ] = None,
) -> None:
    """Score mouths. On grid: baselines, rules, the shipped network and further networks against tracked real lips. On
    vertices: LVE, FDD and further metrics of your networks and of other systems' predictions. On the joint corpus: the
    speech and the face of a joint network."""
    for_vertices = {
        "--predictions": predictions,
        "--keys-from": keys_from,
        "--identity": identity,
        "--lip-mask": lip_mask,
        "--upper-face-mask": upper_face_mask,
        "--landmarks": landmarks,
        "--textgrids": textgrids,
        "-o": output,
    }
    if corpus_name == "grid":
        misplaced = [option for option, value in for_vertices.items() if value]
    else:
        misplaced = ["--reference-phones"] * reference_phones + ["--reader-corpus"] * bool(reader_corpus)
    if corpus_name == "joint":
        misplaced = [o for o, value in for_vertices.items() if value] + ["--reader-corpus"] * bool(reader_corpus)
        misplaced += ["--reference-phones"] * reference_phones
    if misplaced:
        raise InputError(f"{', '.join(misplaced)}: not for --corpus {corpus_name}")
    networks = parse_named_paths("--network", network, "FILE")
    if corpus_name == "grid":
        from kmtalk.evaluation.lips import evaluate_on_grid

        others = parse_named_paths("--reader-corpus", reader_corpus, "DIR")
        rows = evaluate_on_grid(
            path, networks, reference_phones, cache, max_clips, console, console.log, speaker, others
        )
    elif corpus_name == "joint":
        from kmtalk.evaluation.joint import evaluate_joint
        from kmtalk.face.rig import load_light_head

        rows = evaluate_joint(path, networks, load_light_head(), max_clips or 100, progress=console, log=console.log)
    else:
        from kmtalk.corpora.registry import DEFAULT_TEST_SPLIT, load_mesh_corpus
        from kmtalk.evaluation.vertices import EvaluationRequest, evaluate_vertices, make_evaluation_set

        systems = parse_named_paths("--predictions", predictions, "DIR")
        request = EvaluationRequest(networks, systems, keys_from, identity, output, cache)
        corpus = load_mesh_corpus(corpus_name, path, fps, textgrids)
        split = split or DEFAULT_TEST_SPLIT.get(corpus_name, "test")
        evaluation_set = make_evaluation_set(corpus, split, lip_mask, upper_face_mask, landmarks, max_clips)
        rows = evaluate_vertices(evaluation_set, request, console)
    for line in rows:
        console.print(line)
        console.summary.setdefault("rows", []).append(line)


@command
def table(
    console: CommandOutput,
    number: Annotated[
        int,
        typer.Argument(
            min=1,
            help="1 comparison, 2 integration, 3 components, 4 losses, 5 fusion, 6 number of keys, 7 60 fps, 8 time.",
            show_default=False,
        ),
    ],
    path: Annotated[Path, typer.Option(help="Folder of the corpus.", show_default=False)],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", help="Folder for the runs; trained rows are kept there.", show_default=False),
    ],
    kind: CorpusKind = "vocaset",
    config: Annotated[Path | None, typer.Option(help="Config that the rows change (default: the paper's own).")] = None,
    predictions: Annotated[
        list[str] | None, typer.Option(help="NAME=DIR of another system's .npy (tables 1 and 2).")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split to score (default: test, for BIWI test-a).")] = None,
    lip_mask: Annotated[
        str | None, typer.Option(help="Mask FILE or FILE:PART (default: located on the template).")
    ] = None,
    upper_face_mask: Annotated[str | None, typer.Option(help="Mask of the upper face for FDD; as --lip-mask.")] = None,
    textgrids: TextGrids = None,
    tables: Annotated[
        Path | None, typer.Option(help="YAML like data/paper/tables.yaml, with figures or rows of your own.")
    ] = None,
) -> None:
    """Train and score the rows of a table of the paper, beside the published figures."""
    from kmtalk.assets import asset_path
    from kmtalk.corpora.registry import DEFAULT_TEST_SPLIT
    from kmtalk.evaluation.tables import ReproductionSettings, load_table, reproduce
    from kmtalk.training.config import load_config

    systems = parse_named_paths("--predictions", predictions, "DIR")
    if config is None and kind == "folder":
        raise InputError(f"{path}: the paper has no config for a folder of your own; give --config")
    base = load_config(config or asset_path(f"configs/paper-{kind}.yaml"))
    split = split or DEFAULT_TEST_SPLIT.get(kind, "test")
    settings = ReproductionSettings(kind, path, output, split, lip_mask, upper_face_mask, systems, textgrids)
    for line in reproduce(number, load_table(number, tables), base, settings, console, console.log):
        console.print(line)
        console.summary.setdefault("rows", []).append(line)


app.command()(table)
