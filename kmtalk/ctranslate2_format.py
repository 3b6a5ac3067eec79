"""Whisper models in CTranslate2's format, and their conversion to openai-whisper's."""

from __future__ import annotations

import re
import struct

import numpy as np
import torch
import whisper

from kmtalk.errors import InputError

# CTranslate2's data types
_DTYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}


def read_ctranslate2(data: bytes) -> dict[str, np.ndarray]:
    """Read the variables of a CTranslate2 `model.bin`, with aliases resolved; raises InputError for any other data."""
    offset = 0

    def number(kind: str) -> int:
        nonlocal offset
        (value,) = struct.unpack_from("<" + kind, data, offset)
        offset += struct.calcsize(kind)
        return value

    def string() -> str:
        nonlocal offset
        size = number("H")
        text = data[offset : offset + size].rstrip(b"\0").decode()
        offset += size
        return text

    number("I")  # format version
    string()  # specification
    number("I")  # revision
    variables: dict[str, np.ndarray] = {}
    for _ in range(number("I")):
        name = string()
        shape = [number("I") for _ in range(number("B"))]
        kind = np.dtype(_DTYPES[number("B")])
        size = number("I")
        variables[name] = np.frombuffer(data, kind, size // kind.itemsize, offset).reshape(shape)
        offset += size
    for _ in range(number("I")):
        alias = string()
        variables[alias] = variables[string()]
    if offset != len(data):
        raise InputError("not a CTranslate2 model: unexpected bytes at the end")
    return variables


def ctranslate2_to_openai(data: bytes) -> tuple[whisper.ModelDimensions, dict[str, torch.Tensor]]:
    """Convert a CTranslate2 Whisper model to openai-whisper.

    Fused projections are split into query, key and value. CTranslate2 stores a key bias of zeros, which
    openai-whisper does not have. Attention heads have 64 dimensions in every Whisper model.

    Args:
        data: The bytes of `model.bin`.

    Returns:
        The model dimensions and the state dict.
    """
    variables = read_ctranslate2(data)
    state: dict[str, torch.Tensor] = {}

    def tensor(name: str) -> torch.Tensor:
        values = variables[name].astype(np.float16 if variables[name].dtype == np.float16 else np.float32)
        return torch.from_numpy(values.copy())

    def norm(source: str, target: str) -> None:
        state[f"{target}.weight"], state[f"{target}.bias"] = tensor(f"{source}/gamma"), tensor(f"{source}/beta")

    def linear(source: str, target: str) -> None:
        state[f"{target}.weight"], state[f"{target}.bias"] = tensor(f"{source}/weight"), tensor(f"{source}/bias")

    def split(source: str, target: str, parts: tuple[str, ...]) -> None:
        weights = tensor(f"{source}/weight").chunk(len(parts))
        biases = tensor(f"{source}/bias").chunk(len(parts))
        for part, weight, bias in zip(parts, weights, biases, strict=True):
            state[f"{target}.{part}.weight"] = weight.clone()
            if part != "key":
                state[f"{target}.{part}.bias"] = bias.clone()

    def layers(side: str) -> int:
        return 1 + max(int(m[1]) for m in (re.match(rf"{side}/layer_(\d+)/", k) for k in variables) if m)

    for conv in ("conv1", "conv2"):
        linear(f"encoder/{conv}", f"encoder.{conv}")
    for side in ("encoder", "decoder"):
        state[f"{side}.positional_embedding"] = tensor(f"{side}/position_encodings/encodings")
        for i in range(layers(side)):
            source, target = f"{side}/layer_{i}", f"{side}.blocks.{i}"
            norm(f"{source}/self_attention/layer_norm", f"{target}.attn_ln")
            split(f"{source}/self_attention/linear_0", f"{target}.attn", ("query", "key", "value"))
            linear(f"{source}/self_attention/linear_1", f"{target}.attn.out")
            if side == "decoder":
                norm(f"{source}/attention/layer_norm", f"{target}.cross_attn_ln")
                linear(f"{source}/attention/linear_0", f"{target}.cross_attn.query")
                split(f"{source}/attention/linear_1", f"{target}.cross_attn", ("key", "value"))
                linear(f"{source}/attention/linear_2", f"{target}.cross_attn.out")
            norm(f"{source}/ffn/layer_norm", f"{target}.mlp_ln")
            linear(f"{source}/ffn/linear_0", f"{target}.mlp.0")
            linear(f"{source}/ffn/linear_1", f"{target}.mlp.2")
    norm("encoder/layer_norm", "encoder.ln_post")
    norm("decoder/layer_norm", "decoder.ln")
    state["decoder.token_embedding.weight"] = tensor("decoder/embeddings/weight")
    width = variables["encoder/conv1/weight"].shape[0]
    context, mels = (
        variables["encoder/position_encodings/encodings"].shape[0],
        variables["encoder/conv1/weight"].shape[1],
    )
    vocabulary, text = (
        variables["decoder/embeddings/weight"].shape[0],
        variables["decoder/position_encodings/encodings"].shape[0],
    )
    dims = whisper.ModelDimensions(
        mels, context, width, width // 64, layers("encoder"), vocabulary, text, width, width // 64, layers("decoder")
    )
    return dims, state
