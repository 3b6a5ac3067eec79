"""Named ways to damage a file: its bytes, its numbers, its lines, its fields; and things that are no files."""

from __future__ import annotations

import copy
import json
import os
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Content = bytes | Callable[[Path], None]
"""What is put where the file should be: bytes, or a function that makes something else there."""

PNG = bytes.fromhex("89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de")
NUMBERS = ("0", "-1", "1", "nan", "inf", "-inf", "1e999", "1e30", "-1e308", "1e-320", "2147483648", "9" * 5000, "0x10")
WORDS = ("", "x", "1,5", "ü", "\u202e", "a" * 5000, "-", "null", "'\"", "[", "%s%n", "\x1b[31m", "\x7f")
VALUES: tuple[Any, ...] = (
    None, True, "text", "", -1, 0, 0.5, 1e30, -1e308, 2**31, 2**63, 10**400, [], {}, [[]], [1, 2], {"a": 1}, "1",
    "é" * 9,
)  # fmt: skip


def dice(*words: object) -> random.Random:
    """A random generator that is the same in every run."""
    return random.Random(zlib.crc32(" ".join(map(str, words)).encode()))


def damaged_bytes(seed: bytes, rng: random.Random, few: bool = False) -> Iterator[tuple[str, bytes]]:
    """What happens to any file: cut off, bits flipped, blocks lost, joined, of another kind."""
    yield "empty", b""
    yield "one byte", seed[:1]
    for share in (0.1, 0.5, 0.99) if few else (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99):
        yield f"cut at {share:.0%}", seed[: int(len(seed) * share)]
    yield "last byte missing", seed[:-1]
    for count in range(4 if few else 10):
        end = min(len(seed), 64 if count % 2 else len(seed))
        place, bit = rng.randrange(end), rng.randrange(8)
        yield f"bit {bit} of byte {place}", seed[:place] + bytes([seed[place] ^ (1 << bit)]) + seed[place + 1 :]
    place = rng.randrange(len(seed))
    yield f"64 zeros at {place}", seed[:place] + bytes(64) + seed[place + 64 :]
    yield "end of zeros", seed[: len(seed) // 2] + bytes(len(seed) - len(seed) // 2)
    yield "FF in its head", seed[:8] + b"\xff" * 8 + seed[16:]
    yield "16 bytes inserted", seed[:place] + rng.randbytes(16) + seed[place:]
    yield "rubbish behind", seed + rng.randbytes(500)
    yield "twice", seed + seed
    yield "noise", rng.randbytes(3000)
    yield "zeros", bytes(3000)
    yield "a picture", PNG
    if not few:
        yield "text", b"Hello there.\n"
        yield "a web page", b"<!DOCTYPE html><html><body>404 Not Found</body></html>"
        yield "an empty zip", b"PK\x05\x06" + bytes(18)
        yield "a shell script", b"#!/bin/sh\necho hello\n"
        yield "an LFS pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
        yield "beginning and end swapped", seed[len(seed) // 2 :] + seed[: len(seed) // 2]


def text_encodings(seed: bytes) -> Iterator[tuple[str, bytes]]:
    """A text in the encodings, with the line ends, of other programs."""
    text = seed.decode("utf-8")
    yield "with a BOM", b"\xef\xbb\xbf" + seed
    yield "two BOMs", b"\xef\xbb\xbf" * 2 + seed
    yield "UTF-16", text.encode("utf-16")
    yield "UTF-16 without BOM", text.encode("utf-16-le")
    yield "half of UTF-16", text.encode("utf-16")[:-1]
    yield "UTF-32", text.encode("utf-32")
    yield "Latin-1", ("é" + text).encode("latin-1", "replace")
    yield "CRLF", text.replace("\n", "\r\n").encode()
    yield "CR", text.replace("\n", "\r").encode()
    yield "a zero byte", seed[:20] + b"\0" + seed[20:]
    yield "a surrogate", seed[:20] + b"\xed\xa0\x80" + seed[20:]
    yield "only spaces", b" \n\t\n" * 50
    yield "20 MB of spaces", b" " * 20_000_000
    yield "a line of 5 MB", seed.replace(b"\n", b" ") + b"a" * 5_000_000
    yield "escape sequences", b"\x1b[2J" + seed


def damaged_lines(seed: bytes, rng: random.Random, count: int) -> Iterator[tuple[str, bytes]]:
    """Lines lost, doubled and swapped; numbers and words replaced by odd ones."""
    lines = seed.decode("utf-8").splitlines(keepends=True)
    for _ in range(count):
        k = rng.randrange(len(lines))
        way = rng.choice(("gone", "twice", "swapped", "number", "number", "number", "word", "word", "cut"))
        new, what = list(lines), way
        if way == "gone":
            del new[k]
        elif way == "twice":
            new.insert(k, new[k])
        elif way == "swapped":
            j = rng.randrange(len(new))
            new[k], new[j] = new[j], new[k]
        elif way == "cut":
            new[k] = new[k][: len(new[k]) // 2] + "\n"
        else:
            words = new[k].split(" ")
            j = rng.randrange(len(words))
            put = rng.choice(NUMBERS if way == "number" else WORDS)
            end = "\n" if words[j].endswith("\n") else ""
            words[j], what = put + end, put[:20]
            new[k] = " ".join(words)
        yield f"line {k + 1}: {what!r}", "".join(new).encode()


def _places(document: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in items:
        yield (*way, key)
        if isinstance(value, dict | list):
            yield from _places(value, (*way, key))


def damaged_tree(document: Any, rng: random.Random, count: int) -> Iterator[tuple[str, Any]]:
    """Fields missing, of another type or size, or beyond all bounds; yields (what was done, document)."""
    places = list(_places(document))
    # as many from every level: lists of numbers would take nearly all
    levels: dict[Any, list[tuple[Any, ...]]] = {}
    for place in places:
        levels.setdefault(tuple(k for k in place if isinstance(k, str)), []).append(place)
    kinds = list(levels)
    for n in range(count):
        place = rng.choice(levels[kinds[n % len(kinds)]])
        new = copy.deepcopy(document)
        parent = new
        for key in place[:-1]:
            parent = parent[key]
        if rng.random() < 0.15:
            del parent[place[-1]]
            what = "missing"
        else:
            parent[place[-1]] = value = rng.choice(VALUES)
            what = repr(value)[:20] if not isinstance(value, int) or value < 1e20 else "10**400"
        yield f"{'.'.join(map(str, place))[:60]}: {what}", new


def to_json(document: Any) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass")


def damaged_json(seed: bytes, rng: random.Random, count: int) -> Iterator[tuple[str, bytes]]:
    """A JSON file with fields changed, and what no JSON file may hold."""
    for what, document in damaged_tree(json.loads(seed), rng, count):
        yield what, to_json(document)
    whole = json.loads(seed)
    for other in ([], {}, None, 1, "text", [[]], [None], [{}], {"a": {}}):
        yield f"all of it {other!r}", to_json(other)
    if isinstance(whole, dict):
        text = json.dumps(whole)
        yield "an unknown field", to_json(whole | {"unknown": 1})
        name = next(iter(whole))
        yield "a field twice", ("{" + json.dumps(name) + ": 1, " + text[1:]).encode()
    number = next((i for i, c in enumerate(seed) if chr(c).isdigit() and seed[i - 1 : i] in b" [:"), None)
    for put in (b"NaN", b"Infinity", b"-Infinity", b"1e999", b"9" * 5000, b"01", b"+1", b".5", b"0x1", b"1_000"):
        if number is not None:
            yield f"the first number {put[:10]!r}", seed[:number] + put + seed[number + 1 :]
    yield "lists 100,000 deep", b"[" * 100_000 + b"]" * 100_000
    yield "objects 100,000 deep", b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    yield "lists 300 deep", b"[" * 300 + b"]" * 300
    yield "a million lists", b"[" + b"[]," * 1_000_000 + b"[]]"
    yield "a comment", b"// comment\n" + seed
    yield "a comma behind the last", seed.rstrip()[:-1] + b"," + seed.rstrip()[-1:]
    yield "two documents", seed + seed
    yield "a lone surrogate", seed.replace(b'"', b'"\\ud800', 1)


def huge_file(path: Path) -> None:
    """Three gigabytes of zeros that take no room on the disk."""
    with path.open("wb") as file:
        file.truncate(3 << 30)


def endless_link(path: Path) -> None:
    path.symlink_to(path.name)


def device_link(path: Path) -> None:
    path.symlink_to("/dev/zero")


def dangling_link(path: Path) -> None:
    path.symlink_to("nowhere")


def folder(path: Path) -> None:
    path.mkdir()


def missing(path: Path) -> None:
    """Nothing is there."""


def pipe(path: Path) -> None:
    os.mkfifo(path)


def unreadable(path: Path) -> None:
    path.write_bytes(b"secret")
    path.chmod(0)


SPECIAL: tuple[tuple[str, Content], ...] = (
    ("a pipe", pipe),
    ("/dev/zero", device_link),
    ("a folder", folder),
    ("missing", missing),
    ("a dangling link", dangling_link),
    ("a link to itself", endless_link),
    ("3 GB of zeros", huge_file),
    *((("unreadable", unreadable),) if os.geteuid() else ()),
)

ODD_NAMES = (
    "naïve Ünïcode 漢字", "two  spaces ", "it's \"quoted\"", "semi;colon&amp", "new\nline", "\x1b[31mred", "per%cent%s",
    "{brace}", "[bracket]", "#hash", "caf\udce9", "\u202egpj", "a" * 230, "a" * 300, "10:30 take", "concat:a|b", "~",
    "$HOME",
)  # fmt: skip
"""Names without their suffix; one is not UTF-8, one is longer than file systems allow."""


def patch(seed: bytes, offset: int, code: str, value: float) -> bytes:
    """The bytes with one packed number replaced."""
    return seed[:offset] + struct.pack(code, value) + seed[offset + struct.calcsize(code) :]
