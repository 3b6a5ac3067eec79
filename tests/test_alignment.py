from __future__ import annotations

import difflib
import json
import zipfile

import numpy as np
import pytest
from conftest import FIXTURES, SAID, SHARED, SPEECH, needs_shared, phones

from kmtalk import InputError, KMTalk, keys
from kmtalk.articulation.speaker import SimulatedSpeaker
from kmtalk.articulation.styles import parse_speaking_style
from kmtalk.speech.alignment import read_textgrid, write_textgrid
from kmtalk.speech.alignment_pipeline import AlignmentError, Segment, Transcript
from kmtalk.speech.audio import SAMPLE_RATE, audio_from_samples, load_audio
from kmtalk.speech.mfa_aligner import MfaAligner
from kmtalk.speech.mfa_command import published_model_name
from kmtalk.speech.mfa_model import read_dictionary
from kmtalk.speech.pocketsphinx_aligner import PocketSphinxAligner
from kmtalk.speech.transcript_alignment import align_with_fallback

OTHER = "The number you have dialed is not in service. Please check the number and try again."


@pytest.fixture(scope="module")
def audio():
    return load_audio(SPEECH)


@pytest.fixture(scope="module")
def sphinx():
    return PocketSphinxAligner()


@pytest.fixture(scope="module")
def mfa():
    return MfaAligner(str(FIXTURES / "kmtalk_arpa.zip"), str(FIXTURES / "corpus.dict"))


def aligned(aligner, audio, text):
    return aligner.align(audio, aligner.words(text, "en"))


def same_phones(ours, theirs):
    """Phones of two alignments that have the same label, without stress, in the same order."""
    left, right = ([p.label.rstrip("012") for p in x] for x in (ours, theirs))
    blocks = difflib.SequenceMatcher(None, left, right, autojunk=False).get_matching_blocks()
    return [(ours[b.a + k], theirs[b.b + k]) for b in blocks for k in range(b.size)]


def test_pocketsphinx_finds_every_word_in_order(sphinx, audio):
    found = aligned(sphinx, audio, SAID)
    assert [w.text for w in found.words][:6] == ["thank", "you", "for", "calling", "super", "awesome"]
    assert len(found.words) == 26
    assert found.score > 0.8
    starts = [p.start for p in found.phones]
    assert starts == sorted(starts)
    assert found.phones[-1].end <= audio.duration


def test_silence_before_speech_moves_every_phone_by_as_much(sphinx, audio):
    late = audio_from_samples(np.concatenate([np.zeros(2 * SAMPLE_RATE, np.float32), audio.samples]), SAMPLE_RATE)
    early, later = (aligned(sphinx, a, SAID).phones for a in (audio, late))
    assert [p.label for p in early] == [p.label for p in later]
    shift = np.array([b.start - a.start for a, b in zip(early, later, strict=True)])
    assert np.median(np.abs(shift - 2.0)) <= 0.010


@pytest.mark.parametrize("which", ["sphinx", "mfa"])
def test_a_wrong_text_is_refused(which, audio, request):
    with pytest.raises(AlignmentError, match="text"):
        aligned(request.getfixturevalue(which), audio, OTHER)


def test_words_out_of_the_dictionary_are_pronounced(sphinx, mfa, audio):
    odd = SAID.replace("Waldo's", "Wawldoze")
    for aligner in (sphinx, mfa):
        words = [w.text for w in aligned(aligner, audio, odd).words]
        assert "wawldoze" in words


def test_mfa_model_read_directly_agrees_with_pocketsphinx(sphinx, mfa, audio):
    a, b = (aligned(x, audio, SAID) for x in (sphinx, mfa))
    pairs = same_phones(b.phones, a.phones)
    assert len(pairs) > 0.9 * len(a.phones)  # some pronunciation variants differ
    assert np.median([abs(p.start - q.start) for p, q in pairs]) <= 0.0101


@needs_shared
def test_speaker_adapted_mfa_model_is_read_as_well(sphinx, audio):
    sat = MfaAligner(str(SHARED / "data/mfa/kmtalk_arpa_sat.zip"), str(SHARED / "data/mfa/corpus.dict"))
    found, reference = aligned(sat, audio, SAID), aligned(sphinx, audio, SAID)
    pairs = same_phones(found.phones, reference.phones)
    assert len(pairs) > 0.9 * len(reference.phones)
    assert np.median([abs(p.start - q.start) for p, q in pairs]) <= 0.0151


