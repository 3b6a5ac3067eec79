"""Cases of what people write: text, TextGrid, keys.json, landmarks, maps, cues, configurations, manifests, options."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from case import Case, damaged
from mutations import NUMBERS, ODD_NAMES, damaged_json, damaged_lines, dice

RULES = ("--motion", "rules", "--template", "light")


def text_cases(seeds: Path) -> Iterator[Case]:
    speech = str(seeds / "speech.wav")
    for name, count in (("said.txt", 12), ("said.srt", 20), ("said.vtt", 20)):
        seed = seeds / name
        long = [
            ("a word of 100 kB", b"a" * 100_000),
            ("a megabyte of digits", b"7" * 1_000_000),
            ("no letters", "… !! ¿? 漢字 🙂".encode()),
            ("cues alone", b"[happy] [laughs] (pause)\n"),
            ("a cue that never ends", b"[happy Thank you for calling"),
            ("100,000 brackets", b"[" * 100_000 + b"Thank you for calling"),
            ("signs of the right-to-left override", "\u202eThank you for calling".encode()),
            ("a million words", b"word " * 1_000_000),
        ]  # fmt: skip
        yield from damaged(
            "text", seed, lambda n: ("align", speech, "--text", n, "-o", "out.TextGrid"), ["out.TextGrid"],
            [*damaged_lines(seed.read_bytes(), dice(name), count), *long], text=True, few=name != "said.txt",
            named=("speech.wav", "text"), special=name == "said.srt",
            seconds=20.0,  # what is not in the text is transcribed by Whisper
        )  # fmt: skip


def textgrid_cases(seeds: Path) -> Iterator[Case]:
    seed = seeds / "speech.TextGrid"
    speech = str(seeds / "speech.wav")
    yield from damaged(
        "TextGrid", seed, lambda n: ("keys", speech, "--textgrid", n, *RULES, "-o", "out.json"), ["out.json"],
        damaged_lines(seed.read_bytes(), dice("grid"), 80), text=True,
    )  # fmt: skip


def keys_cases(seeds: Path) -> Iterator[Case]:
    seed = seeds / "keys.json"
    animation = str(seeds / "animation.npz")
    yield from damaged(
        "keys.json", seed, lambda n: ("complete", n, animation, "-o", "out.csv"), ["out.csv"],
        damaged_json(seed.read_bytes(), dice("keys"), 130), text=True, few=True,
    )  # fmt: skip


def landmark_cases(seeds: Path) -> Iterator[Case]:
    mesh, speech, grid = (str(seeds / n) for n in ("face.obj", "speech.wav", "speech.TextGrid"))

    def command(name: str) -> tuple[str, ...]:
        return ("animate", speech, "--textgrid", grid, "--motion", "rules", "--template", mesh, "--landmarks", name,
                "-o", "out.csv")  # fmt: skip

    for name, make in (("marks.json", damaged_json), ("marks.pp", damaged_lines)):
        seed = seeds / name
        entity = b'<!DOCTYPE a [<!ENTITY x "xxxxxxxxxx"><!ENTITY y "&x;&x;&x;&x;">]><PickedPoints>&y;</PickedPoints>'
        extra = [
            ("XML entities", entity),
            ("XML 100,000 deep", b"<a>" * 100_000 + b"</a>" * 100_000),
            ("an external entity",
            b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><PickedPoints>&x;</PickedPoints>'),
            ("a million points",
            b"<PickedPoints>" + b'<point x="0" y="0" z="0" name="chin"/>' * 1_000_000 + b"</PickedPoints>"),
        ]  # fmt: skip
        yield from damaged(
            "landmarks", seed, command, ["out.csv"],
            [*make(seed.read_bytes(), dice(name), 45), *(extra if name == "marks.pp" else ())], text=True, few=True,
        )  # fmt: skip


def map_cases(seeds: Path) -> Iterator[Case]:
    seed = seeds / "map.yaml"
    mesh, speech, grid = (str(seeds / n) for n in ("face.glb", "speech.wav", "speech.TextGrid"))
    yield from damaged(
        "map of shapes", seed,
        lambda n: ("animate", speech, "--textgrid", grid, "--motion", "rules", "--template", mesh, "--map", n, "-o",
                   "out.csv"),
        ["out.csv"], [*damaged_lines(seed.read_bytes(), dice("map"), 30), *_odd_yaml()], text=True, few=True,
    )  # fmt: skip


def _odd_yaml() -> list[tuple[str, bytes]]:
    laughs = b"a0: &a0 [x, x]\n" + b"".join(b"a%d: &a%d [*a%d, *a%d]\n" % (i, i, i - 1, i - 1) for i in range(1, 50))
    values = (
        '!!int ""', "!!float ''", "2001-99-99", "!!timestamp x", "!!bool x", "!!binary '%'", "!foo 1",
        "!!python/object/apply:os.system ['touch pwned']", "!!python/name:os.system", "? [a]\n: b", "1:99:99", "<<: 3",
        "*unknown", "&a [*a]", "&a [*a, *a]", "- 1\n- 2", "text", "null", "---\na: 1\n---\nb: 2",
        "%YAML 9.9\n---\na: 1",
        "a: 1\na: 2", "\ta: 1", "a: b: c", "? ", "{a: 1, a: 2}", "1" * 5000,
    )  # fmt: skip
    return [
        *((repr(v)[:40], v.encode()) for v in values),
        ("aliases that double 50 times", laughs),
        ("lists 100,000 deep", b"[" * 100_000),
        ("mappings 100,000 deep", b"{a: " * 100_000),
        ("200,000 lines", b"".join(b"k%d: 1\n" % k for k in range(200_000))),
        ("100,000 anchors", b"".join(b"- &a%d 1\n" % k for k in range(20_000))),
    ]


def config_cases(seeds: Path) -> Iterator[Case]:
    import yaml

    seed = seeds / "train.yaml"
    tree = json.dumps(yaml.safe_load(seed.read_text())).encode()
    fields = [(f"as JSON, {what}", content) for what, content in damaged_json(tree, dice("config"), 90)]
    yield from damaged(
        "YAML configuration", seed, lambda n: ("corpus", "size", n), [],
        [*damaged_lines(seed.read_bytes(), dice("config"), 30), *_odd_yaml(), *fields], text=True, few=True,
    )  # fmt: skip
    missing = [(f"as JSON, {what}", content) for what, content in damaged_json(tree, dice("train"), 10)]
    yield from (
        case
        for case in damaged(
            "YAML configuration", seed, lambda n: ("train", n, "-o", "run"), [],
            [*damaged_lines(seed.read_bytes(), dice("train"), 20), *missing], few=True,
            named=("simulated", "corpora/rig", "grid", "run"), name="run.yaml",
        )
        if not case.must_pass
    )  # fmt: skip


def manifest_cases(seeds: Path) -> Iterator[Case]:
    for name in ("clips.csv", "clips.json", "clips.jsonl"):
        seed = seeds / name
        data = seed.read_bytes()
        if name == "clips.json":
            own = list(damaged_json(data, dice(name), 40))
        else:
            own = list(damaged_lines(data, dice(name), 12))
        own += [
            ("TOML", b'[[clip]]\nspeech = "a.wav"\n'),
            ("100,000 columns", b"speech," + b"a," * 100_000 + b"b\n"),
            ("a field of 1 MB", data.replace(b"Hello", b"a" * 1_000_000)),
            ("a quote that never ends", data.replace(b"Hello", b'"Hello')),
            ("columns twice", b"speech,text,text\na.wav,b,c\n"),
            ("output outside", data.replace(b"text", b"output_dir").replace(b"Good bye.", b"../../x")),
            ("a zero byte in a name", data.replace(b"no1", b"no\0")),
            ("a column of the shell", data.replace(b"text", b"$(touch pwned)")),
        ]  # fmt: skip
        for case in damaged(
            "manifest of clips", seed, lambda n: ("batch", n, "-o", "out", "--jobs", "1", "--motion", "rules"), ["out"],
            own, text=True, few=True, several_lines=True, special=name != "clips.jsonl",
        ):  # fmt: skip
            if not case.must_pass:  # its sounds are missing on purpose
                yield case
    seed = seeds / "own" / "manifest.json"
    beside = {n: (seeds / "own" / n).read_bytes() for n in ("clip.npy", "clip.wav", "ann.obj")}
    yield from damaged(
        "manifest of a corpus", seed, lambda n: ("corpus", "check", ".", "--corpus", "folder"), [],
        damaged_json(seed.read_bytes(), dice("corpus"), 70), beside=beside, text=True, few=True,
        named=("kmtalk: .: ", "clip.npy", "clip.wav", "ann.obj", "./", *(str(v) for v in ("text", "é"))),
    )  # fmt: skip


def cue_cases(seeds: Path) -> Iterator[Case]:
    seed = seeds / "cues.json"
    speech, grid = str(seeds / "speech.wav"), str(seeds / "speech.TextGrid")
    yield from damaged(
        "emotion cues", seed,
        lambda n: ("keys", speech, "--textgrid", grid, *RULES, "--emotion", n, "-o", "out.json"), ["out.json"],
        damaged_json(seed.read_bytes(), dice("cues"), 30), text=True, few=True,
    )  # fmt: skip


def dictionary_cases(seeds: Path) -> Iterator[Case]:
    seed = seeds / "words.dict"
    speech, model = str(seeds / "speech.wav"), str(seeds / "model.zip")
    odd = [
        ("no phones", b"thank\nyou\n"),
        ("unknown phones", b"thank Q9 Q8\nyou Q7\nfor X\ncalling Z\n"),
        ("a million times one pronunciation", b"thank TH AE1 NG K\n" * 1_000_000),
        ("many pronunciations", b"".join(b"thank TH" + b" K" * k + b"\n" for k in range(2_000))),
        ("60 pronunciations", b"".join(b"thank TH" + b" K" * k + b"\n" for k in range(60))),
        ("a word of 100,000 phones", b"thank" + b" AH0" * 100_000 + b"\nyou Y UW1\n"),
        ("only probabilities", b"thank 1 0.5 0.5\n"),
    ]
    yield from damaged(
        "MFA dictionary", seed,
        lambda n: ("align", speech, "--text", "Thank you for calling", "--aligner", "mfa", "--acoustic-model", model,
                   "--dictionary", n, "-o", "out.TextGrid"),
        ["out.TextGrid"], [*damaged_lines(seed.read_bytes(), dice("dict"), 15), *odd], text=True, few=True,
        named=("speech.wav", "model.zip"),
    )  # fmt: skip


def option_cases(seeds: Path) -> Iterator[Case]:
    speech, grid, animation = (str(seeds / n) for n in ("speech.wav", "speech.TextGrid", "animation.npz"))
    keys = ("keys", speech, "--textgrid", grid, *RULES, "-o", "out.json")
    numbers = (*NUMBERS, "", " ", "x", "-0", "1e-300", "1e-9", "9999.999", "1/0", "30000/1001", "1_0", "٣", "１", "0.1")
    for option in (
        "fps",
        "head",
        "seed",
        "intensity",
        "gain",
        "style",
        "emotion",
        "keys",
        "gaze",
        "language",
        "motion",
    ):
        prefix = {"gain": "jawOpen=", "emotion": "happy:"}.get(option, "")
        for value in numbers:
            shown = f"--{option} {prefix}{value[:12]!r}"
            argv = (*keys, f"--{option}", f"{prefix}{value}")
            yield Case("option", shown, argv, named=(option, value[:30] or "''"), outputs=("out.json",))
    for option, values in {
        "size": ("0", "8192", "8193x8192", "-2", "1e3", "512x", "x", "63x64", "9" * 5000, "512x512x512", "32x8192"),
        "timecode": ("", "1", "99:99:99:99", "00:00:00:-1", "٠٠:٠٠:٠٠:٠٠", "0" * 5000, "00:00:00:999"),
        "background": ("", "#12", "#zzzzzz", "red", "\x1b[31m", "#１２３４５６"),
        "formats": ("", ",", "csv,csv", "exe", "csv, json", "c" * 5000, "../csv", "npz,npz"),
        "reduce": numbers,
        "quality": ("", "best"),
        "nothing-known": ("1",),
    }.items():
        for value in values:
            argv = ("export", animation, "-o", "out.csv", f"--{option}", value)
            name = f"export --{option} {value[:20]!r}"
            yield Case("option", name, argv, named=(option, value[:30] or "''"), outputs=("out.csv",))
    for option in ("--max-distance", "--size"):
        for value in ("0", "nan", "-1", "inf", "1e999", "x", "8192", "1e-300"):
            argv = ("compare", animation, animation, "-o", "out.mp4", option, value)
            yield Case(
                "option", f"compare {option} {value}", argv, named=(option.strip("-"), value), outputs=("out.mp4",)
            )
    for argv in (
        (), ("unknown",), ("export",), ("export", animation), ("keys",), ("batch", ".", "-o"), ("align", speech, "x",
        "-o", "a"),
        ("reproduce", "table", "99", "--path", ".", "-o", "x"), ("corpus", "size"), ("corpus", "build", "x", "-o", "y"),
        ("corpus", "build", "simulated", "-o", "y", "--clips", "0"), ("batch", ".", "-o", "x", "--jobs", "0"),
        ("batch", ".", "-o", "x", "--jobs", "many"), ("evaluate", ".", "--corpus", "x"), ("evaluate", ".",
        "--network", "x"),
        ("corpus", "check", ".", "--corpus", "x"), ("corpus", "check", ".", "--fps", "nan"), ("fit", ""), ("view", ""),
    ):  # fmt: skip
        if argv:
            yield Case("option", f"command {' '.join(argv)[-60:]}", argv)
    for output in (
        "", ".", "..", "/", "/dev/null", "/proc/x.json", "a\0b.json", "no/such/folder/out.json", "a" * 300 + ".json",
        "out.exe",
        "out", ".json", "-o.json", "\x1b[31m.json", "caf\udce9.json", "new\nline.json", "/dev/full", "out.json/",
        "con.json",
    ):  # fmt: skip
        if "\0" not in output:  # no command line can hold it
            argv = (*keys[:-1], output)
            outputs = (output.rstrip("/"), output.split("/")[0])
            yield Case("option", f"-o {output[:20]!r}", argv, named=("",), outputs=outputs)
    for name in ODD_NAMES:
        file = f"{name}.wav"
        argv = ("keys", f"./{file}", "--textgrid", grid, *RULES, "-o", "out.json")
        data = (seeds / "speech.wav").read_bytes()
        short = len(file.encode("utf-8", "surrogateescape")) <= 255
        yield Case("option", f"sound named {name[:20]!r}", argv, {file: data}, (file,), ("out.json",), must_pass=short)
        argv = ("keys", f"./{file}", "--textgrid", f"./{file}", *RULES, "-o", "out.json")
        yield Case("option", f"TextGrid named {name[:20]!r}", argv, {file: data}, (file,), ("out.json",))


ALL = (
    text_cases, textgrid_cases, keys_cases, landmark_cases, map_cases, cue_cases, config_cases, manifest_cases,
    dictionary_cases, option_cases,
)  # fmt: skip
