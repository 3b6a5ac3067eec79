"""The paper's tables, run again: what each row changes is trained, scored, and set beside what was published."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kmtalk.assets import asset_path
from kmtalk.corpora.registry import load_mesh_corpus
from kmtalk.errors import InputError, describe_validation_error
from kmtalk.evaluation.predict import CorpusPredictor, Prediction, load_predictions, predict_clips, predict_rest
from kmtalk.evaluation.scores import EvaluationSet, score_predictions
from kmtalk.evaluation.vertices import format_warnings, make_evaluation_set
from kmtalk.motion.inference import load_network_encoder, predict_motion, select_key_frames
from kmtalk.motion.model import load_network, style_mixture
from kmtalk.progress import Progress
from kmtalk.training.config import CorpusConfig, TrainingConfig, load_yaml
from kmtalk.training.data import prepare_task
from kmtalk.training.trainer import Trainer

NO_FIGURE = "not held"
NOT_COMPARABLE = "-"
"""What stands in the published column of a row that has no figure, and of all rows of a simulated corpus."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TableRow(_Strict):
    """One row: what it ``changes`` in the config, and in its ``corpus``; whether LKMA's keys are joined by straight
    lines (``without_completion``) in place of CMC; and what was ``published`` by kind of corpus and metric, as it was printed.
    """

    name: str
    changes: dict[str, Any] = Field(default_factory=dict)
    corpus: dict[str, Any] = Field(default_factory=dict)
    without_completion: bool = False
    published: dict[str, dict[str, str]] = Field(default_factory=dict)


class PaperTable(_Strict):
    """One table. ``others``: other systems' predictions are scored as they are, or their keys completed as well;
    ``corpora``: the kinds it is of (none: any); ``time``: seconds are measured, not errors; ``remark`` stands beneath
    the title where the corpus is not simulated."""

    title: str
    rows: tuple[TableRow, ...]
    others: str = ""
    corpora: tuple[str, ...] = ()
    time: bool = False
    remark: str = ""


@dataclass(frozen=True)
class ReproductionSettings:
    """What a table is made of and where it is left: the corpus' ``kind`` and ``path``, ``output`` for runs, masks of
    ``lips`` and ``upper`` face, the ``split``, and other systems' predictions by name."""

    kind: str
    path: Path
    output: Path
    split: str
    lips: str | None
    upper: str | None
    predictions: Sequence[tuple[str, Path]] = ()
    textgrids: Path | None = None


def load_table(number: int, path: Path | None = None) -> PaperTable:
    """Table ``number`` of data/paper/tables.yaml, or of a file like it; raises InputError where there is none."""
    path = path or asset_path("paper/tables.yaml")
    known = load_yaml(path)
    if number not in known:
        raise InputError(f"table {number}: {path.name} has {', '.join(map(str, known))}")
    try:
        return PaperTable.model_validate(known[number])
    except ValidationError as error:
        raise InputError(f"{path}: {number}.{describe_validation_error(error)}") from None