def test_mfa_models_with_features_that_are_not_read_are_refused_by_name(tmp_path):
    for change, word in (
        ({"use_pitch": True}, "pitch"),
        ({"type": "plp"}, "plp"),
        ({"sample_frequency": 8000}, "8000"),
    ):
        path = tmp_path / "other.zip"
        with zipfile.ZipFile(FIXTURES / "kmtalk_arpa.zip") as old, zipfile.ZipFile(path, "w") as new:
            for name in old.namelist():
                data = old.read(name)
                if name.endswith("meta.json"):
                    meta = json.loads(data)
                    meta["features"] = dict(meta["features"]) | change
                    data = json.dumps(meta).encode()
                new.writestr(name, data)
        with pytest.raises(InputError, match=word):
            MfaAligner(str(path), str(FIXTURES / "corpus.dict"))


def test_models_in_mfas_own_folder_are_found_by_name(tmp_path, monkeypatch, audio):
    for kind, source, name in (("acoustic", "kmtalk_arpa.zip", "mine.zip"), ("dictionary", "corpus.dict", "mine.dict")):
        folder = tmp_path / "pretrained_models" / kind
        folder.mkdir(parents=True)
        (folder / name).write_bytes((FIXTURES / source).read_bytes())
    monkeypatch.setenv("MFA_ROOT_DIR", str(tmp_path))
    assert len(aligned(MfaAligner("mine", "mine"), audio, SAID).words) == 26
    with pytest.raises(InputError, match="yours"):
        MfaAligner("yours", "mine")


