"""kmtalk corpus, train and evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kmtalk.cli.console import Json, Quiet, run_command
from kmtalk.cli.options import parse_named_paths
from kmtalk.errors import InputError

corpus = typer.Typer(no_args_is_help=True, help="Make corpora to train on.")


Kind = Annotated[str, typer.Option("--corpus", help="vocaset, biwi, or folder (one with a manifest.json).")]
Fps = Annotated[float, typer.Option(help="VOCASET's rate: 60, or every second frame of it.")]
Grids = Annotated[Path | None, typer.Option(help="Folder of alignments; by default textgrids/ of the corpus.")]


@corpus.command()
def build(
    kind: Annotated[
        str,
        typer.Argument(
            help="simulated: many voices with the simulated speaker's motion. vocaset, vocaset-raw, biwi, biwi-raw: "
            "a miniature of it in that layout, for trying things out."
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to make.")],
    clips: Annotated[int, typer.Option(min=1, help="About how many clips of simulated.")] = 1400,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Make a corpus from what voices are installed (data/README.md tells which there are)."""
    with run_command(quiet, as_json) as screen:
        from kmtalk.assets import asset_path
        from kmtalk.corpora.miniature import LAYOUTS, build_from_voices
        from kmtalk.corpora.simulated import build_simulated_corpus as build_simulated
        from kmtalk.face.rig import load_rig
        from kmtalk.output import atomic_write

        if kind not in ("simulated", *LAYOUTS):
            raise InputError(f"{kind}: no such corpus to build; simulated, {', '.join(LAYOUTS)}")
        if output.exists() and (not output.is_dir() or any(output.iterdir())):
            raise InputError(f"{output}: is there already; give a new folder")
        rig = load_rig(asset_path("head.safetensors"))
        with atomic_write(output) as temporary:
            temporary.mkdir()
            if kind == "simulated":
                made = build_simulated(temporary, rig, clips, seed, screen, screen.log)
            else:
                made = build_from_voices(temporary, kind, rig, seed, screen, screen.log)
        screen.summary |= {"clips": made}
        screen.print(f"{output}: {made} clips, simulated")


