"""What is said and when: texts that do not match the sound, subtitles and scripts, languages, several speakers."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from conftest import SAID, SPEECH

from kmtalk import InputError, KMTalk
from kmtalk.speech.alignment import Word, read_textgrid
from kmtalk.speech.audio import SAMPLE_RATE, audio_from_samples, load_audio
from kmtalk.speech.pocketsphinx_aligner import ForeignAligner
from kmtalk.speech.reconcile import reconcile, split_sentences
from kmtalk.speech.spoken_text import parse_spoken_text
from kmtalk.speech.text import tokenize_words

OTHER = "The number you have dialed is not in service. Please check the number and try again."
PROMPTS = Path("/usr/share/asterisk/sounds")
PAUSE = 0.6


@pytest.fixture(scope="module")
def said():
    return []


@pytest.fixture(scope="module")
def listener(said):
    """One KMTalk for the module, whose warnings are in `said`."""
    return KMTalk(warn=said.append)


@pytest.fixture(scope="module")
def samples():
    return load_audio(SPEECH).samples


@pytest.fixture(scope="module")
def alone(listener):
    return listener.align(SPEECH, text=SAID)[1]


def sound(*parts):
    return audio_from_samples(np.concatenate(parts), SAMPLE_RATE)


def silence(seconds, level_db=None):
    noise = np.random.default_rng(0).standard_normal(round(seconds * SAMPLE_RATE))
    return (noise * (0 if level_db is None else 10 ** (level_db / 20))).astype(np.float32)


def starts(words, begin, end):
    return np.array([w.start for w in words if begin <= w.start < end])


@pytest.mark.slow
def test_a_wrong_sentence_costs_only_itself(listener, said, samples, alone):
    """Case 1: a minute of five takes, the text of the third replaced."""
    said.clear()
    part = np.concatenate([samples, silence(PAUSE)])
    length = len(part) / SAMPLE_RATE
    audio = sound(*[part] * 5)
    _, found = listener.align(audio, text=" ".join([SAID, SAID, OTHER, SAID, SAID]))
    for k in (0, 1, 3, 4):
        ours = starts(found.words, k * length - 0.05, (k + 1) * length - 0.05) - k * length
        theirs = np.array([w.start for w in alone.words])
        assert len(ours) == len(theirs)
        assert np.median(np.abs(ours - theirs)) <= 0.02
        assert np.abs(ours - theirs).max() <= 0.1
    assert not [w for w in found.words if w.text in ("dialed", "service")]
    assert len(said) == 1  # where the text is not what is heard
    assert "is not what is heard" in said[0]


def test_words_that_whisper_invents_over_room_tone_are_dropped(listener, samples):
    """Case 3: whatever Whisper makes of 20 s of room tone, nothing is aligned there and the phones before it stay."""
    audio = sound(samples, silence(20, -60))
    _, found = listener.align(audio)
    speech_end = len(samples) / SAMPLE_RATE
    assert found.status == "aligned"
    assert len(found.words) >= 24
    assert not [p for p in found.phones if p.start > speech_end]
    assert not [span for span in found.unaligned if span[0] > speech_end]


def test_an_invented_word_in_the_text_is_dropped(listener, samples):
    """Case 3 with the invented word given."""
    audio = sound(samples, silence(10, -60))
    _, found = listener.align(audio, text=f"{SAID} Thanks.")
    assert len(found.words) == 26
    assert found.words[-1].end <= len(samples) / SAMPLE_RATE


def test_text_of_the_first_half_only(listener, said, samples, alone):
    """Case 4: the words that are heard after it are taken, and one line says so."""
    said.clear()
    half = " ".join(SAID.split()[:10])
    _, found = listener.align(SPEECH, text=half)
    last = alone.words[-1].end
    assert found.words[-1].end > last - 0.3
    assert len(found.words) >= 24
    assert len(said) == 1
    assert "not in the text" in said[0]


def test_without_whisper_speech_beyond_the_text_follows_the_sound():
    """Case 4 where no Whisper is at hand: the speech without phones is `unaligned`, and it is said."""
    lines: list[str] = []
    talk = KMTalk(warn=lines.append, whisper="none")  # a given text loads none
    half = " ".join(SAID.split()[:10])
    animation = talk.animate(SPEECH, text=half, motion="rules")
    assert animation.alignment.unaligned
    assert len(lines) == 1
    assert "follows loudness" in lines[0]
    opening = animation.weights[:, animation.shape_names.index("jawOpen")]
    start, end = (round(t * animation.fps) for t in animation.alignment.unaligned[-1])
    assert opening[start:end].std() > 0.01


@pytest.mark.parametrize(
    ("text", "spoken", "left_out"),
    [
        ("[laughs] Hello there (pause). Please come in.", "[laughs] Hello there . Please come in.", ("(pause)",)),
        ("ANNA: Hello.\nBEN (angry): Go away!", "Hello.\nGo away!", ("ANNA:", "BEN:")),
        ("Anna: Hello.\nBen: Hi.\nAnna: Bye.", "Hello.\nHi.\nBye.", ("Anna:", "Ben:")),
        ("Note: this is spoken.", "Note: this is spoken.", ()),
        ("It is (as I said) late.", "It is (as I said) late.", ()),
        ("*sighs* All right. (Door slams.)", "All right.", ("(Door slams.)", "*sighs*")),
        ("We meet at 10:30 in room B.", "We meet at 10:30 in room B.", ()),
    ],
)
def test_cues_and_speakers_are_not_spoken(text, spoken, left_out):
    """Case 12."""
    found = parse_spoken_text(text)
    assert found.text.split() == spoken.split()
    assert set(found.left_out) == set(left_out)


SRT = """1
00:00:00,100 --> 00:00:04,000
<i>ANNA:</i> Thank you for calling
super awesome company.