def test_damaged_models_and_dictionaries_are_refused(tmp_path):
    data = (FIXTURES / "kmtalk_arpa.zip").read_bytes()
    (tmp_path / "half.zip").write_bytes(data[: len(data) // 2])
    (tmp_path / "empty.dict").write_text("")
    with pytest.raises(InputError, match="half.zip"):
        MfaAligner(str(tmp_path / "half.zip"), str(FIXTURES / "corpus.dict"))
    for part, content in (("meta.json", b'{"features": '), ("phones.txt", b"AA one"), ("final.mdl", b"\0B")):
        path = tmp_path / "part.zip"
        with zipfile.ZipFile(FIXTURES / "kmtalk_arpa.zip") as old, zipfile.ZipFile(path, "w") as new:
            for name in old.namelist():
                new.writestr(name, content if name.endswith(part) else old.read(name))
            if not any(name.endswith(part) for name in old.namelist()):
                new.writestr(part, content)
        with pytest.raises(InputError, match="part.zip: damaged"):
            MfaAligner(str(path), str(FIXTURES / "corpus.dict"))
    with pytest.raises(InputError, match="empty.dict"):
        MfaAligner(str(FIXTURES / "kmtalk_arpa.zip"), str(tmp_path / "empty.dict"))


def test_dictionaries_with_probabilities_and_spaces(tmp_path):
    path = tmp_path / "d.dict"
    path.write_text("a\t0.99\t0.2\t1.0\t0.9\tAH0\na 1.0 EY1\nlove\tL AH1 V\n")
    assert read_dictionary(path) == {"a": [["AH0"], ["EY1"]], "love": [["L", "AH1", "V"]]}


def test_textgrid_comes_back_as_it_went(tmp_path):
    alignment = phones(("HH", 0.1, 0.2), ("AY1", 0.2, 0.45), ("B", 0.6, 0.7))
    path = tmp_path / "x.TextGrid"
    write_textgrid(alignment, path, 1.0)
    back = read_textgrid(path, 1.0)
    assert back.phones == alignment.phones
    assert back.status == "given"
    assert 'text = ""' in path.read_text()  # pauses are written, as Praat requires


def grid(tmp_path, text: str):
    path = tmp_path / "bad.TextGrid"
    path.write_text(text)
    return path


HEAD = """File type = "ooTextFile"
Object class = "TextGrid"

0
{end}
<exists>
1
"IntervalTier"
"{name}"
0
{end}
{n}
"""


@pytest.mark.parametrize(
    ("name", "end", "spans", "message"),
    [
        ("speaker - phones", 9, [(0, 4, "a"), (4, 9, "b")], "ends at 4"),
        ("phones", 1, [(0, 0.6, "a"), (0.4, 1, "b")], "bad.TextGrid"),
        ("words", 1, [(0, 1, "a")], "no tier"),
        ("phones", 1, [(0, 1, "sil")], "no phones"),
    ],
)
def test_bad_textgrids_are_named(tmp_path, name, end, spans, message):
    body = "".join(f'{s}\n{e}\n"{label}"\n' for s, e, label in spans)
    with pytest.raises(InputError, match=message):
        read_textgrid(grid(tmp_path, HEAD.format(end=end, name=name, n=len(spans)) + body), 1.0)


def test_not_a_textgrid(tmp_path):
    with pytest.raises(InputError, match="not a usable TextGrid"):
        read_textgrid(grid(tmp_path, "hello"), 1.0)


def test_when_no_aligner_serves_keys_are_uniform_and_it_is_said_once(audio):
    said: list[str] = []
    animation = KMTalk(warn=said.append, aligner="pocketsphinx").animate(audio, text=OTHER, language="de")
    assert animation.alignment.status == "uniform"
    assert len(said) == 1
    assert "uniform" in said[0]
    assert np.diff(animation.keys.frames)[:-1].tolist() == [3] * (len(animation.keys) - 2)
    assert np.ptp(animation.weights[:, animation.shape_names.index("jawOpen")]) > 0.1  # the mouth still moves


def test_another_language_is_not_forced_into_english(audio):
    """The text is German and the sound English: neither the words nor what Whisper hears as German fit the sound."""
    said: list[str] = []
    animation = KMTalk(warn=said.append).animate(audio, text="Vielen Dank für Ihren Anruf", language="de")
    assert animation.alignment.status == "uniform"
    assert len(said) == 1


def test_mfa_command_is_missed_clearly(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(InputError, match="conda"):
        KMTalk(aligner="mfa-cli").animate(SPEECH, text=SAID)


@pytest.mark.parametrize(
    ("language", "name"), [("en", "english_us_arpa"), ("de", "german_mfa"), ("zh", "mandarin_mfa")]
)
def test_the_mfa_command_gets_the_model_of_the_language(language, name):
    assert published_model_name(language) == name


def test_an_aligner_forgets_the_clip_before(sphinx, audio):
    first = aligned(sphinx, audio, SAID)
    assert aligned(sphinx, audio, SAID) == first
    quiet = audio_from_samples(0.05 * audio.samples[::-1], SAMPLE_RATE)
    with pytest.raises(AlignmentError):
        aligned(sphinx, quiet, OTHER)
    assert aligned(sphinx, audio, SAID) == first


def test_letters_that_no_model_says_do_not_spoil_the_rest(sphinx, audio):
    found = aligned(sphinx, audio, f"{SAID} США")
    assert len(found.words) == 26


def test_a_part_without_phones_is_said_and_follows_loudness(sphinx, audio, talk):
    """One third of a minute has the wrong text: there the keys are uniform and the mouth still moves."""
    long = audio_from_samples(np.tile(audio.samples, 6), SAMPLE_RATE)
    segments = tuple(
        Segment(OTHER if k in (2, 3) else SAID, k * audio.duration, (k + 1) * audio.duration - 0.1) for k in range(6)
    )
    said = []
    found = align_with_fallback(
        [sphinx], long, Transcript(" ".join(s.text for s in segments), "en", segments), said.append
    )
    assert len(said) == 1
    ((start, end),) = found.unaligned
    assert f"{start:.1f}–{end:.1f}" in said[0]
    assert not [p for p in found.phones if start < p.start < end]
    assert found.score < 1 - (end - start) / long.duration + 1e-6
    motion = SimulatedSpeaker(talk.rig).animate(found, long, 30.0, parse_speaking_style(None))
    inside = slice(round((start + 1) * 30), round((end - 1) * 30))
    assert motion.weights[inside, talk.rig.index["jawOpen"]].std() > 0.02
    frames = keys.locate_key_frames(found, len(motion), 30.0).frames
    assert np.diff(frames[(frames > inside.start) & (frames < inside.stop)]).max() <= keys.UNIFORM_KEY_STRIDE


@pytest.mark.slow
def test_long_sound_aligns_as_its_parts_do(mfa, sphinx, audio):
    """One minute: restricting the search to a window does not change the alignment."""
    minute = audio_from_samples(np.tile(audio.samples, 6), SAMPLE_RATE)
    for aligner in (mfa, sphinx):
        once, often = aligned(aligner, audio, SAID), aligned(aligner, minute, f"{SAID} " * 6)
        assert len(often.words) == 6 * 26
        third = [w for w in often.words if 2 * audio.duration <= w.start < 3 * audio.duration - 0.1]
        shift = [b.start - a.start - 2 * audio.duration for a, b in zip(once.words, third, strict=True)]
        assert np.median(np.abs(shift)) <= 0.02
