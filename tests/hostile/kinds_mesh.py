"""Cases of meshes and characters: OBJ, PLY, STL, glTF, VRM, USD, FBX."""

from __future__ import annotations

import base64
import copy
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from case import Case, Command, damaged
from mutations import Content, damaged_lines, damaged_tree, device_link, dice, folder, pipe, to_json
from seeds import pack_glb, unpack_glb

PC2 = ("out.pc2", "out-neutral.obj")


def _reader(seeds: Path) -> Command:
    speech, grid = str(seeds / "speech.wav"), str(seeds / "speech.TextGrid")
    return lambda name: (
        "animate", speech, "--textgrid", grid, "--motion", "rules", "--template", name, "-o", "out.pc2",
    )  # fmt: skip


def plain_cases(seeds: Path) -> Iterator[Case]:
    command = _reader(seeds)
    seed = seeds / "face.obj"
    data = seed.read_bytes()
    lines = data.decode().splitlines()
    vertices, faces = [line for line in lines if line[:2] == "v "], [line for line in lines if line[:2] == "f "]

    def scaled(factor: float) -> bytes:
        rows = [f"v {' '.join(f'{float(x) * factor:.7g}' for x in line.split()[1:])}" for line in vertices]
        return "\n".join(rows + faces).encode()

    def with_faces(*new: str) -> bytes:
        return "\n".join([*vertices, *new]).encode()

    triangle = "v 0 0 0\nv 1 0 0\nv 0 1 0\n"
    own: list[tuple[str, Content]] = [
        *((f"times {x:g}", scaled(x)) for x in (0, 1e-30, 1e-6, 1e6, 1e30, 1e38, 1e200)),
        ("no faces", with_faces()), ("no vertices", "\n".join(faces).encode()), ("one face", with_faces(faces[0])),
        ("a face of vertex 0", with_faces(*faces, "f 0 1 2")), ("a face of vertex 10^9", with_faces(*faces,
        "f 1 2 1000000000")),
        ("a face of vertex 10^40", with_faces(*faces, "f 1 2 1" + "0" * 40)), ("negative vertices", with_faces(*faces,
        "f -1 -2 -3")),
        ("too negative", with_faces(*faces, "f -999999 -2 -3")), ("faces twice", with_faces(*faces, *faces)),
        ("a face of two", with_faces(*faces, "f 1 2")), ("a face of one vertex thrice", with_faces(*faces, "f 1 1 1")),
        ("a polygon of 100,000 corners", with_faces("f " + " ".join(["1 2 3"] * 33_000))),
        ("a million equal triangles", (triangle + "f 1 2 3\n" * 1_000_000).encode()),
        ("one triangle", (triangle + "f 1 2 3\n").encode()),
        ("a million vertices", ("v 0 0 0\n" * 1_000_000 + "f 1 2 3\n").encode()),
        ("100,000 groups", (triangle + "".join(f"g {k}\nf 1 2 3\n" for k in range(100_000))).encode()),
        ("lines that go on and on", b"v 0 0 0 \\\n" * 100_000), ("mtllib of a pipe", b"mtllib /dev/zero\n" + data),
        ("v of two numbers", b"v 1 2\n" + data), ("v of a word", b"v a b c\n" + data), ("f of a word",
        data + b"\nf a b c\n"),
        ("colours of text", data.replace(b"\nf", b" a b c\nf", 1)),
    ]  # fmt: skip
    yield from damaged("OBJ", seed, command, PC2, [*own, *damaged_lines(data, dice("obj"), 40)], text=True)
    for name in ("face.ply", "ascii.ply"):
        seed = seeds / name
        whole = seed.read_bytes()
        head, body = whole.split(b"end_header\n", 1)
        heads = [
            (f"head: {what}", new + (b"" if new.endswith(b"\n") else b"\n") + b"end_header\n" + body)
            for what, new in damaged_lines(head, dice(name), 25)
        ]
        counts = [
            (f"{n} vertices", whole.replace(b"element vertex 5996", b"element vertex " + n.encode()))
            for n in ("0", "-1", "4000000000", "x", "9" * 40, "5995", "5997")
        ]  # fmt: skip
        yield from damaged("PLY", seed, command, PC2, [*heads, *counts], few=name != "face.ply", special=False)
    for name in ("ball.stl", "ascii.stl"):
        seed = seeds / name
        whole = seed.read_bytes()
        own = (
            [(f"{n} triangles", whole[:80] + struct.pack("<I", n) + whole[84:]) for n in (0, 1, 81, 2**31, 2**32 - 1)]
            if name == "ball.stl"
            else list(damaged_lines(whole, dice(name), 20))
        )
        # landmarks that no mesh has: a search for a face on every ball would take minutes
        for case in damaged(
            "STL", seed, lambda n: (*command(n), "--landmarks", "marks.json"), PC2, own, few=True,
            special=name == "ball.stl", beside={"marks.json": b'{"chin": 1000000000}'}, named=("marks.json",),
        ):  # fmt: skip
            if not case.must_pass:
                yield case
    seed = seeds / "face.usda"
    # the long lines are left out: a number less among 12,000 is one case
    stage = seed.read_bytes()
    own = [
        ("points of NaN", stage.replace(b"points = [(", b"points = [(nan, nan, nan), (", 1)),
        ("points times 1e38", stage.replace(b"points = [(", b"points = [(1e38, 1e38, 1e38), (", 1)),
        ("counts of -1", stage.replace(b"faceVertexCounts = [3", b"faceVertexCounts = [-1", 1)),
        ("counts of 10^9", stage.replace(b"faceVertexCounts = [3", b"faceVertexCounts = [1000000000", 1)),
        ("an index of -1", stage.replace(b"faceVertexIndices = [", b"faceVertexIndices = [-1, ", 1)),
        ("an index of 10^9", stage.replace(b"faceVertexIndices = [", b"faceVertexIndices = [1000000000, ", 1)),
        ("no points", stage.replace(b"points = [", b"points = [] # [", 1)),
        ("scale of NaN", stage.replace(b"{\n", b"{\n    float3 xformOp:scale = (nan, nan, nan)\n    uniform token[] "
                                              b'xformOpOrder = ["xformOp:scale"]\n', 2)),
        ("metersPerUnit 0", stage.replace(b"(\n", b"(\n    metersPerUnit = 0\n", 1)),
        ("metersPerUnit NaN", stage.replace(b"(\n", b"(\n    metersPerUnit = nan\n", 1)),
        ("refers to itself", b'#usda 1.0\n(\n defaultPrim = "A"\n)\ndef "A" (references = @./face.usda@</A>) {}\n'),
        ("refers to nothing", b'#usda 1.0\n(\n defaultPrim = "A"\n)\ndef "A" (references = @./no.usda@) {}\n'),
        ("a sublayer /dev/zero", b'#usda 1.0\n(\n subLayers = [@/dev/zero@]\n)\ndef "A" {}\n'),
        ("prims 10,000 deep", b"#usda 1.0\n" + b'def "A" {\n' * 10_000 + b"}\n" * 10_000),
        ("100,000 prims", b"#usda 1.0\n" + b"".join(b'def "A%d" {}\n' % k for k in range(100_000))),
        ("an empty stage", b"#usda 1.0\n"),
    ]  # fmt: skip
    yield from damaged("USD", seed, command, PC2, own, text=False)
    yield from damaged("USD", seeds / "face.usdc", command, PC2, special=False)
    binary = b"Kaydara FBX Binary  \x00\x1a\x00" + struct.pack("<I", 7400) + bytes(200)
    for what, content in (
        ("an empty one", b""), ("a head alone", binary[:27]), ("zeros behind the head", binary), ("text",
        b"; FBX 7.3.0 project file\n"),
        ("noise", bytes(range(256)) * 20), ("nodes without end", binary[:27] + b"\xff" * 500),
        ("a pipe", pipe), ("/dev/zero", device_link), ("a folder", folder),
    ):  # fmt: skip
        yield Case("FBX", f"FBX: {what}", command("face.fbx"), {"face.fbx": content}, ("face.fbx",), PC2)


