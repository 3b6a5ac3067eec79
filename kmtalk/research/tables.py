"""The paper's tables, run again: what each row changes is trained, scored, and set beside what was published."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field

from kmtalk.assets import asset
from kmtalk.corpora.mesh import MeshClip, MeshCorpus
from kmtalk.corpora.meshes import load_meshes
from kmtalk.errors import InputError
from kmtalk.metrics import Result
from kmtalk.motion.inference import place_keys, run
from kmtalk.motion.model import load_network, style_shares
from kmtalk.progress import Progress
from kmtalk.research.meshes import Predictor, masks_of, predict, read_predictions, resting, score
from kmtalk.speech.encode import load_encoder
from kmtalk.training.config import Config
from kmtalk.training.corpora import prepare
from kmtalk.training.loop import Trainer

NOT_HELD = "not held"
NOT_HERE = "-"
"""What stands in the published column of a row that has no figure, and of all rows of a simulated corpus."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Row(_Strict):
    """One row: what it ``changes`` in the config, VOCASET's ``fps``, and what was ``published`` by kind of corpus and
    metric, as printed there."""

    name: str
    changes: dict[str, Any] = Field(default_factory=dict)
    fps: float | None = None
    published: dict[str, dict[str, str]] = Field(default_factory=dict)


class Table(_Strict):
    """One table. ``others``: other systems' predictions are scored as they are, or their keys completed as well;
    ``corpora``: the kinds it is of (none: any); ``time``: seconds are measured, not errors; ``remark`` stands beneath
    the title where the corpus is not simulated."""

    title: str
    rows: tuple[Row, ...]
    others: str = ""
    corpora: tuple[str, ...] = ()
    time: bool = False
    remark: str = ""


@dataclass(frozen=True)
class Where:
    """What a table is made of and where it is left: the corpus' ``kind`` and ``path``, ``output`` for runs, masks of
    ``lips`` and ``upper`` face, the ``split``, and other systems' predictions by name."""

    kind: str
    path: Path
    output: Path
    split: str
    lips: str | None
    upper: str | None
    predictions: Mapping[str, Path]
    textgrids: Path | None = None


def load_table(number: int) -> Table:
    """Table ``number`` of data/paper/tables.yaml; raises InputError where there is none."""
    known = yaml.safe_load(asset("paper/tables.yaml").read_text())
    if number not in known:
        raise InputError(f"table {number}: the paper's are {', '.join(map(str, known))}")
    return Table.model_validate(known[number])


def reproduce(
    number: int,
    config: Config,
    where: Where,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Iterator[str]:
    """Lines of a table. Rows that were trained before (``output``/tableN-ROW) are taken up or not trained again. A
    simulated corpus never stands beside published figures: their column is left out."""
    table, progress = load_table(number), progress or Progress()
    if table.corpora and where.kind not in table.corpora:
        raise InputError(f"table {number}: is of {', '.join(table.corpora)}, not of {where.kind}")
    if table.others and not where.predictions and not table.rows:
        raise InputError(f"table {number}: {table.title}: give other systems' predictions, --predictions NAME=DIR")
    corpus = _corpus(where, 30.0)
    simulated = corpus.source.startswith("simulated")
    yield f"Table {number}: {table.title}; {corpus.source}, split {where.split}"
    if simulated:
        yield "simulated motion: published figures are of the real corpus and are not set beside these"
    elif table.remark:
        yield table.remark
    lips, upper = masks_of(corpus, where.lips, where.upper)

    def line(name: str, results: Sequence[Result], published: Mapping[str, str]) -> Iterator[str]:
        for result in results:
            key = result.name.partition(" (")[0] if "absolute" not in result.name else result.name
            held = NOT_HERE if simulated else published.get(key, NOT_HELD)
            yield f"{name:32s} published {held:9s} measured {result}"

    def scored(found: Iterator[Any], of: MeshCorpus) -> list[Result]:
        return score(found, of, lips, upper, where.split)

    if not table.time:
        yield from line("rest (nothing moves)", scored(resting(corpus, corpus.split(where.split)), corpus), {})
    for row in table.rows:
        of = corpus if row.fps is None else _corpus(where, row.fps)
        weights = _trained(f"table{number}-{row.name}", config, row, where, progress, say)
        if table.time:
            yield from _timed(row.name, weights, of, of.split(where.split))
            continue
        yield from line(row.name, scored(predict(Predictor(load_network(weights), of), of.split(where.split)), of),
                        row.published.get(where.kind, {}))  # fmt: skip
    for name, folder in where.predictions.items() if table.others else ():
        clips = corpus.split(where.split)
        yield from line(name, scored(read_predictions(folder, corpus, clips), corpus), {})
        if table.others == "complete":
            both = Row(name=f"{name} with KMTalk", changes={"keys_from": folder})
            weights = _trained(f"table{number}-{name}", config, both, where, progress, say)
            by = Predictor(load_network(weights), corpus, keys_from=folder)
            yield from line(both.name, scored(predict(by, clips), corpus), {})


def _corpus(where: Where, fps: float) -> MeshCorpus:
    return load_meshes(where.kind, where.path, fps, where.textgrids)


def _trained(name: str, config: Config, row: Row, where: Where, progress: Progress, say: Callable[[str], None]) -> Path:
    """Weights of a row, trained in a folder of its own, or taken up there."""
    folder = where.output / "".join(c if c.isalnum() or c in "-." else "_" for c in name)
    changes = dict(row.changes)
    changed: dict[str, Any] = {"path": where.path, "textgrids": where.textgrids, "lips": where.lips}
    changed |= {"keys_from": changes.pop("keys_from")} if "keys_from" in changes else {}
    changed |= {"fps": row.fps} if row.fps else {}
    held = config.model_dump()
    corpora = [{**c, **{k: v for k, v in changed.items() if v is not None}} for c in held["corpora"]]
    for key, value in changes.items():
        held[key] = {**held[key], **value} if isinstance(value, dict) else value
    plan = Config.model_validate({**held, "corpora": corpora})
    done = folder / "network.safetensors"
    if done.is_file() and (folder / "config.json").read_text() == plan.model_dump_json(indent=2) + "\n":
        return done
    say(f"training {name}")
    return Trainer(plan, prepare(plan, folder, progress), folder, progress, say).run()


def _timed(name: str, weights: Path, corpus: MeshCorpus, clips: Sequence[MeshClip]) -> Iterator[str]:
    """Seconds of work a second of sound, the encoder's and the network's, over the split; after one clip to warm up."""
    network = load_network(weights)
    encoder = load_encoder(network.shape.encoder)
    spent, heard, frames = [0.0, 0.0], 0.0, 0
    for n, clip in enumerate((clips[0], *clips)):
        samples, alignment, count = clip.samples(), clip.alignment(), len(clip.frames)
        began = time.perf_counter()
        features = encoder.encode(samples)
        between = time.perf_counter()
        keys = place_keys(alignment, count, clip.fps, network.shape.keys)
        run(network, features, keys, count, clip.fps, style_shares(network.shape, None))
        ended = time.perf_counter()
        if n:
            spent = [spent[0] + between - began, spent[1] + ended - between]
            heard, frames = heard + count / clip.fps, frames + count
    each = f"encoder {spent[0] / heard:.4f} s, network {spent[1] / heard:.4f} s a second of sound"
    yield (
        f"{name:32s} {each}, {1000 * sum(spent) / frames:.2f} ms a frame | {len(clips)} clips, {frames} frames | "
        f"{corpus.source}, this machine"
    )
