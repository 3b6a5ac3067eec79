"""Reproduction of the paper's tables: trains and scores each row, and prints the published figure beside it.

The tables are those of `data/paper/tables.yaml`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from kmtalk.assets import asset_path
from kmtalk.corpora.registry import DEFAULT_TEST_SPLIT, load_mesh_corpus
from kmtalk.errors import InputError, describe_validation_error
from kmtalk.evaluation.predict import CorpusPredictor, Prediction, load_predictions, predict_clips, predict_rest
from kmtalk.evaluation.scores import EvaluationSet, score_predictions
from kmtalk.evaluation.vertices import format_warnings, make_evaluation_set
from kmtalk.motion.inference import load_network_encoder, predict_motion, select_key_frames
from kmtalk.motion.model import load_network
from kmtalk.motion.styles import style_mixture
from kmtalk.progress import Progress
from kmtalk.training.config import CorpusConfig, TrainingConfig, load_yaml
from kmtalk.training.data import prepare_task
from kmtalk.training.trainer import Trainer

NO_FIGURE = "none"
"""Published column of a row for which the table holds no figure."""
NOT_COMPARABLE = "-"
"""Published column of all rows where the published figures are of other data."""
PUBLISHED_WIDTH = len("2.2639e-5 mm")

Figures = dict[str, dict[str, str]]
"""Published figures as printed, by corpus kind and metric: `{"vocaset": {"LVE": "2.2639e-5 mm"}}`."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TableRow(_Strict):
    """One trained row of a table.

    Attributes:
        name: Label of the row.
        changes: Keys of the training config that the row changes.
        corpus: Keys of the config's corpora that the row changes.
        without_completion: Join LKMA's key motions by straight lines instead of running CMC.
        published: Published figures as printed, by corpus kind and metric.
    """

    name: str
    changes: dict[str, Any] = Field(default_factory=dict)
    corpus: dict[str, Any] = Field(default_factory=dict)
    without_completion: bool = False
    published: Figures = Field(default_factory=dict)


class System(_Strict):
    """Published figures of another system, as printed, by corpus kind and metric.

    Attributes:
        predicted: Figures of the system's own predictions.
        completed: Figures after CMC has completed the system's key motions ("NAME with KMTalk").
    """

    predicted: Figures = Field(default_factory=dict)
    completed: Figures = Field(default_factory=dict)


class PaperTable(_Strict):
    """One table of the paper.

    Attributes:
        title: Title of the table.
        rows: Rows to train, in order.
        other_systems: Use of other systems' predictions: "score" scores them as they are, "complete" also trains CMC to
            complete their key motions; "" ignores them.
        systems: Published figures of other systems, by the name in `--predictions` in lower case.
        corpora: Corpus kinds that the table is for; empty: any.
        time: Measure seconds instead of errors.
        source: Where the published figures come from and what they are of, by corpus kind; printed only where
            published figures are shown.
        remark: A line printed beneath the title for every corpus; it must not contain published figures.
    """

    title: str
    rows: tuple[TableRow, ...]
    other_systems: str = ""
    systems: dict[Annotated[str, StringConstraints(to_lower=True)], System] = Field(default_factory=dict)
    corpora: tuple[str, ...] = ()
    time: bool = False
    source: dict[str, str] = Field(default_factory=dict)
    remark: str = ""


@dataclass(frozen=True)
class ReproductionSettings:
    """Data, masks and output of a reproduction.

    Attributes:
        kind: Corpus kind, one of `MESH_CORPUS_KINDS`.
        path: The corpus' folder.
        output: Folder for the runs.
        split: Name of the split to score.
        lips: Lip mask, FILE or FILE:PART; None: found on the template.
        upper: Mask of the upper face, the same.
        predictions: Other systems' names and folders of predictions.
        textgrids: Folder of alignments; None: the corpus' own.
    """

    kind: str
    path: Path
    output: Path
    split: str
    lips: str | None
    upper: str | None
    predictions: Sequence[tuple[str, Path]] = ()
    textgrids: Path | None = None


