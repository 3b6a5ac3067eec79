"""The files of a Piper voice: NAME.onnx, and its settings in NAME.onnx.json."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kmtalk.errors import InputError, describe_problem, describe_validation_error
from kmtalk.synthesis.piper_symbols import BLANK, FIRST, LAST
from kmtalk.text_files import read_json_file
from kmtalk.user_files import read_user_file

MAX_VOICE_BYTES = 512 << 20
"""Size of the largest voice that is read; those of Piper's quality "high" have 114 MB."""

MOST_IDS = 1_000_000
"""Largest number of a symbol or a speaker."""

_Number = Annotated[int, Field(ge=0, le=MOST_IDS)]

INPUTS = ("input", "input_lengths", "scales", "sid")
NOISE_INPUT = "kmtalk_noise"

_REPEATING = ("Loop", "Scan", "If")  # none is in a voice; what they hold could run for ever


class _Sound(BaseModel):
    sample_rate: int = Field(ge=8000, le=48000)


class _Espeak(BaseModel):
    voice: str = Field(pattern=r"^[a-z]{2,3}(-[a-zA-Z0-9]+){0,4}(\+[a-zA-Z0-9]+)?$")


class _Inference(BaseModel):
    noise_scale: float = Field(default=0.667, ge=0, le=2)
    length_scale: float = Field(default=1.0, ge=0.1, le=10)
    noise_w: float = Field(default=0.8, ge=0, le=2)