def reproduce(
    number: int,
    table: PaperTable,
    config: TrainingConfig,
    where: ReproductionSettings,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Iterator[str]:
    """Lines of ``table``, of its ``number``. Rows that were trained before (``output``/tableN-ROW) are taken up or not
    trained again; rows that change the same are trained once. A simulated corpus never stands beside published figures:
    their column is left out."""
    progress = progress or Progress()
    if table.corpora and where.kind not in table.corpora:
        raise InputError(f"table {number}: is of {', '.join(table.corpora)}, not of {where.kind}")
    if table.others and not where.predictions and not table.rows:
        raise InputError(f"table {number}: {table.title}: give other systems' predictions, --predictions NAME=DIR")
    runs = list(_plan_runs(number, _with_completed_systems(table, where), config, where))
    bench = _evaluation_set(where)
    simulated = bench.corpus.source.startswith("simulated")
    yield f"Table {number}: {table.title}; {bench.corpus.source}, split {where.split}"
    if simulated:
        yield "simulated motion: published figures are of the real corpus and are not set beside these"
    elif table.remark:
        yield table.remark
    yield from format_warnings(bench, mouths=False)

    def line(name: str, found: Iterable[Prediction], of: EvaluationSet, published: Mapping[str, str]) -> Iterator[str]:
        for result in score_predictions(found, of):
            key = result.name.partition(" (")[0] if "absolute" not in result.name else result.name
            held = NOT_COMPARABLE if simulated else published.get(key, NO_FIGURE)
            yield f"{name:32s} published {held:9s} measured {result}"

    if not table.time:
        yield from line("rest (nothing moves)", predict_rest(bench.corpus, bench.clips), bench, {})
    for name, folder in where.predictions if table.others else ():
        yield from line(name, load_predictions(folder, bench.corpus, bench.clips), bench, {})
    for row, plan, folder in runs:
        of = bench if row.corpus == {} else _evaluation_set(where, plan.corpora[0])
        weights = _train_or_reuse(plan, folder, progress, say)
        if table.time:
            yield from _measure_time(row.name, weights, of)
            continue
        given = plan.corpora[0].keys_from
        by = CorpusPredictor(
            load_network(weights), of.corpus, keys_from=given, without_completion=row.without_completion
        )
        yield from line(row.name, predict_clips(by, of.clips), of, row.published.get(where.kind, {}))


def _with_completed_systems(table: PaperTable, where: ReproductionSettings) -> PaperTable:
    """The table, with a row for each system whose keys are to be completed."""
    if table.others != "complete":
        return table
    both = [TableRow(name=f"{name} with KMTalk", corpus={"keys_from": folder}) for name, folder in where.predictions]
    return table.model_copy(update={"rows": (*table.rows, *both)})


def _plan_runs(
    number: int, table: PaperTable, config: TrainingConfig, where: ReproductionSettings
) -> Iterator[tuple[TableRow, TrainingConfig, Path]]:
    """Rows, each with its config and the folder of its run: of all that change the same, the first one's."""
    folders: dict[str, TrainingConfig] = {}
    for row in table.rows:
        plan = _row_config(config, row, where)
        name = next((n for n, p in folders.items() if p == plan), f"table{number}-{row.name}")
        if folders.setdefault(name, plan) != plan:
            raise InputError(f"table {number}: two rows are called {row.name}, and change different things")
        yield row, plan, where.output / "".join(c if c.isalnum() or c in "-." else "_" for c in name)


def _row_config(config: TrainingConfig, row: TableRow, where: ReproductionSettings) -> TrainingConfig:
    changed: dict[str, Any] = {"path": where.path, "textgrids": where.textgrids, "lips": where.lips, **row.corpus}
    held: dict[str, Any] = config.model_dump()
    corpora = [{**c, **{k: v for k, v in changed.items() if v is not None}} for c in held["corpora"]]
    for key, value in row.changes.items():
        both = isinstance(value, dict) and isinstance(held.get(key), dict)
        held[key] = {**held[key], **value} if both else value
    try:
        return TrainingConfig.model_validate({**held, "corpora": corpora})
    except ValidationError as error:
        raise InputError(f"row {row.name}: {describe_validation_error(error)}") from None


def _evaluation_set(where: ReproductionSettings, corpus: CorpusConfig | None = None) -> EvaluationSet:
    """What a row is scored on; mouths are not in the paper's tables."""
    fps = 30.0 if corpus is None else corpus.fps
    held = load_mesh_corpus(where.kind, where.path, fps, where.textgrids)
    return make_evaluation_set(held, where.split, where.lips, where.upper, mouths=False)


def _train_or_reuse(plan: TrainingConfig, folder: Path, progress: Progress, say: Callable[[str], None]) -> Path:
    """Weights of a run, trained in its folder, or taken up there."""
    done = folder / "network.safetensors"
    if done.is_file() and (folder / "config.json").read_text() == plan.model_dump_json(indent=2) + "\n":
        return done
    say(f"training {folder.name}")
    return Trainer(plan, prepare_task(plan, folder, progress), folder, progress, say).run()


def _measure_time(name: str, weights: Path, bench: EvaluationSet) -> Iterator[str]:
    """Seconds of work a second of sound, the encoder's and the network's, over the split; after one clip to warm up."""
    network, clips = load_network(weights), bench.clips
    encoder = load_network_encoder(network)
    spent, heard, frames = [0.0, 0.0], 0.0, 0
    for n, clip in enumerate((clips[0], *clips)):
        samples, alignment, count = clip.load_samples(), clip.load_alignment(), len(clip.frames)
        began = time.perf_counter()
        features = encoder.encode(samples)
        between = time.perf_counter()
        keys = select_key_frames(alignment, count, clip.fps, network.config.key_placement)
        predict_motion(network, features, keys, count, clip.fps, style_mixture(network.config, None))
        ended = time.perf_counter()
        if n:
            spent = [spent[0] + between - began, spent[1] + ended - between]
            heard, frames = heard + count / clip.fps, frames + count
    each = f"encoder {spent[0] / heard:.4f} s, network {spent[1] / heard:.4f} s a second of sound"
    yield (
        f"{name:32s} {each}, {1000 * sum(spent) / frames:.2f} ms a frame | {len(clips)} clips, {frames} frames | "
        f"{bench.corpus.source}, this machine"
    )