def load_table(number: int, path: Path | None = None) -> PaperTable:
    """Load table `number` of `path` (None: data/paper/tables.yaml).

    Raises InputError where the file has no such table or the table is not valid.
    """
    path = path or asset_path("paper/tables.yaml")
    tables = load_yaml(path)
    if number not in tables:
        raise InputError(f"table {number}: {path.name} has {', '.join(map(str, tables))}")
    try:
        return PaperTable.model_validate(tables[number])
    except ValidationError as error:
        raise InputError(f"{path}: {number}.{describe_validation_error(error)}") from None


def reproduce(
    number: int,
    table: PaperTable,
    config: TrainingConfig,
    settings: ReproductionSettings,
    progress: Progress | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> Iterator[str]:
    """Train and score the rows of a table.

    A row whose run is finished in `output`/tableN-ROW is not trained again, an interrupted run is resumed, and rows
    with the same changes are trained once. Published figures are shown only beside figures of the same data: never for
    a simulated corpus, and only where the scored split is the corpus' default test split (`DEFAULT_TEST_SPLIT`:
    VOCA-Test, BIWI-Test-A).

    Args:
        number: Number of the table, for messages and the runs' folders.
        table: The table.
        config: Training config that the rows change.
        settings: Data, masks and output.
        progress: Progress display.
        log: Receives log lines.

    Yields:
        The lines of the table.

    Raises:
        InputError: The table is for another corpus, needs predictions, or has a row that is not valid; or the corpus,
            a mask or a prediction cannot be read.
    """
    progress = progress or Progress()
    if table.corpora and settings.kind not in table.corpora:
        raise InputError(f"table {number}: is for {', '.join(table.corpora)}, not for {settings.kind}")
    if table.other_systems and not settings.predictions and not table.rows:
        raise InputError(
            f"table {number}: {table.title}: needs other systems' predictions; pass --predictions NAME=DIR"
        )
    runs = list(_plan_runs(number, _with_completed_systems(table, settings), config, settings))
    bench = _evaluation_set(settings)
    simulated = bench.corpus.source.startswith("simulated")
    published_split = DEFAULT_TEST_SPLIT.get(settings.kind, "test")
    comparable = not simulated and settings.split == published_split
    yield f"Table {number}: {table.title}; {bench.corpus.source}, split {settings.split}"
    if table.remark:
        yield table.remark
    if simulated:
        yield "simulated motion: published figures are of the real corpus and are not shown"
    elif not comparable:
        yield f"split {settings.split}: published figures are of split {published_split} and are not shown"
    elif settings.kind in table.source:
        yield f"published: {table.source[settings.kind]}"
    yield from format_warnings(bench, mouths=False)

    def score_lines(
        name: str, predictions: Iterable[Prediction], scored: EvaluationSet, published: Figures
    ) -> Iterator[str]:
        figures = published.get(settings.kind, {})
        for result in score_predictions(predictions, scored):
            key = result.name.partition(" (")[0] if "absolute" not in result.name else result.name
            figure = figures.get(key, NO_FIGURE) if comparable else NOT_COMPARABLE
            yield f"{name:32s} published {figure:{PUBLISHED_WIDTH}s} measured {result}"

    if not table.time:
        yield from score_lines("rest (nothing moves)", predict_rest(bench.corpus, bench.clips), bench, {})
    for name, folder in settings.predictions if table.other_systems else ():
        predictions = load_predictions(folder, bench.corpus, bench.clips)
        yield from score_lines(name, predictions, bench, _system(table, name).predicted)
    for row, plan, folder in runs:
        row_bench = bench if row.corpus == {} else _evaluation_set(settings, plan.corpora[0])
        weights = _train_or_reuse(plan, folder, progress, log)
        if table.time:
            yield from _measure_time(row.name, weights, row_bench)
            if comparable and settings.kind in row.published:
                yield "published " + ", ".join(f"{k} {v}" for k, v in row.published[settings.kind].items())
            continue
        predictor = CorpusPredictor(
            load_network(weights),
            row_bench.corpus,
            keys_from=plan.corpora[0].keys_from,
            without_completion=row.without_completion,
        )
        yield from score_lines(row.name, predict_clips(predictor, row_bench.clips), row_bench, row.published)


def _system(table: PaperTable, name: str) -> System:
    """Published figures of the system called `name` in `--predictions`."""
    return table.systems.get(name.lower(), System())


def _with_completed_systems(table: PaperTable, where: ReproductionSettings) -> PaperTable:
    """The table with a row "NAME with KMTalk" for each system whose key motions are to be completed."""
    if table.other_systems != "complete":
        return table
    completed = [
        TableRow(name=f"{name} with KMTalk", corpus={"keys_from": folder}, published=_system(table, name).completed)
        for name, folder in where.predictions
    ]
    return table.model_copy(update={"rows": (*table.rows, *completed)})


def _plan_runs(
    number: int, table: PaperTable, config: TrainingConfig, where: ReproductionSettings
) -> Iterator[tuple[TableRow, TrainingConfig, Path]]:
    """Each row with its config and its run's folder; rows with equal configs share the folder of the first."""
    plans: dict[str, TrainingConfig] = {}
    for row in table.rows:
        plan = _row_config(config, row, where)
        name = next((n for n, p in plans.items() if p == plan), f"table{number}-{row.name}")
        if plans.setdefault(name, plan) != plan:
            raise InputError(f"table {number}: two rows are called {row.name} but change different keys")
        yield row, plan, where.output / "".join(c if c.isalnum() or c in "-." else "_" for c in name)


def _row_config(config: TrainingConfig, row: TableRow, where: ReproductionSettings) -> TrainingConfig:
    """The training config with the row's changes."""
    changed: dict[str, Any] = {"path": where.path, "textgrids": where.textgrids, "lip_mask": where.lips, **row.corpus}
    values: dict[str, Any] = config.model_dump()
    corpora = [{**c, **{k: v for k, v in changed.items() if v is not None}} for c in values["corpora"]]
    for key, value in row.changes.items():
        nested = isinstance(value, dict) and isinstance(values.get(key), dict)
        values[key] = {**values[key], **value} if nested else value
    try:
        return TrainingConfig.model_validate({**values, "corpora": corpora})
    except ValidationError as error:
        raise InputError(f"row {row.name}: {describe_validation_error(error)}") from None


def _evaluation_set(where: ReproductionSettings, corpus: CorpusConfig | None = None) -> EvaluationSet:
    """The split that a row is scored on; without mouth metrics, which the paper's tables do not have."""
    fps = 30.0 if corpus is None else corpus.fps
    mesh_corpus = load_mesh_corpus(where.kind, where.path, fps, where.textgrids)
    return make_evaluation_set(mesh_corpus, where.split, where.lips, where.upper, mouths=False)


def _train_or_reuse(plan: TrainingConfig, folder: Path, progress: Progress, say: Callable[[str], None]) -> Path:
    """The weights of a run, trained in its folder unless a finished run of the same config is there."""
    weights = folder / "network.safetensors"
    if weights.is_file() and (folder / "config.json").read_text() == plan.model_dump_json(indent=2) + "\n":
        return weights
    say(f"training {folder.name}")
    return Trainer(plan, prepare_task(plan, folder, progress), folder, progress, say).run()


def _measure_time(name: str, weights: Path, bench: EvaluationSet) -> Iterator[str]:
    """Compute time of the encoder and of the network, in s per second of sound, over the split.

    The first clip is run once before, to warm up.
    """
    network, clips = load_network(weights), bench.clips
    encoder = load_network_encoder(network)
    encoder_seconds, network_seconds, sound_seconds, frames = 0.0, 0.0, 0.0, 0
    for n, clip in enumerate((clips[0], *clips)):
        samples, alignment, count = clip.load_samples(), clip.load_alignment(), len(clip.frames)
        start = time.perf_counter()
        features = encoder.encode(samples)
        encoded = time.perf_counter()
        keys = select_key_frames(alignment, count, clip.fps, network.config.key_placement)
        predict_motion(network, features, alignment, keys, count, clip.fps, style_mixture(network.config.styles, None))
        end = time.perf_counter()
        if n:
            encoder_seconds, network_seconds = encoder_seconds + encoded - start, network_seconds + end - encoded
            sound_seconds, frames = sound_seconds + count / clip.fps, frames + count
    relative = (
        f"encoder {encoder_seconds / sound_seconds:.4f} s, network {network_seconds / sound_seconds:.4f} s "
        "per second of sound"
    )
    yield (
        f"{name:32s} {relative}, {1000 * (encoder_seconds + network_seconds) / frames:.2f} ms a frame | "
        f"{len(clips)} clips, {frames} frames | {bench.corpus.source}, this machine"
    )