class PiperSettings(BaseModel):
    """What a voice's .onnx.json says, by the names that Piper gives it."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    audio: _Sound
    espeak: _Espeak
    inference: _Inference = _Inference()
    phoneme_type: str = "espeak"
    phoneme_map: dict[str, list[str]] = Field(default={}, max_length=1000)
    phoneme_id_map: dict[str, Annotated[list[_Number], Field(min_length=1, max_length=8)]]
    num_speakers: int = Field(default=1, ge=1, le=MOST_IDS)
    speaker_id_map: dict[str, _Number] = {}


@dataclass(frozen=True)
class PiperFile:
    """A voice that was read.

    Attributes:
        name: The file's name without its suffix.
        settings: Its settings.
        model: Its graph (ONNX), with `NOISE_INPUT` as an input in place of its random numbers.
        sound: The output that is the sound.
        durations: The output that is the duration of each symbol.
        noise_rows: Rows of `NOISE_INPUT`; 0 for a graph without random numbers, which has no such input.
    """

    name: str
    settings: PiperSettings
    model: bytes
    sound: str
    durations: str
    noise_rows: int


def check_installed(*modules: str) -> None:
    """Raise InputError where a package that voices need is not installed."""
    missing = [m for m in modules if importlib.util.find_spec(m) is None]
    if missing:
        raise InputError(f"speech synthesis needs {', '.join(missing)}; pip install 'kmtalk[voices]'")


def read_piper_file(path: Path) -> PiperFile:
    """Read a voice.

    Args:
        path: The .onnx file.

    Raises:
        InputError: A file is missing or damaged, is not that of a Piper voice, or needs what kmtalk does not give.
    """
    check_installed("onnx", "onnxruntime", "espeakng_loader")
    import onnx

    if path.suffix.lower() != ".onnx":
        raise InputError(f"{path}: is no Piper voice; give its .onnx file")
    data = read_user_file(path, MAX_VOICE_BYTES)
    settings = _read_settings(path)
    try:
        model = onnx.load_model_from_string(data)
        graph = model.graph
        _check_graph(path, graph)
        durations = _durations(path, graph)
        noise_rows = _noise_from_input(path, graph)
        needed = [i.name for i in graph.input if i.name != NOISE_INPUT]
        expected = INPUTS if settings.num_speakers > 1 else INPUTS[:3]
        if sorted(needed) != sorted(expected) or not graph.output:
            raise InputError(
                f"{path}: is not a graph of Piper: it takes {', '.join(needed)[:80] or 'nothing'}, "
                f"and not {', '.join(expected)}"
            )
        sound = graph.output[0].name
        if durations not in [o.name for o in graph.output]:
            graph.output.append(onnx.helper.make_tensor_value_info(durations, onnx.TensorProto.FLOAT, None))
        return PiperFile(path.stem, settings, model.SerializeToString(), sound, durations, noise_rows)
    except InputError:
        raise
    except Exception as error:  # of protobuf: a file that is no ONNX, or is cut off
        raise InputError(
            f"{path}: damaged, or not an ONNX file ({describe_problem(error)}); get the voice again"
        ) from None


def _read_settings(path: Path) -> PiperSettings:
    beside = path.with_name(path.name + ".json")
    if not beside.exists():
        raise InputError(f"{beside}: no such file; a Piper voice is two files, put its .onnx.json beside the .onnx")
    value = read_json_file(beside)
    kind = value.get("phoneme_type", "espeak") if isinstance(value, dict) else None
    if isinstance(kind, str) and kind != "espeak":
        raise InputError(
            f"{beside}: the voice speaks phonemes of type {kind[:40]}, of which no phones are known; "
            "use a voice of type espeak"
        )
    try:
        settings = PiperSettings.model_validate(value)
    except ValidationError as error:
        raise InputError(f"{beside}: not that of a Piper voice ({describe_validation_error(error)[:160]})") from None
    missing = [symbol for symbol in (BLANK, FIRST, LAST) if symbol not in settings.phoneme_id_map]
    if missing:
        raise InputError(f"{beside}: not that of a Piper voice (phoneme_id_map lacks {' '.join(missing)})")
    wrong = [n for n, i in settings.speaker_id_map.items() if i >= settings.num_speakers]
    if wrong:
        raise InputError(f"{beside}: speaker {wrong[0][:40]}: has a number beyond num_speakers {settings.num_speakers}")
    return settings


def _check_graph(path: Path, graph: Any) -> None:
    from onnx import TensorProto

    tensors = [*graph.initializer, *(a.t for n in graph.node for a in n.attribute if a.HasField("t"))]
    if any(t.data_location == TensorProto.EXTERNAL for t in tensors) or graph.sparse_initializer:
        raise InputError(f"{path}: its weights are in other files, which are not read; a Piper voice is one .onnx file")
    repeating = [n.op_type for n in graph.node if n.op_type in _REPEATING]
    if repeating:
        raise InputError(f"{path}: is not a graph of Piper: it has {repeating[0]}")
    if not graph.node:
        raise InputError(f"{path}: damaged, or not an ONNX file (it has no graph); get the voice again")


def _durations(path: Path, graph: Any) -> str:
    """The name of the durations: what Piper rounds up."""
    rounded = [n.output[0] for n in graph.node if n.op_type == "Ceil"]
    if len(rounded) != 1:
        raise InputError(f"{path}: its graph has no durations of phonemes; use a voice that Piper exported")
    return str(rounded[0])


def _noise_from_input(path: Path, graph: Any) -> int:
    """Let the random numbers of a graph come from an input, a row of normal ones for each node; returns their number.

    The seed of ONNX's random nodes is fixed when a session is made, and their state goes on from one run to the next.
    """
    import onnx

    others = [n for n in _random_nodes(graph) if n.op_type != "RandomNormalLike"]
    if others:
        raise InputError(f"{path}: is not a graph of Piper: it has {others[0].op_type}")
    nodes: list[Any] = []
    count = 0
    make = onnx.helper.make_node
    for node in graph.node:
        if node.op_type != "RandomNormalLike":
            nodes.append(node)
            continue
        at = f"{NOISE_INPUT}_{count}"
        index = onnx.numpy_helper.from_array(_integers(count), f"{at}_row")
        graph.initializer.extend([index])
        nodes += [
            make("Shape", [node.input[0]], [f"{at}_shape"]),
            make("ReduceProd", [f"{at}_shape"], [f"{at}_size"], keepdims=1),
            make("Gather", [NOISE_INPUT, index.name], [f"{at}_all"], axis=0),
            make("Slice", [f"{at}_all", f"{NOISE_INPUT}_begin", f"{at}_size"], [f"{at}_used"]),
            make("Reshape", [f"{at}_used", f"{at}_shape"], [node.output[0]]),
        ]
        count += 1
    if count:
        graph.initializer.extend([onnx.numpy_helper.from_array(_integers([0]), f"{NOISE_INPUT}_begin")])
        graph.input.append(onnx.helper.make_tensor_value_info(NOISE_INPUT, onnx.TensorProto.FLOAT, [count, None]))
        del graph.node[:]
        graph.node.extend(nodes)
    return count


def _random_nodes(graph: Any) -> Iterator[Any]:
    kinds = ("Random", "Bernoulli", "Multinomial")
    return (n for n in graph.node if n.op_type.startswith(kinds))


def _integers(values: int | list[int]) -> Any:
    import numpy as np

    return np.array(values, np.int64)
