"""Cases of sound, video, arrays, rigs, networks, pickles and acoustic models."""

from __future__ import annotations

import io
import json
import pickle
import random
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from case import Case, damaged
from mutations import Content, damaged_bytes, damaged_json, damaged_tree, dice, patch, to_json
from seeds import zip_members

RULES = ("--motion", "rules", "--template", "light")
PC2 = ("out.pc2", "out-neutral.obj")
BOMB_BYTES = 3 << 28
WAV_FIELDS = {
    "size of the file": (4, "<I"), "size of fmt": (16, "<I"), "format": (20, "<H"), "channels": (22, "<H"),
    "rate": (24, "<I"), "bytes per second": (28, "<I"), "block": (32, "<H"), "bits": (34, "<H"), "size of data": (40,
    "<I"),
}  # fmt: skip


def sound_cases(seeds: Path) -> Iterator[Case]:
    grid = str(seeds / "speech.TextGrid")

    def command(name: str) -> tuple[str, ...]:
        return ("keys", name, "--textgrid", grid, *RULES, "-o", "out.json")

    data = (seeds / "speech.wav").read_bytes()
    fields: list[tuple[str, Content]] = []
    for name, (offset, code) in WAV_FIELDS.items():
        for value in (0, 1, 3, 255, 0xFFFE, 0xFFFF, *((2**31 - 1, 2**32 - 1) if code == "<I" else (64, 6))):
            fields.append((f"{name} = {value}", patch(data, offset, code, value)))
    loud = np.frombuffer(data[44:], np.int16).astype(np.float32) / 32768
    head = data[:20] + struct.pack("<HHIIHH", 3, 1, 16000, 64000, 4, 32)
    for name, samples in {
        "NaN": np.full_like(loud, np.nan), "one NaN": np.where(np.arange(len(loud)) == 999, np.nan, loud),
        "infinity": np.full_like(loud, np.inf),
        "1e38": loud * 1e38, "of ±32767": loud * 32767, "1e-30": loud * 1e-30, "denormal": loud * 0 + 1e-44,
        "silence": loud * 0, "DC": loud * 0 + 0.5, "clipped": np.sign(loud),
    }.items():  # fmt: skip
        body = samples.astype(np.float32).tobytes()
        fields.append((f"floats: {name}", head + b"data" + struct.pack("<I", len(body)) + body))
    for count in (0, 1, 2, 10, 100):
        fields.append((f"{count} samples", patch(data, 40, "<I", 2 * count)[: 44 + 2 * count]))
    many = struct.pack("<HHIIHH", 1, 64, 16000, 2048000, 128, 16)
    fields.append(("64 channels", data[:20] + many + data[36:]))
    playlists: list[tuple[str, Content]] = [
        ("ffconcat", b"ffconcat version 1.0\nfile '/etc/passwd'\n"),
        ("m3u8", b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n"),
        ("SDP", b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n"),
        ("a list of chunks 100,000 deep", b"RIFF\xff\xff\xff\x7fWAVE" + b"LIST\xff\xff\xff\x7fINFO" * 100_000),
    ]
    # what is left of a damaged sound may be shorter than its TextGrid, which is then named
    named = ("speech.TextGrid",)
    yield from damaged("sound", seeds / "speech.wav", command, ["out.json"], [*fields, *playlists], named=named)
    for name in ("speech.flac", "speech.mp3", "speech.ogg", "speech.aiff"):
        yield from damaged("sound", seeds / name, command, ["out.json"], few=True, special=False, named=named)
    for name in ("speech.mp4", "speech.mkv"):
        seed = seeds / name
        yield from damaged("video", seed, command, ["out.json"], _boxes(seed), special=False, named=named)


def _boxes(seed: Path) -> Iterator[tuple[str, Content]]:
    """Fields of the containers' heads: 32 bits anywhere become 0, 1, all ones."""
    data, rng = seed.read_bytes(), dice(seed.name, "boxes")
    for _ in range(24):
        place, value = rng.randrange(len(data) - 4), rng.choice((0, 1, 2**31 - 1, 2**32 - 1))
        yield f"32 bits at {place} = {value}", patch(data, place, ">I", value)


def _npz(arrays: dict[str, bytes], stored: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", stored) as archive:
        for name, content in arrays.items():
            archive.writestr(name, content)
    return out.getvalue()


def _bomb(members: dict[str, bytes], name: str, head: bytes = b"") -> Content:
    """A zip file one member of which is `head` and 0.8 GB of zeros; made when it is needed, which takes seconds."""
    return lambda path: path.write_bytes(_npz(members | {name: head + bytes(BOMB_BYTES)})) and None


def _npy(array: np.ndarray, allow_pickle: bool = False) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=allow_pickle)
    return out.getvalue()


def _npy_head(shape: object, kind: str = "<f4", order: object = False) -> bytes:
    text = f"{{'descr': {kind!r}, 'fortran_order': {order}, 'shape': {shape}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def _odd_arrays(array: np.ndarray, rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """An array that is not the one expected."""
    if array.dtype.kind == "f" and array.size:
        for value in (np.nan, np.inf, -np.inf, 1e30, -1.0, 1e-40):
            new = array.copy()
            new.reshape(-1)[rng.randrange(array.size)] = value
            yield f"one {value}", _npy(new)
        yield "all NaN", _npy(array * np.nan)
    if array.dtype.kind in "iu" and array.size:
        for value in (-1, 0, 2**31 - 1, 10**6):
            new = array.astype(np.int64)
            new.reshape(-1)[rng.randrange(array.size)] = value
            yield f"one {value}", _npy(new)
    yield "empty", _npy(array.reshape(-1)[:0])
    yield "one dimension more", _npy(array[None])
    yield "shorter", _npy(array[:-1] if array.ndim else np.zeros((2, 2)))
    yield "text", _npy(np.array("text"))
    yield "complex", _npy(np.zeros(array.shape, np.complex64)) if array.size < 1e5 else _npy(np.zeros(3, np.complex64))
    yield "pickled", _npy(np.array([{"a": 1}], object), allow_pickle=True)
    yield "booleans", _npy(np.zeros(array.shape, bool))


ODD_HEADS: tuple[tuple[str, bytes], ...] = (
    ("shape (2**40, 3)", _npy_head((2**40, 3))), ("shape (-1, 3)", _npy_head((-1, 3))), ("shape of text",
    _npy_head(("a",))),
    ("shape 1e9 × 0", _npy_head((10**9, 0))), ("3 GB promised", _npy_head((250_000_000, 3)) + b"x" * 100),
    ("a shape 10,000 deep", _npy_head("(" * 10_000 + ")" * 10_000)), ("kind O", _npy_head((1,), "|O") + b"\x80\x04N."),
    ("kind of 1 GB", _npy_head((3,), "<U300000000")), ("kind x", _npy_head((3,), "x")), ("order 3", _npy_head((3,),
    order=3)),
    ("version 9", b"\x93NUMPY\x09\x00" + b"\xff" * 20), ("head of 4 GB", b"\x93NUMPY\x02\x00\xff\xff\xff\xff"),
)  # fmt: skip


def _arrays_of(seed: Path, count: int) -> Iterator[tuple[str, Content]]:
    """An .npz (also a .kmrig) with one array changed, missing, or a bomb."""
    members, rng = zip_members(seed.read_bytes()), dice(seed.name, "arrays")
    for name in members:
        yield f"{name} missing", _npz({n: c for n, c in members.items() if n != name}, zipfile.ZIP_STORED)
    odd = []
    for name, content in members.items():
        array = np.load(io.BytesIO(content), allow_pickle=False)
        odd += [(f"{name}: {what}", name, new) for what, new in _odd_arrays(array, rng)]
        if array.dtype.kind == "U" and array.ndim == 0 and str(array).startswith(("{", "[")):
            texts = list(damaged_json(str(array).encode(), dice(seed.name, name), 15))
            odd += [
                (f"{name}: {what}", name, _npy(np.array(new.decode("utf-8", "replace"))))
                for what, new in texts
                if len(new) < 1_000_000
            ]
    rng.shuffle(odd)
    for what, name, new in odd[:count]:
        yield what, _npz(members | {name: new}, zipfile.ZIP_STORED)
    first = next(n for n in members)
    for what, new in ODD_HEADS:
        yield f"{first}: {what}", _npz(members | {first: new}, zipfile.ZIP_STORED)
    head = _npy_head((BOMB_BYTES,), "|u1")
    yield f"{first}: a bomb of 0.8 GB", _bomb(members, first, head)
    yield "a further bomb of 0.8 GB", _bomb(members, "bomb.npy", head)
    yield "5,000 members", _npz(members | {f"m{k}.npy": b"" for k in range(5_000)}, zipfile.ZIP_STORED)
    yield "a member outside", _npz(members | {"../../out.npy": b"x"}, zipfile.ZIP_STORED)


def array_cases(seeds: Path) -> Iterator[Case]:
    speech, grid = str(seeds / "speech.wav"), str(seeds / "speech.TextGrid")
    seed = seeds / "animation.npz"
    yield from damaged("animation.npz", seed, lambda n: ("export", n, "-o", "out.pc2"), PC2, _arrays_of(seed, 80))
    yield from damaged(
        "animation.npz", seed, lambda n: ("export", n, "-o", "out.glb"), ["out.glb"], _arrays_of(seed, 30), few=True,
        special=False, name="glb.npz",
    )  # fmt: skip
    seed = seeds / "face.kmrig"

    def rig(name: str) -> tuple[str, ...]:
        return ("animate", speech, "--textgrid", grid, "--motion", "rules", "--template", name, "-o", "out.pc2")

    yield from damaged("kmrig", seed, rig, PC2, _arrays_of(seed, 60))
    seed = seeds / "whole.npy"
    array = np.load(seed)
    odd = [*_odd_arrays(array, dice("npy")), *ODD_HEADS, ("of doubles", _npy(array.astype(np.float64))),
           ("of halves", _npy(array.astype(np.float16))), ("flat", _npy(array.reshape(len(array), -1))),
           ("10 vertices", _npy(array[:, :10])), ("times 1e30", _npy(array * 1e30)), ("times 1e38", _npy(array * 1e38)),
           ("in Fortran's order", _npy(np.asfortranarray(array))), ("big-endian", _npy(array.astype(">f4"))),
           ("one frame", _npy(array[:1])), ("20,000 frames", _npy_head((20_000, *array.shape[1:])))]  # fmt: skip
    motion = ("--template", "light", "--speech", speech, "--fps", "5", "-o", "out.pc2")
    yield from damaged("motion .npy", seed, lambda n: ("render", n, *motion), PC2, odd, named=("light", "speech.wav"))
    imported = ("--import-motion",)
    yield from damaged(
        "motion .npy", seed,
        lambda n: ("keys", speech, "--textgrid", grid, *RULES, *imported, n, "--import-fps", "5", "-o", "out.json"),
        ["out.json"], odd, few=True, special=False, name="imported.npy",
    )  # fmt: skip


def _tensors(data: bytes) -> tuple[dict[str, Any], bytes]:
    size = struct.unpack_from("<Q", data)[0]
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def _safetensors(head: bytes, body: bytes) -> bytes:
    return struct.pack("<Q", len(head)) + head + body


def _damaged_weights(seed: Path, key: str) -> Iterator[tuple[str, Content]]:
    """What happens to a file of weights, whose configuration is under `key` of its metadata."""
    data = seed.read_bytes()
    head, body = _tensors(data)
    facts = json.loads(head["__metadata__"][key])
    for what, new in damaged_json(json.dumps(facts).encode(), dice("config"), 50):
        if len(new) < 1_000_000:
            meta = {"__metadata__": {key: new.decode("utf-8", "replace")}}
            yield f"metadata: {what}", _safetensors(to_json(head | meta), body)
    config = facts["config"]
    for name, value in config.items():
        if isinstance(value, int) and not isinstance(value, bool):
            for odd in (0, -1, 1_000_000, 2**62):
                text = json.dumps(facts | {"config": config | {name: odd}})
                meta = {"__metadata__": {key: text}}
                yield f"{name} = {odd}", _safetensors(to_json(head | meta), body)
    for what, new in damaged_tree({k: v for k, v in head.items() if k != "__metadata__"}, dice("head"), 25):
        if isinstance(new, dict):
            yield f"head: {what}", _safetensors(to_json({"__metadata__": head["__metadata__"]} | new), body)
    halves = np.frombuffer(body, np.float16)
    for what, values in {
        "all zero": halves * 0, "all NaN": np.full_like(halves, np.nan),
        "infinite": np.full_like(halves, np.inf), "times 1000": halves.astype(np.float32) * 1000,
        "negated": -halves, "all ones": halves * 0 + 1,
    }.items():  # fmt: skip
        yield (
            what,
            _safetensors(
                to_json(head),
                np.clip(values, -6e4, 6e4).astype(np.float16).tobytes() if what[0] == "t" else values.tobytes(),
            ),
        )
    one = halves.copy()
    one[len(one) // 2] = np.nan
    yield "one NaN", _safetensors(to_json(head), one.tobytes())
    for size in (0, 1, 2**31, 2**62, 2**64 - 1):
        yield f"head of {size} bytes", struct.pack("<Q", size) + data[8:]


def network_cases(seeds: Path) -> Iterator[Case]:
    """Weights of the network, and of the joint model."""
    read = ("keys", str(seeds / "speech.wav"), "--textgrid", str(seeds / "speech.TextGrid"), "--template", "light")
    for kind, name, key, options in (
        ("network", "network", "kmtalk", ("--network",)),
        ("joint model", "joint", "kmtalk-joint", ("--motion", "flow", "--joint")),
    ):
        seed = seeds / f"{name}.safetensors"
        yield from damaged(
            kind,
            seed,
            lambda n, options=options: (*read, *options, n, "-o", "out.json"),
            ["out.json"],
            _damaged_weights(seed, key),
        )


def voice_cases(seeds: Path) -> Iterator[Case]:
    """The settings of a Piper voice, whose graph is that of the voice joe; none where it is not installed."""
    settings = seeds / "voice.onnx.json"
    if not settings.is_file():
        return
    graph = Path((seeds / "voice.path").read_text())

    yield from damaged(
        "Piper voice",
        settings,
        lambda n: ("speak", "Hello.", "--voice", "voice.onnx", *RULES, "-o", "out.npz"),
        ["out.npz"],
        damaged_json(settings.read_bytes(), dice("voice"), 60),
        beside={"voice.onnx": lambda path: path.symlink_to(graph)},
        text=True,
        few=True,
        named=("voice.onnx", "the text"),
        seconds=15.0,
    )


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.system, ("touch pwned",)


def pickle_cases(seeds: Path) -> Iterator[Case]:
    folder = seeds / "vocaset"
    content = {p.name: p.read_bytes() for p in sorted(folder.iterdir())}
    lists = b"\x80\x04]\x94" + b"".join(b"](h%ch%ce\x94" % (k, k) for k in range(40)) + b"."
    odd: list[tuple[str, Content]] = [
        ("a command", pickle.dumps(_Evil())),
        ("shared lists 40 deep", lists),
        ("lists 100,000 deep", b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."),
        ("memo 2**28", b"\x80\x02]r\xff\xff\xff\x0f."),
        ("a string of 4 GB promised", b"\x80\x04\x8d" + struct.pack("<Q", 2**32) + b"x."),
        ("a tuple of 2**31", b"\x80\x02(" + b"N" * 1_000_000 + b"t."),
        ("numpy's object array", pickle.dumps(np.array([{"a": 1}], object))),
        ("a number", pickle.dumps(1)), ("nothing", pickle.dumps(None)), ("an empty dict", pickle.dumps({})),
        ("text keys", pickle.dumps({"a": "b"})), ("numbers as keys", pickle.dumps({1: {2: {3: 4}}})),
        ("persistent", b"\x80\x02U\x01aQ."), ("eval", b"c__builtin__\neval\n(S'1'\ntR."),
        ("numpy by code", b"cnumpy\nsave\n(S'pwned.npy'\nI1\ntR."), ("a BINPUT of nothing", b"\x80\x02q\x00."),
    ]  # fmt: skip
    subject = "FaceTalk_170728_03272_TA"
    own = {
        "templates.pkl": [pickle.dumps({subject: v}) for v in (
            np.zeros((20, 2)), np.full((20, 3), np.nan), np.zeros((0, 3)), "text", [[1, 2, 3]] * 20, np.zeros((20, 3),
            "U3"),
            np.zeros((19, 3)), None, np.zeros((20, 3), complex))],
        "subj_seq_to_idx.pkl": [pickle.dumps({subject: {"sentence01": v}}) for v in (
            {0: 10**9}, {10**9: 0}, {k: -1 for k in range(9)}, {0: "a"}, {"a": 0}, [1, 2], {0: 1.5}, {0: None},
            {0: 2**70})],
        "raw_audio_fixed.pkl": [pickle.dumps({subject: {"sentence01": v}}) for v in (
            {"audio": np.zeros(10), "sample_rate": 0}, {"audio": np.zeros(10), "sample_rate": -5}, {"audio": "x"}, 5,
            {"audio": np.zeros((3, 3, 3)), "sample_rate": 22000}, {"audio": np.full(9000, np.nan),
            "sample_rate": 22000},
            {"audio": np.zeros(9), "sample_rate": 2**62}, {"audio": np.zeros(9), "sample_rate": "a"})],
    }  # fmt: skip
    for name, special in own.items():
        mutations = [*odd, *((f"content {k}", data) for k, data in enumerate(special))]
        yield from damaged(
            "pickle", folder / name, lambda n: ("corpus", "check", ".", "--corpus", "vocaset"), [], mutations,
            beside=content, few=True, special=name == "templates.pkl", named=("kmtalk: .:", "data_verts.npy"),
        )  # fmt: skip
    yield from damaged(
        "pickle", folder / "data_verts.npy", lambda n: ("corpus", "check", ".", "--corpus", "vocaset"), [], ODD_HEADS,
        beside=content, few=True, special=False, named=("kmtalk: .:",),
    )  # fmt: skip


def model_cases(seeds: Path) -> Iterator[Case]:
    seed = seeds / "model.zip"
    members, rng = zip_members(seed.read_bytes()), dice("model")

    def put(name: str, content: bytes) -> bytes:
        return _npz(members | {name: content}, zipfile.ZIP_STORED)

    def own() -> Iterator[tuple[str, Content]]:
        for path, content in members.items():
            name = path.rpartition("/")[2]
            if not name:
                continue
            yield f"{name} missing", _npz({n: c for n, c in members.items() if n != path}, zipfile.ZIP_STORED)
            if name == "meta.json":
                for what, new in damaged_json(content, dice("meta"), 25):
                    yield f"{name}: {what}", put(path, new)
                meta = json.loads(content)
                settings = meta.get("features") or {}
                for field in ("frame_shift", "frame_length", "num_mel_bins", "num_coefficients", "low_frequency",
                              "high_frequency", "sample_frequency", "splice_left_context",
                              "cepstral_lifter"):  # fmt: skip
                    for value in (0, -1, 1e9, "text", None, 10**30):
                        new = to_json(meta | {"features": settings | {field: value}})
                        yield f"{field} = {value!r}"[:40], put(path, new)
                yield "optional_silence_phone unknown", put(path, to_json(meta | {"optional_silence_phone": "Q9"}))
            elif name != "graphemes.txt":
                for what, new in list(damaged_bytes(content, rng, few=True))[:12]:
                    yield f"{name}: {what}", put(path, new)
        yield "a bomb of 0.8 GB", _bomb(members, next(n for n in members if n.endswith("tree")))
        yield "a further bomb of 0.8 GB", _bomb(members, "kmtalk_arpa/bomb")

    speech, words = str(seeds / "speech.wav"), str(seeds / "words.dict")
    yield from damaged(
        "MFA acoustic model", seed,
        lambda n: ("align", speech, "--text", "Thank you for calling", "--aligner", "mfa", "--acoustic-model", n,
                   "--dictionary", words, "-o", "out.TextGrid"),
        ["out.TextGrid"], own(), few=True, named=("speech.wav", "words.dict"),
    )  # fmt: skip


ALL = (sound_cases, array_cases, network_cases, voice_cases, pickle_cases, model_cases)