2
00:00:04,000 --> 00:00:09,000
(pause) Waldo's premier provider
"""


def test_subtitles_are_read_with_their_times():
    found = parse_spoken_text(SRT)
    assert [(s.text, s.start, s.end) for s in found.segments] == [
        ("Thank you for calling super awesome company.", 0.1, 4.0),
        ("Waldo's premier provider", 4.0, 9.0),
    ]
    vtt = parse_spoken_text("WEBVTT\n\n00:01.000 --> 00:02.500 align:start\n<v Anna>Hello &amp; <b>welcome</b>\n")
    assert [(s.text, s.start, s.end) for s in vtt.segments] == [("Hello & welcome", 1.0, 2.5)]
    with pytest.raises(InputError, match="no spoken words"):
        parse_spoken_text("1\n00:00:00,000 --> 00:00:01,000\n(music)\n")


def test_subtitles_of_the_sound_align_as_its_text_does(listener, alone, tmp_path):
    words = SAID.split()
    blocks = [
        f"{n + 1}\n00:00:{a:02d},000 --> 00:00:{b:02d},900\n{' '.join(words[i:j])}\n"
        for n, (a, b, i, j) in enumerate([(0, 4, 0, 9), (5, 9, 9, len(words))])
    ]
    found = listener.align(SPEECH, text="\n".join(blocks))[1]
    assert [w.text for w in found.words] == [w.text for w in alone.words]
    assert np.median([abs(a.start - b.start) for a, b in zip(found.words, alone.words, strict=True)]) <= 0.01


def test_a_long_script_is_searched_for_what_is_said(listener, said, alone):
    """A script of an hour for ten seconds of sound: only what is said of it is taken."""
    said.clear()
    script = " ".join([OTHER] * 300 + [SAID] + [OTHER] * 300)
    found = listener.align(SPEECH, text=script)[1]
    assert [w.text for w in found.words] == [w.text for w in alone.words]
    assert any("is not heard" in line for line in said)


def test_reconciliation_keeps_the_text_where_whisper_mishears():
    heard = [
        Word(w, 0.3 * i, 0.3 * i + 0.25, 0.9)
        for i, w in enumerate(["think", "you", "for", "calling", "super", "awesome", "now"])
    ]
    (segment,) = reconcile("Thank you for calling Super Awesome!", heard, "en").segments
    assert segment.text == "Thank you for calling Super Awesome!"
    assert 0 <= segment.start <= 0.31
    assert split_sentences("One. Two!  Three?\nFour") == ["One.", "Two!", "Three?", "Four"]
    assert max(len(s.split()) for s in split_sentences("word " * 200)) <= 25


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("$5M or 5€", "five million dollars or five euros"),
        ("www.example.com", "double u double u double u dot example dot com"),
        ("Mail anna@example.org.", "mail anna at example dot org"),
        ("at 10:30 p.m. or 9am", "at ten thirty PM or nine AM"),
        ("the 1990s and 80s", "the nineteen nineties and eighties"),
        ("-5 °C, pages 3–5", "minus five degrees celsius pages three to five"),
        ("£2.5bn at 90 km/h", "two point five billion pounds at ninety kilometers per hour"),
    ],
)
def test_money_addresses_and_measures(text, words):
    """Case 13."""
    assert tokenize_words(text) == words.split()


def test_money_in_other_languages():
    assert tokenize_words("Das kostet 5 € oder 10%", "de") == [
        "das",
        "kostet",
        "fünf",
        "euro",
        "oder",
        "zehn",
        "prozent",
    ]
    assert tokenize_words("3,50 €", "fr")[-1] == "euros"


def test_texts_that_nobody_can_speak_are_refused_quickly(listener):
    for text in ("x" * 2_000_000, "1" * 2_000_000):
        with pytest.raises(InputError, match="longer than"):
            listener.align(SPEECH, text=text)
    assert listener._reader._aligners.for_language("en")[0].words("a" * 100_000, "en") == []
    assert len(tokenize_words("7" * 100_000)) <= 200


TIERS = """File type = "ooTextFile"
Object class = "TextGrid"

