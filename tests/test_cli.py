"""The command line with real files: exit codes, one line on stderr, no leftover files."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import FACE, FIXTURES, SAID, SPEECH

from kmtalk import InputError

OBJ = "v 0 0 0\nv 1 0 0\nv 0 1 0\n"


def listing(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


@pytest.mark.slow
def test_the_main_job_with_real_whisper(kmtalk, tmp_path):
    """`kmtalk animate speech.wav --template face.obj` without text: transcription, alignment, motion and video."""
    speech = tmp_path / "speech.wav"
    speech.write_bytes(SPEECH.read_bytes())
    done = kmtalk("animate", "speech.wav", "--template", FACE, "--contact-sheet", "sheet.png", "--size", "256")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # no progress bars or warnings without a terminal
    names = ["animation.glb", "animation.mp4", "animation.npz", "import_blender.py", "keys.json"]
    names += ["speech.TextGrid", "speech.wav"]
    assert listing(tmp_path / "speech-kmtalk") == names
    assert (tmp_path / "sheet.png").stat().st_size > 10_000
    words = (tmp_path / "speech-kmtalk" / "speech.TextGrid").read_text().split('"phones"')[0].lower()
    for word in ("thank", "super", "company", "perfect", "products", "extension"):
        assert f'"{word}"' in words


def test_single_files_by_suffix(kmtalk, tmp_path):
    for name in ("out.npz", "sub/out.glb"):
        done = kmtalk("animate", SPEECH, "--text", SAID, "-o", name, "--fps", "24")
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == name
    assert listing(tmp_path) == ["out.npz", "sub", "sub/out.glb"]
    with np.load(tmp_path / "out.npz") as z:
        assert len(z["weights"]) == round(soundfile.info(SPEECH).duration * 24)


def test_text_may_be_a_file_and_a_textgrid_skips_the_rest(kmtalk, tmp_path):
    (tmp_path / "said.txt").write_text(SAID)
    done = kmtalk("align", SPEECH, "--text", "said.txt", "-o", "s.TextGrid", "--whisper", "no-such-model")
    assert done.returncode == 0, done.stderr
    done = kmtalk("animate", SPEECH, "--textgrid", "s.TextGrid", "-o", "x", "--no-video", "--whisper", "no-such-model")
    assert done.returncode == 0, done.stderr
    assert "animation.mp4" not in listing(tmp_path / "x")


def test_mfa_model_from_the_command_line(kmtalk, tmp_path):
    model = (
        "--aligner",
        "mfa",
        "--acoustic-model",
        FIXTURES / "kmtalk_arpa.zip",
        "--dictionary",
        FIXTURES / "corpus.dict",
    )
    done = kmtalk("align", SPEECH, "--text", SAID, "-o", "m.TextGrid", *model)
    assert done.returncode == 0, done.stderr
    assert '"AE1"' in (tmp_path / "m.TextGrid").read_text()


def test_uniform_keys_on_demand(kmtalk):
    done = kmtalk("animate", SPEECH, "--aligner", "uniform", "-o", "u.npz")
    assert done.returncode == 0
    assert done.stderr == ""


def test_a_wrong_text_is_one_warning_and_the_words_that_are_heard(kmtalk, tmp_path):
    done = kmtalk("animate", SPEECH, "--text", "The number you have dialed is not in service.", "-o", "w.npz")
    assert done.returncode == 0
    assert done.stderr.count("\n") == 1, done.stderr
    assert "is not heard" in done.stderr
    assert "taken as it is heard" in done.stderr


def test_silence_gives_a_still_face(kmtalk, tmp_path):
    soundfile.write(tmp_path / "quiet.wav", np.zeros(16000), 16000)
    done = kmtalk("animate", "quiet.wav", "-o", "q.npz")
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "q.npz") as z:
        assert z["weights"].shape[0] == 30
        assert np.ptp(z["weights"], axis=0).max() == 0


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def bad_files(folder):
    write(folder / "empty.wav", b"")
    write(folder / "not-audio.wav", "hello, I am text")
    write(folder / "not-audio.mp3", os.urandom(4000))
    soundfile.write(folder / "zero.wav", np.zeros(0), 16000)
    soundfile.write(folder / "nan.wav", np.array([0.1, np.nan, 0.2] * 5000, np.float32), 16000, subtype="FLOAT")
    write(folder / "no-faces.obj", OBJ)
    write(folder / "nan.obj", OBJ.replace("1 0 0", "nan 0 0") + "f 1 2 3\n")
    write(folder / "loose.obj", OBJ + "v 9 9 9\nf 1 2 3\n")
    write(folder / "other.obj", OBJ + "f 1 2 3\n")
    write(folder / "huge.obj", OBJ + "f 1 2 99999999999\n")
    write(folder / "point.obj", "v\t1 1 1\n" * 3 + "f 1 2 3\n")
    write(folder / "blank.txt", "  \n")
    write(folder / "truncated.pt", b"PK\x03\x04" + os.urandom(1000))
    write(folder / "base.pt", os.urandom(1000))
    head = (
        'File type = "ooTextFile"\nObject class = "TextGrid"\n\n0\n{0}\n<exists>\n1\n"IntervalTier"\n"phones"\n0\n{0}\n'
    )
    write(folder / "late.TextGrid", head.format(99) + '1\n90\n99\n"AA"\n')
    write(folder / "overlap.TextGrid", head.format(2) + '2\n0\n1.5\n"AA"\n1\n2\n"B"\n')


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["missing.wav"], "missing.wav"),
        (["empty.wav"], "empty.wav"),
        (["not-audio.wav"], "not-audio.wav"),
        (["not-audio.mp3"], "not-audio.mp3"),
        (["zero.wav"], "zero.wav"),
        (["nan.wav"], "nan.wav"),
        (["."], "folder"),
        ([SPEECH, "--text", ""], "text"),
        ([SPEECH, "--text", "♪ !!"], "script"),
        ([SPEECH, "--text", "blank.txt"], "empty"),
        ([SPEECH, "--text", "forgotten.txt"], "no such file"),
        ([SPEECH, "--textgrid", "none.TextGrid"], "none.TextGrid"),
        ([SPEECH, "--textgrid", "late.TextGrid"], "late.TextGrid"),
        ([SPEECH, "--textgrid", "overlap.TextGrid"], "overlap.TextGrid"),
        ([SPEECH, "--template", "none.obj"], "none.obj"),
        ([SPEECH, "--template", "no-faces.obj"], "no faces"),
        ([SPEECH, "--template", "nan.obj"], "nan.obj"),
        ([SPEECH, "--template", "loose.obj"], "loose.obj: no face found"),
        ([SPEECH, "--template", "other.obj"], "other.obj: no face found"),
        ([SPEECH, "--template", SPEECH], "speech.wav"),
        ([SPEECH, "-o", "/proc/nothing/here"], "cannot be written"),
        ([SPEECH, "-o", "out.avi"], "out.avi"),
        ([SPEECH, "--fps", "0"], "fps"),
        ([SPEECH, "--fps", "-25"], "fps"),
        ([SPEECH, "--whisper", "gigantic"], "gigantic"),
        ([SPEECH, "--whisper", "truncated.pt"], "truncated.pt"),
        ([SPEECH, "--whisper", "base.pt"], "checksum"),
        ([SPEECH, "--aligner", "psychic"], "psychic"),
        ([SPEECH, "--aligner", "mfa"], "acoustic"),
        ([SPEECH, "--motion", "magic"], "magic"),
        ([SPEECH, "--style", "angry"], "angry"),
        ([SPEECH, "--language", "xx"], "xx"),
        ([SPEECH, "--size", "11x11", "--text", SAID], "size"),
        ([SPEECH, "--size", "big"], "size big"),
        ([SPEECH, "--quality", "best"], "best"),
        ([SPEECH, "--seed", "-1"], "seed"),
        ([SPEECH, "--style", "²"], "²"),
        ([SPEECH, "--contact-sheet", "sheet.jpg"], "sheet.jpg"),
        ([SPEECH, "--acoustic-model", "x.zip"], "--dictionary"),
        ([SPEECH, "--template", "huge.obj"], "huge.obj"),
        ([SPEECH, "--template", "point.obj"], "same point"),
        (["a" * 300 + ".wav"], "cannot be opened"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(kmtalk, tmp_path, arguments, named):
    bad_files(tmp_path)
    before = listing(tmp_path)
    output = [] if "-o" in arguments else ["-o", "out"]
    if not {"-o", "--size", "--quality", "--contact-sheet"} & {*arguments}:  # without a video none waits for OpenGL
        output.append("--no-video")
    done = kmtalk("animate", *arguments, *output)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("kmtalk: ")
    assert named in done.stderr
    assert "Traceback" not in done.stderr
    assert listing(tmp_path) == before


def test_what_the_user_gave_is_never_replaced(kmtalk, tmp_path):
    film = tmp_path / "talk.mp4"
    film.write_bytes(SPEECH.read_bytes())
    for arguments in (
        ["animate", "talk.mp4", "-o", "talk.mp4"],
        ["animate", SPEECH, "--template", "talk.mp4", "-o", "./talk.mp4"],
        ["align", "talk.mp4", "-o", "talk.mp4"],
    ):
        assert kmtalk(*arguments, "--text", SAID).returncode == 2
    assert film.read_bytes() == SPEECH.read_bytes()
    assert listing(tmp_path) == ["talk.mp4"]


def test_align_writes_a_textgrid_or_nothing(kmtalk, tmp_path):
    (tmp_path / "folder.TextGrid").mkdir()
    for name in ("folder.TextGrid", "folder", "x.mp4"):
        done = kmtalk("align", SPEECH, "--text", SAID, "-o", name)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert listing(tmp_path) == ["folder.TextGrid"]


def test_help_and_version(kmtalk):
    assert "animate" in kmtalk("--help").stdout
    assert kmtalk("--version").stdout.startswith("kmtalk 0.")


def test_default_folder_is_named_after_the_speech(kmtalk, tmp_path, tone):
    tone.rename(tmp_path / "take.2.wav")
    assert kmtalk("animate", "take.2.wav", "--no-video", "--aligner", "uniform", "--text", "la").returncode == 0
    assert (tmp_path / "take.2-kmtalk" / "animation.npz").is_file()
    assert kmtalk("animate", "take.2.wav", "--no-video", "--text", "la", "-o", "take.v2").returncode == 0
    assert (tmp_path / "take.v2" / "animation.npz").is_file()
    assert kmtalk("animate", ".").stderr == "kmtalk: .: is a folder; pass one audio or video file\n"


def test_ended_from_outside_it_leaves_nothing(tmp_path):
    command = [Path(sys.executable).parent / "kmtalk", "animate", SPEECH, "--text", SAID, "-o", "out.mp4"]
    running = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    while not any(name.endswith(".mp4") for name in listing(tmp_path)):  # wait until the video is being written
        assert running.poll() is None
        time.sleep(0.05)
    time.sleep(1)
    running.terminate()
    _, said = running.communicate(timeout=60)
    assert (running.returncode, said) == (130, "kmtalk: stopped\n")
    assert listing(tmp_path) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["animate", "a.wav", "--template", "face-neutral.obj", "-o", "face.pc2"],
        ["animate", "a.wav", "--template", "face-neutral.obj", "-o", "face.mdd"],
        ["animate", "a.wav", "--template", "face.0003.obj", "-o", "face.####.obj"],
        ["animate", "a.wav", "--textgrid", "out/speech.TextGrid", "-o", "out"],
        ["animate", "a.wav", "--template", "out/animation.glb", "-o", "out", "--formats", "glb"],
        ["animate", "a.wav", "--template", "out/animation.glb", "--contact-sheet", "sheet.png", "-o", "./out/../out"],
        ["animate", "a.wav", "--emotion", "cues.json", "-o", "cues.json"],
        ["animate", "a.wav", "--network", "n.npz", "-o", "n.npz"],
        ["animate", "a.wav", "--template", "link.obj", "-o", "face.0003.####.obj", "--textgrid", "face.0003.1.obj"],
        ["animate", "a.wav", "-o", "own"],  # with a speech.wav that kmtalk did not write
        ["animate", "a.wav", "-o", "face.pc2"],  # with a face-neutral.obj of another program
        ["complete", "out/keys.json", "a.wav", "-o", "out"],
        ["export", "out/animation.npz", "-o", "out"],
        ["export", "out/animation.npz", "-o", "out", "--formats", "glb"],  # its keys.json was edited
        ["keys", "out/animation.npz", "-o", "out/keys.json"],
        ["keys", "out/animation.npz", "-o", "out/keys.json", "--template", "face-neutral.obj"],
        ["render", "m.npy", "--template", "face-neutral.obj", "--speech", "a.wav", "-o", "face.pc2"],
        ["fit", "face-fit.json.obj", "--landmarks", "face-fit.json", "-o", "face.kmrig"],
        ["compare", "out/animation.npz", "x.mp4", "-o", "x.mp4"],
    ],
)
def test_files_of_users_are_not_replaced(kmtalk, tmp_path, spoken, arguments):
    spoken.save(tmp_path / "out", formats="npz,glb")
    keys = tmp_path / "out" / "keys.json"
    keys.write_text(keys.read_text().replace('"pinned": false', '"pinned": true', 1))
    (tmp_path / "own").mkdir()
    for name in ("face-neutral.obj", "face.0003.obj", "face.0003.1.obj", "face-fit.json.obj"):
        (tmp_path / name).write_text(FACE.read_text())
    (tmp_path / "link.obj").symlink_to("face.0003.obj")
    for name in ("a.wav", "n.npz", "own/speech.wav", "m.npy", "face-fit.json", "x.mp4"):
        (tmp_path / name).write_bytes(SPEECH.read_bytes())
    (tmp_path / "cues.json").write_text('[{"time": 0, "name": "happy", "amount": 0.5}]')
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    done = kmtalk(*arguments)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "replaced" in done.stderr or "is an input" in done.stderr
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_what_kmtalk_wrote_is_replaced(spoken, tmp_path):
    for _ in range(2):
        spoken.save(tmp_path / "out", formats="csv")
        spoken.save(tmp_path / "face.pc2")
    (tmp_path / "out" / "keys.json").write_text("{}")
    with pytest.raises(InputError, match="keys.json: was edited"):
        spoken.save(tmp_path / "out", formats="csv")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["animate", "--colour"], "no such option: --colour"),
        (["animate"], "missing argument"),
        (["animate", "a.wav", "--seed", "many"], "--seed"),
        (["sing"], "no such command 'sing'"),
        (["animate", "a.wav", "-o", ""], "-o: is empty"),
        (["animate", "a.wav", "-o", "x" * 300], "the name is too long"),
        (["animate", "a.wav", "-o", "x" * 250 + ".pc2"], "the name is too long"),
        (["animate", "x\x1b[31m\n.wav"], "x\\x1b[31m\\n.wav: no such file"),
        (["animate", b"\xff\xfe.wav"], "\\xff\\xfe.wav: no such file"),
    ],
)
def test_faults_of_the_command_line_are_one_line(tmp_path, arguments, said):
    (tmp_path / "a.wav").write_bytes(SPEECH.read_bytes())
    command = [Path(sys.executable).parent / "kmtalk", *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith("kmtalk: ")
    assert said in done.stderr
    assert "\x1b" not in done.stderr
    assert listing(tmp_path) == ["a.wav"]


def test_any_console_will_do(tmp_path):
    """ASCII, closed, or full."""
    (tmp_path / "Grüße.wav").write_bytes(SPEECH.read_bytes())
    command = f"{Path(sys.executable).parent / 'kmtalk'} animate Grüße.wav --aligner uniform --text la --no-video"
    for redirection, code in (("", 0), (">&- 2>&- <&-", 0), ("> /dev/full", 2), ("2> /dev/full", 0)):
        env = os.environ | {"PYTHONIOENCODING": "ascii"}
        line = f"{command} -o Grüße.npz {redirection}"
        done = subprocess.run(line, shell=True, cwd=tmp_path, capture_output=True, text=True, env=env, check=False)
        assert done.returncode == code, (redirection, done.stderr)
        assert "Traceback" not in done.stderr
        if not redirection:
            assert done.stdout == "Gr\\xfc\\xdfe.npz\n"
        (tmp_path / "Grüße.npz").unlink()
    assert listing(tmp_path) == ["Grüße.wav"]


WINDOWED = "import sys; sys.stdout = sys.stderr = None; from kmtalk.cli import app; app()"


@pytest.mark.parametrize(("speech", "code"), [(SPEECH, 0), ("gone.wav", 2)])
def test_a_windowed_program_has_no_standard_streams(tmp_path, speech, code):
    """Case 17: `sys.stdout` and `sys.stderr` are None, as with pythonw."""
    command = [sys.executable, "-c", WINDOWED, "animate", speech, "--aligner", "uniform", "--text", "la", "-o", "a.npz"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")
    assert listing(tmp_path) == (["a.npz"] if code == 0 else [])


def test_missing_opengl_is_said_before_the_work(tmp_path):
    env = os.environ | {"KMTALK_GL": "nothing"}
    (tmp_path / "a.wav").write_text("no sound: it is not read before")
    command = [Path(sys.executable).parent / "kmtalk", "animate", "a.wav", "-o", "out"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=env, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "no OpenGL" in done.stderr
    assert "--no-video" in done.stderr