@corpus.command()
def check(
    path: Annotated[Path, typer.Argument(help="The corpus's folder.")],
    kind: Kind = "vocaset",
    fps: Fps = 30.0,
    textgrids: Grids = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Is it what it is taken for? Units, order of vertices, clocks and gaps in a table; exit code 2 if one is wrong."""
    with run_command(quiet, as_json) as screen:
        from kmtalk.corpora.check import check_corpus as look
        from kmtalk.corpora.registry import load_mesh_corpus

        findings = look(load_mesh_corpus(kind, path, fps, textgrids), screen)
        screen.summary["findings"] = [vars(f) for f in findings]
        for f in findings:
            screen.print(f"{f.verdict:6s} {f.what:35s} {f.note}")
        wrong = [f.what for f in findings if f.verdict == "wrong"]
        if wrong:
            raise InputError(f"{path}: wrong: {'; '.join(wrong)}")


@corpus.command()
def align(
    path: Annotated[Path, typer.Argument(help="The corpus's folder.")],
    kind: Kind = "vocaset",
    textgrids: Grids = None,
    whisper: Annotated[str, typer.Option(help="Whisper model: a name or a path.")] = "base",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Transcribe and align every clip that has no TextGrid yet."""
    with run_command(quiet, as_json) as screen:
        from kmtalk.corpora.registry import load_mesh_corpus
        from kmtalk.evaluation.corpus_alignment import align_corpus
        from kmtalk.pipeline import KMTalk

        corpus = load_mesh_corpus(kind, path, textgrids=textgrids)
        made, empty = align_corpus(corpus, KMTalk(whisper, warn=lambda line: None), screen, screen.log)
        screen.summary |= {"made": made, "without_phones": empty}
        screen.print(
            f"{path}: {made} TextGrids made, {len(corpus.clips) - made - empty} were there, {empty} clips without"
        )


@corpus.command()
def size(
    config: Annotated[list[Path], typer.Argument(help="YAML configs; see data/configs.")],
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Parameters of each config's network, and what a second of sound costs it."""
    with run_command(quiet, as_json) as screen:
        from kmtalk.evaluation.model_size import format_size_table

        for line in format_size_table(config):
            screen.print(line)


def train(
    config: Annotated[Path, typer.Argument(help="YAML config; see data/configs.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for weights, checkpoint and log.")],
    path: Annotated[Path | None, typer.Option(help="The corpus's folder, in place of the config's only one.")] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train the network; goes on where a run in the same folder was stopped. For several processes or
    machines: accelerate launch -m kmtalk.cli train CONFIG -o DIR."""
    with run_command(quiet, as_json) as screen:
        try:
            import accelerate  # noqa: F401
            import pydantic  # noqa: F401
            import tensorboard  # noqa: F401
            import yaml  # noqa: F401
        except ImportError as missing:
            raise InputError(f"training needs {missing.name}: pip install 'kmtalk[train]'") from None
        from kmtalk.output import check_writable
        from kmtalk.training.config import load_config
        from kmtalk.training.data import prepare_task
        from kmtalk.training.trainer import Trainer

        plan = load_config(config)
        if path is not None:
            if len(plan.corpora) != 1:
                raise InputError(f"{config}: has {len(plan.corpora)} corpora; --path is for one of a single one")
            plan = plan.model_copy(update={"corpora": (plan.corpora[0].model_copy(update={"path": path}),)})
        for folder in (output, plan.feature_cache or output):
            if folder.exists() and not folder.is_dir():
                raise InputError(f"{folder}: is a file; a folder is wanted there")
            check_writable(folder / "run")
        screen.report_written([Trainer(plan, prepare_task(plan, output, screen), output, screen, screen.log).run()])


reproduce = typer.Typer(no_args_is_help=True, help="The paper's tables, run again.")


@reproduce.command()
def table(
    number: Annotated[
        int,
        typer.Argument(
            min=1, help="1 main, 2 integration, 3 components, 4 losses, 5 fusion, 6 keys, 7 60 fps, 8 time."
        ),
    ],
    path: Annotated[Path, typer.Option(help="The corpus's folder.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the runs; rows trained there are kept.")],
    kind: Kind = "vocaset",
    config: Annotated[Path | None, typer.Option(help="Config whose rows change; by default the paper's own.")] = None,
    predictions: Annotated[
        list[str] | None, typer.Option(help="NAME=DIR of other systems' .npy (tables 1 and 2).")
    ] = None,
    split: Annotated[str | None, typer.Option(help="By default test, or BIWI's test-a.")] = None,
    lips: Annotated[str | None, typer.Option(help="Mask FILE or FILE:PART; by default found.")] = None,
    upper: Annotated[str | None, typer.Option(help="Mask of the upper face, for FDD; the same.")] = None,
    textgrids: Grids = None,
    tables: Annotated[
        Path | None, typer.Option(help="YAML like data/paper/tables.yaml, with figures or rows of your own.")
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train and score what a table of the paper has, with the published figures beside it where they are held."""
    with run_command(quiet, as_json) as screen:
        from kmtalk.assets import asset_path
        from kmtalk.corpora.registry import DEFAULT_TEST_SPLIT
        from kmtalk.evaluation.tables import ReproductionSettings, load_table
        from kmtalk.evaluation.tables import reproduce as run_table
        from kmtalk.training.config import load_config

        others = parse_named_paths("--predictions", predictions, "DIR")
        if config is None and kind == "folder":
            raise InputError(f"{path}: the paper has no config for a folder of your own; give --config")
        plan = load_config(config or asset_path(f"configs/paper-{kind}.yaml"))
        where = ReproductionSettings(
            kind, path, output, split or DEFAULT_TEST_SPLIT.get(kind, "test"), lips, upper, others, textgrids
        )
        for line in run_table(number, load_table(number, tables), plan, where, screen, screen.log):
            screen.print(line)
            screen.summary.setdefault("rows", []).append(line)


def evaluate(
    path: Annotated[Path, typer.Argument(help="The corpus's folder.")],
    corpus_name: Annotated[
        str, typer.Option("--corpus", help="grid: real lips, tracked. vocaset, biwi, folder: vertices.")
    ] = "grid",
    network: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=FILE of trained weights, each a row; for grid, names that end in -1, -2 … are seeds of one."
        ),
    ] = None,
    given: Annotated[bool, typer.Option("--given-phones", help="grid: true phones, not own transcription.")] = False,
    cache: Annotated[Path | None, typer.Option(help="Folder that keeps transcriptions and features.")] = None,
    clips: Annotated[int | None, typer.Option(min=2, help="Only so many clips.")] = None,
    split: Annotated[
        str | None, typer.Option(help="vertices: test (default), BIWI's test-a (default) and test-b, val, or your own.")
    ] = None,
    predictions: Annotated[
        list[str] | None,
        typer.Option(help="NAME=DIR of .npy that another system left (FaceFormer, CodeTalker, SelfTalk), each a row."),
    ] = None,
    keys_from: Annotated[
        Path | None, typer.Option(help="vertices: DIR of .npy whose poses at the key frames the networks complete.")
    ] = None,
    identity: Annotated[
        str | None,
        typer.Option(help="vertices: training subject networks speak as, or each; by default the clip's, or a mean."),
    ] = None,
    lips: Annotated[str | None, typer.Option(help="vertices: mask FILE or FILE:PART; by default found.")] = None,
    upper: Annotated[str | None, typer.Option(help="vertices: mask of the upper face, for FDD; the same.")] = None,
    landmarks: Annotated[
        Path | None,
        typer.Option(help="vertices: landmarks of the first subject's neutral face (JSON, by numbers of vertices)."),
    ] = None,
    fps: Fps = 30.0,
    textgrids: Grids = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="vertices: folder for predictions, NAME/CLIP.npy."),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Score mouths: on real lips (grid) baselines, rules, the shipped network and further ones by rows; on vertices
    LVE, FDD and their like of your networks and of other systems' predictions."""
    with run_command(quiet, as_json) as screen:
        of_vertices = {"--predictions": predictions, "--keys-from": keys_from, "--identity": identity, "--lips": lips,
                       "--upper": upper, "--landmarks": landmarks, "--textgrids": textgrids, "-o": output}  # fmt: skip
        misplaced = [n for n, v in of_vertices.items() if v] if corpus_name == "grid" else ["--given-phones"] * given
        if misplaced:
            raise InputError(f"{', '.join(misplaced)}: not for --corpus {corpus_name}")
        networks = parse_named_paths("--network", network, "FILE")
        if corpus_name == "grid":
            from kmtalk.evaluation.lips import evaluate_grid

            rows = evaluate_grid(path, networks, given, cache, clips, screen, screen.log)
        else:
            from kmtalk.corpora.registry import DEFAULT_TEST_SPLIT, load_mesh_corpus
            from kmtalk.evaluation.vertices import EvaluationRequest, evaluate_vertices, make_evaluation_set

            others = parse_named_paths("--predictions", predictions, "DIR")
            asked = EvaluationRequest(networks, others, keys_from, identity, output, cache)
            corpus = load_mesh_corpus(corpus_name, path, fps, textgrids)
            bench = make_evaluation_set(
                corpus, split or DEFAULT_TEST_SPLIT.get(corpus_name, "test"), lips, upper, landmarks, clips
            )
            rows = evaluate_vertices(bench, asked, screen)
        for line in rows:
            screen.print(line)
            screen.summary.setdefault("rows", []).append(line)