0
3
<exists>
{n}
"""


def textgrid(path, **tiers):
    text = TIERS.format(n=len(tiers))
    for name, entries in tiers.items():
        text += f'"IntervalTier"\n"{name.replace("_", " ")}"\n0\n3\n{len(entries)}\n'
        text += "".join(f'{s}\n{e}\n"{label}"\n' for s, e, label in entries)
    path.write_text(text)
    return path


def test_textgrids_of_several_speakers(tmp_path):
    """Case 5: MFA's tiers of two speakers are merged, or one is chosen."""
    path = textgrid(
        tmp_path / "two.TextGrid",
        anna___words=[(0.1, 0.5, "hi")],
        anna___phones=[(0.1, 0.3, "HH"), (0.3, 0.5, "AY1")],
        ben___words=[(1.0, 1.4, "bye")],
        ben___phones=[(1.0, 1.2, "B"), (1.2, 1.4, "AY1")],
    )
    lines: list[str] = []
    both = read_textgrid(path, 3.0, warn=lines.append)
    assert [p.label for p in both.phones] == ["HH", "AY1", "B", "AY1"]
    assert [w.text for w in both.words] == ["hi", "bye"]
    assert len(lines) == 1 and "2 tiers are merged" in lines[0]
    ben = read_textgrid(path, 3.0, "ben", lines.append)
    assert [p.label for p in ben.phones] == ["B", "AY1"]
    assert [w.text for w in ben.words] == ["bye"]
    assert len(lines) == 1
    with pytest.raises(InputError, match="carl"):
        read_textgrid(path, 3.0, "carl")


def test_two_annotations_of_one_speaker_are_not_merged(tmp_path):
    path = textgrid(
        tmp_path / "two.TextGrid",
        phones=[(0.1, 0.3, "HH"), (0.3, 0.5, "AY1")],
        phones_corrected=[(0.1, 0.28, "HH"), (0.28, 0.5, "AY1")],
    )
    lines: list[str] = []
    assert len(read_textgrid(path, 3.0, warn=lines.append).phones) == 2
    assert "--tier" in lines[0]


def test_the_score_of_every_word_is_kept(listener, alone, tmp_path):
    """Words carry the aligner's confidence through the TextGrid, animation.npz and keys.json."""
    assert all(w.score is not None and 0 <= w.score <= 1 for w in alone.words)
    animation = listener.animate(SPEECH, "light", textgrid=alone, motion="rules")
    animation.save(tmp_path / "out", formats="npz", video=False)
    again = listener.load(tmp_path / "out/animation.npz").alignment
    given = read_textgrid(tmp_path / "out/speech.TextGrid")
    for other, tolerance in ((again, 1e-6), (given, 0.006)):
        assert [w.text for w in other.words] == [w.text for w in alone.words]
        assert np.allclose([w.score for w in other.words], [w.score for w in alone.words], atol=tolerance)