def gltf_cases(seeds: Path) -> Iterator[Case]:
    command = _reader(seeds)
    for name, count in (("face.glb", 110), ("face.vrm", 50)):
        seed = seeds / name
        document, chunk = unpack_glb(seed.read_bytes())
        pack = lambda new, chunk=chunk: pack_glb(to_json(new), chunk)  # noqa: E731
        own = [(what, pack(new)) for what, new in damaged_tree(document, dice(name), count) if isinstance(new, dict)]
        if name == "face.vrm":
            part = document["extensions"]["VRM"]
            own += [
                (f"VRM: {what}", pack(document | {"extensions": {"VRM": new}}))
                for what, new in damaged_tree(part, dice(name, "VRM"), 30)
            ]
        else:
            own += [(what, pack(new)) for what, new in _odd_scenes(document)]
            own += [
                (f"length {n}", seed.read_bytes()[:8] + struct.pack("<I", n) + seed.read_bytes()[12:])
                for n in (0, 12, 2**32 - 1)
            ]
            own += [
                (f"length of the chunk {n}", seed.read_bytes()[:12] + struct.pack("<I", n) + seed.read_bytes()[16:])
                for n in (0, 1, 2**32 - 1)
            ]
        yield from damaged("GLB" if name == "face.glb" else "VRM", seed, command, PC2, own, few=name != "face.glb")
    yield from damaged(
        "GLB", seeds / "face.glb", lambda n: ("view", n, "-o", "out.html", "--no-browser"), ["out.html"],
        [(what, pack_glb(to_json(new), unpack_glb((seeds / "face.glb").read_bytes())[1]))
         for what, new in damaged_tree(unpack_glb((seeds / "face.glb").read_bytes())[0], dice("view"), 25)],
        few=True, name="shown.glb",
    )  # fmt: skip
    seed = seeds / "face.gltf"
    chunk = (seeds / "face.bin").read_bytes()
    document = json.loads(seed.read_text())
    tree = [(what, to_json(new)) for what, new in damaged_tree(document, dice("gltf"), 30)]
    size = document["buffers"][0]["byteLength"]
    for uri in ("../face.bin", "/etc/passwd", "/dev/zero", "no.bin", "", ".", "http://example.com/a.bin",
    "file:///etc/passwd",
                "data:,", "data:application/octet-stream;base64,!!!!", "%2e%2e/face.bin", "face.bin\x00", "a" * 5000,
                "pipe.bin"):  # fmt: skip
        tree.append((f"URI {uri[:20]!r}", to_json(document | {"buffers": [{"byteLength": size, "uri": uri}]})))
    inside = "data:application/octet-stream;base64," + base64.b64encode(chunk).decode()
    tree.append(("data URI", to_json(document | {"buffers": [{"byteLength": size, "uri": inside}]})))
    tree.append(("lists 100,000 deep", b'{"asset": ' + b"[" * 100_000))
    yield from damaged(
        "glTF", seed, command, PC2, tree, text=True, few=True, beside={"face.bin": chunk, "pipe.bin": pipe},
        named=("face.bin",),
    )  # fmt: skip
    for what, content in (
        ("a pipe", pipe),
        ("/dev/zero", device_link),
        ("a folder", folder),
        ("empty", b""),
        ("cut", chunk[:999]),
    ):
        files = {"face.gltf": seed.read_bytes(), "face.bin": content}
        yield Case("glTF", f"glTF: face.bin: {what}", command("face.gltf"), files, ("face.gltf", "face.bin"), PC2)