def prompts(language, folder, count):
    """(file, text) of recorded prompts of Debian's asterisk packages; skips where they are not installed."""
    texts = Path(f"/usr/share/doc/asterisk-core-sounds-{language}/core-sounds-{language}.txt.gz")
    if not texts.is_file() or not (PROMPTS / folder).is_dir():
        pytest.skip(f"needs asterisk-core-sounds-{language} and -{language}-wav of Debian")
    found = []
    for line in gzip.decompress(texts.read_bytes()).decode("utf-8", "replace").splitlines():
        name, colon, text = line.partition(":")
        path = PROMPTS / folder / f"{name.strip()}.wav"
        if (
            colon
            and not line.startswith(";")
            and 25 < len(text) < 160
            and not set("([*#<") & set(text)
            and path.is_file()
        ):
            found.append((path, text.strip()))
    return found[:: max(1, len(found) // count)][:count]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("language", "folder"),
    [("fr", "fr_CA_f_June"), ("es", "es_MX_f_Allison"), ("it", "it_IT_m_Carlo"), ("ru", "ru_RU_f_IvrvoiceRU")],
)
def test_other_languages_are_aligned_by_pip_alone(language, folder):
    """Real prompts: nine in ten texts align, few wrong ones do."""
    aligner = ForeignAligner(language)
    given = prompts(language, folder, 12)
    right = wrong = 0
    for i, (path, text) in enumerate(given):
        audio = load_audio(path)
        for k, words in enumerate((text, given[(i + 5) % len(given)][1])):
            talk = KMTalk(warn=lambda line: None, whisper="none")  # no second opinion
            found = talk.align(audio, text=words, language=language)[1]
            if found.status == "aligned":
                assert found.aligner == aligner.name
                right, wrong = (right + 1, wrong) if k == 0 else (right, wrong + 1)
    assert right >= 0.9 * len(given)
    assert wrong <= 0.25 * len(given)


def test_phones_of_other_languages_are_ipa():
    """German words as a person says them, joined."""
    folder = Path("/usr/share/ktuberling/sounds/de")
    if not folder.is_dir():
        pytest.skip("needs ktuberling-data of Debian")
    spoken = {"ear": "Ohr", "egypt_well": "Brunnen", "moon_fallingstar": "Sternschnuppe", "tv_car": "Auto"}
    spoken |= {"egypt_bridge": "Brücke", "egypt_girl": "Mädchen"}
    parts = [np.concatenate([load_audio(folder / f"{name}.ogg").samples, silence(0.25)]) for name in spoken]
    audio = sound(*parts)
    found = KMTalk(warn=lambda line: None, whisper="none").align(audio, text=" ".join(spoken.values()), language="de")[
        1
    ]
    assert [w.text for w in found.words] == [w.lower() for w in spoken.values()]
    assert {"ʃ", "ç", "b", "m"} <= {p.label for p in found.phones}
    ends = np.cumsum([len(p) / SAMPLE_RATE for p in parts])
    for word, begin, end in zip(found.words, [0.0, *ends[:-1]], ends, strict=True):
        assert begin - 0.1 <= word.start < word.end <= end


def test_a_doubtful_language_of_a_short_clip_falls_back_on_english(samples):
    """Case 15: languages are compared by how well they align."""
    lines: list[str] = []
    talk = KMTalk(warn=lines.append)
    recognizer_clip = sound(samples[: int(2.2 * SAMPLE_RATE)])
    _, found = talk.align(recognizer_clip)
    assert found.status == "aligned"
    assert found.aligner == "pocketsphinx"


def test_wide_beams_align_what_the_usual_beam_loses(samples):
    """Case 2: clips on which PocketSphinx does not reach its final state are tried again with wide beams."""
    from kmtalk.speech.pocketsphinx_aligner import PocketSphinxAligner

    aligner = PocketSphinxAligner()
    words = aligner.words(SAID, "en")
    lost = 0
    for seed in range(6):
        noise = np.random.default_rng(seed).standard_normal(len(samples)).astype(np.float32)
        audio = sound(samples + noise * 10 ** (-40 / 20), silence(0.5), noise[:SAMPLE_RATE] * 0.01)
        wide = aligner.align(audio, words, wide_beam=True)
        assert wide.score > 0.6
        found = KMTalk(warn=lambda line: None, whisper="none").align(audio, text=SAID)[1]
        lost += found.status != "aligned"
    assert lost == 0


def test_the_command_takes_subtitles_and_writes_scores(kmtalk, tmp_path):
    """`kmtalk align` takes an .srt file, and writes the third tier."""
    (tmp_path / "said.srt").write_text(f"1\n00:00:00,000 --> 00:00:10,000\n{SAID}\n")
    done = kmtalk("align", SPEECH, "--text", "said.srt", "-o", "a.TextGrid")
    assert done.returncode == 0, done.stderr
    assert '"scores"' in (tmp_path / "a.TextGrid").read_text()