def _odd_scenes(document: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Scenes, accessors and targets that no program writes."""

    def changed() -> Any:
        return copy.deepcopy(document)

    new = changed()
    new["nodes"] = [{"children": [k + 1, k + 1]} for k in range(40)] + [{"mesh": 0}]
    new["scenes"] = [{"nodes": [0]}]
    yield "nodes that double 40 times", new
    new = changed()
    new["nodes"] = [{"children": [1]}, {"children": [0], "mesh": 0}]
    yield "nodes in a circle", new
    new = changed()
    new["nodes"] = [{"children": [k + 1]} for k in range(20_000)] + [{"mesh": 0}]
    yield "nodes 20,000 deep", new
    new = changed()
    del new["accessors"][0]["bufferView"]
    new["accessors"][0]["count"] = 300_000_000
    yield "an accessor of 3e8 without a view", new
    for name in ("count", "byteOffset"):
        for value in (0, -1, 2**31, 2**53):
            new = changed()
            new["accessors"][0][name] = value
            yield f"{name} {value}", new
    new = changed()
    new["meshes"][0]["primitives"][0]["targets"] *= 1_000
    yield "6,000 targets of the same", new
    new = changed()
    new["meshes"][0]["primitives"] *= 500
    yield "500 primitives of the same", new
    new = changed()
    new["nodes"] += [{"mesh": 0, "translation": [k, 0, 0]} for k in range(1_000)]
    new["scenes"] = [{"nodes": list(range(len(new["nodes"])))}]
    yield "1,000 copies", new
    for key, values in {
        "matrix": ([0] * 16, [1e38] * 16, [1] * 15), "scale": ([0, 0, 0], [1e30] * 3, [1e-30] * 3),
        "rotation": ([0, 0, 0, 0], [1e30] * 4), "translation": ([1e30] * 3, ["a"] * 3),
    }.items():  # fmt: skip
        for value in values:
            new = changed()
            new["nodes"][0] = {"children": [1], key: value}
            yield f"{key} {value}"[:40], new
    new = changed()
    new["accessors"][0]["sparse"] = {
        "count": 2**31, "indices": {"bufferView": 0, "componentType": 5125}, "values": {"bufferView": 0},
    }  # fmt: skip
    yield "2**31 sparse values", new
    new = changed()
    new["bufferViews"][0]["byteStride"] = 2**31
    yield "a stride of 2**31", new
    for used in ("KHR_draco_mesh_compression", "EXT_meshopt_compression", "KHR_unknown"):
        new = changed() | {"extensionsUsed": [used], "extensionsRequired": [used]}
        yield f"requires {used}", new
        new = copy.deepcopy(new)
        new["meshes"][0]["primitives"][0]["extensions"] = {used: {"bufferView": 0, "attributes": {"POSITION": 0}}}
        yield f"uses {used}", new


ALL = (plain_cases, gltf_cases)
