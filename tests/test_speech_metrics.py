"""Metrics of speech and face made together: values known in closed form, and real sound made worse on purpose."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import soxr
import torch
from conftest import SPEECH
from scipy.linalg import sqrtm
from scipy.ndimage import gaussian_filter1d

from kmtalk import InputError, metrics
from kmtalk.metrics import SoundAndMotion
from kmtalk.metrics.pitch import pitch_contour
from kmtalk.speech.audio import load_audio
from kmtalk.synthesis.mel import mel_filterbank
from kmtalk.synthesis.voices import VOICES, install_command, synthesize

RATE = 22_050
MEL_RATE = RATE / 256


def log_mel(samples):
    """HiFi-GAN's mel spectrogram (N, 80) of samples at 16 kHz."""
    wave = np.pad(soxr.resample(samples, 16_000, RATE), 384, mode="reflect")
    spectrum = torch.stft(
        torch.from_numpy(wave), 1024, 256, window=torch.hann_window(1024), center=False, return_complex=True
    )
    return np.log(np.maximum(mel_filterbank(RATE, 1024, 80, 0, 8000) @ spectrum.abs().numpy(), 1e-5)).T


@pytest.fixture(scope="module")
def recorded():
    return load_audio(SPEECH).samples


@pytest.fixture(scope="module")
def joe():
    """A sentence of the Piper voice."""
    if install_command(VOICES[0]):
        pytest.skip("the Piper voice is not installed")
    return synthesize(VOICES[0], "The quick brown fox jumps over the lazy dog, and then it sleeps.")[0].samples


@pytest.fixture(params=["recorded", "joe"])
def speech(request):
    return request.getfixturevalue(request.param)


def with_noise(samples, snr_db):
    noise = np.random.default_rng(0).normal(size=len(samples))
    return (samples + noise * np.sqrt(np.square(samples).mean()) * 10 ** (-snr_db / 20)).astype(np.float32)


def test_word_error_rate_counts_words_of_all_sentences():
    # one of four substituted, one deleted; one inserted into two: 3 errors in 6 words
    made = metrics.word_error_rate(["the cat sits", "very good morning"], ["The dog sits down.", "Good morning!"])
    assert made.value == pytest.approx(50.0) and made.unit == "%"
    assert made.pooling == "1 substituted, 1 deleted and 1 inserted of 6 words in 2 sentences"
    assert metrics.word_error_rate([""], ["two words"]).value == 100.0
    # numbers, contractions and spelling are written in several ways
    same = metrics.word_error_rate(["It's 23 colours, Mister Jones."], ["it is twenty three colors mr. jones"])
    assert same.value == 0.0
    assert metrics.word_error_rate(["Well... no."], ["well, no"]).value == 0.0
    assert metrics.word_error_rate(["guten tag"], ["Guten Tag!"], language="de").value == 0.0


@pytest.mark.parametrize(("heard", "said"), [(["a"], []), ([], []), (["a"], ["..."])])
def test_word_error_rate_refuses_what_has_no_words(heard, said):
    with pytest.raises(InputError, match="word error rate"):
        metrics.word_error_rate(heard, said)


def test_stoi_is_one_for_the_same_speech_and_falls_with_noise(speech):
    scores = [metrics.stoi([with_noise(speech, snr)], [speech]).value for snr in (30, 15, 0, -15)]
    assert metrics.stoi([speech], [speech]).value == pytest.approx(1.0)
    assert scores == sorted(scores, reverse=True) and scores[0] > 0.95 and scores[-1] < 0.65


def test_stoi_refuses_what_it_cannot_measure(recorded):
    for p, g in ((recorded[1:], recorded), (recorded[:3000], recorded[:3000]), (recorded, np.zeros_like(recorded))):
        with pytest.raises(InputError, match="STOI: clip 0"):
            metrics.stoi([p], [g])


def test_voice_similarity_is_the_mean_cosine():
    made = metrics.voice_similarity([np.array([1.0, 0.0]), np.array([1.0, 0.0])], [np.array([3.0, 4.0]), np.ones(2)])
    assert made.value == pytest.approx((0.6 + 0.5**0.5) / 2)
    with pytest.raises(InputError, match="is zero"):
        metrics.voice_similarity([np.zeros(2)], [np.ones(2)])


def ripple(order, size, frames=5, bands=80):
    """A flat log mel with a cosine over its bands added, whose mel cepstrum has one coefficient."""
    return np.zeros((frames, bands)) + size * np.cos(np.pi * order * (np.arange(bands) + 0.5) / bands)


def test_mel_cepstral_distortion_of_known_cepstra():
    flat = np.zeros((5, 80))
    assert metrics.mel_cepstrum(ripple(4, 0.3), 13) == pytest.approx(np.tile(0.3 * np.eye(13)[3], (5, 1)))
    for order in (1, 7, 13):
        made = metrics.mel_cepstral_distortion([ripple(order, 0.3)], [flat])
        assert made.value == pytest.approx(10 / np.log(10) * 2**0.5 * 0.3) and made.unit == "dB"
        # the root mean square of the difference of the spectra in dB
        assert made.value == pytest.approx(20 / np.log(10) * np.sqrt(np.square(ripple(order, 0.3)).mean()))
    # two coefficients add in squares; the level, finer detail and silence do not count
    both = metrics.mel_cepstral_distortion([ripple(2, 0.3) + ripple(5, 0.4)], [flat])
    assert both.value == pytest.approx(10 / np.log(10) * 2**0.5 * 0.5)
    assert metrics.mel_cepstral_distortion([flat + 1.0 + ripple(14, 1.0)], [flat]).value == pytest.approx(0, abs=1e-9)
    silence = np.full((3, 80), -11.5)
    padded = [np.concatenate([m, silence + k]) for k, m in enumerate([flat, ripple(2, 0.3)])]
    assert metrics.mel_cepstral_distortion([padded[1]], [padded[0]]).pooling.startswith("mean of 5 frames")


def test_log_mel_error_is_in_nepers(speech):
    mel = log_mel(speech)
    assert metrics.log_mel_error([mel + 0.25], [mel]).value == pytest.approx(0.25, rel=1e-5)
    assert metrics.log_mel_error([mel], [mel]).value == 0.0
    with pytest.raises(InputError, match="same shape"):
        metrics.log_mel_error([mel[1:]], [mel])
    with pytest.raises(InputError, match="not finite"):
        metrics.mel_cepstral_distortion([mel * np.nan], [mel])


def test_global_variance_tells_a_smeared_mel_from_a_sharp_one(speech):
    """Of the recorded speech: .93, .83 and .70 of the sharpness are left after smoothing over 1, 2 and 4 frames."""

    def sharpness(mel):
        return metrics.global_variance_ratio([mel], [log_mel(speech)]).value

    mel = log_mel(speech)
    over_time = [sharpness(gaussian_filter1d(mel, width, axis=0)) for width in (1, 2, 4)]
    over_bands = [sharpness(gaussian_filter1d(mel, width, axis=1)) for width in (0.5, 1, 2)]
    assert sharpness(mel) == pytest.approx(1.0) and sharpness(mel - 1.0) == pytest.approx(1.0)
    for scores in (over_time, over_bands):
        assert scores == sorted(scores, reverse=True) and scores[0] < 0.97 and scores[-1] < 0.75
    # shrunk towards the mean, as averages are: every standard deviation is .8 of what it was, but for the frames that
    # count as sound
    assert sharpness(mel.mean(0) + 0.8 * (mel - mel.mean(0))) == pytest.approx(0.8, abs=0.01)


def glide(f0):
    """A voice-like sound at 16 kHz whose fundamental is `f0` (S,) in Hz."""
    phase = 2 * np.pi * np.cumsum(f0) / 16_000
    return (0.2 * sum(np.sin(k * phase) / k for k in range(1, 20))).astype(np.float32)


def test_pitch_in_hz_follows_a_known_glide():
    for low, high in ((80, 120), (150, 300), (250, 380)):
        f0 = np.linspace(low, high, 32_000)
        hz, voiced = pitch_contour(glide(f0))
        truth = np.interp(np.arange(len(hz)) * 0.016, np.arange(32_000) / 16_000, f0)
        cents = 1200 * np.log2(hz / truth)[3:-3]
        assert voiced[3:-3].all() and np.abs(cents).max() < 20.0 and np.abs(np.median(cents)) < 8.0


def test_pitch_accuracy_of_known_glides():
    f0 = 150 + 30 * np.sin(2 * np.pi * np.arange(32_000) / 16_000)
    agreement, gross, error, r, spread = metrics.pitch_accuracy([glide(f0 * 2 ** (1 / 12))], [glide(f0)])
    assert agreement.value == pytest.approx(1.0, abs=0.02) and gross.value == 0.0 and r.value > 0.995
    assert error.value == pytest.approx(100.0, abs=8.0) and error.unit == "cents"  # one semitone
    assert spread.value == pytest.approx(1.0, abs=0.03)
    flatter = metrics.pitch_accuracy([glide(150 * (f0 / 150) ** 0.5)], [glide(f0)])[4]
    assert flatter.value == pytest.approx(0.5, abs=0.03)
    monotone = metrics.pitch_accuracy([glide(np.full(32_000, 150.0))], [glide(f0)])
    assert monotone[4].value < 0.1
    octave_up = metrics.pitch_accuracy([glide(f0 * 2)], [glide(f0)])
    assert octave_up[1].value > 0.98 and np.isnan(octave_up[2].value)


def test_pitch_of_speech_against_itself_and_noise(speech):
    agreement, gross, error, r, spread = metrics.pitch_accuracy([speech], [speech])
    assert (agreement.value, gross.value, error.value) == (1.0, 0.0, 0.0)
    assert (r.value, spread.value) == pytest.approx((1.0, 1.0))
    assert metrics.pitch_accuracy([with_noise(speech, 0)], [speech])[0].value < 0.97
    noise = np.random.default_rng(1).normal(size=len(speech)).astype(np.float32)
    unvoiced = metrics.pitch_accuracy([noise], [speech])
    assert unvoiced[0].value < 0.7 and np.isnan(unvoiced[2].value)


def mouths(apertures, widths=None):
    out = np.zeros((len(apertures), 5))
    out[:, 0], out[:, 1] = apertures, np.zeros(len(apertures)) if widths is None else widths
    return out


def test_f1_of_known_closures_and_smiles():
    truth = mouths([0.5, 0.5, 0.5, 9, 9, 9], [5, 5, 0, 0, 0, 0])
    # two of three closures found and one invented: F1 = 4 / (4 + 1 + 1)
    pred = mouths([0.2, 0.9, 1.1, 0.9, 9, 9], [5, 0, 0, 0, 0, 0])
    made = metrics.closure_f1([pred[:4], pred[4:]], [truth[:4], truth[4:]])
    assert made.value == pytest.approx(4 / 6)
    assert str(made) == "F1 lip closures 0.666667 | of 6 frames, 3 of them true, under 1 mm"
    assert metrics.smile_f1([pred], [truth]).value == pytest.approx(2 / 3)  # one of two, none invented
    assert metrics.closure_f1([truth], [truth]).value == 1.0
    assert metrics.closure_f1([pred], [truth], under_mm=1.2).value == pytest.approx(6 / 7)
    assert np.isnan(metrics.smile_f1([mouths([9, 9])], [mouths([9, 9])]).value)


def whitened(frames, dimensions, seed):
    """Frames whose mean is exactly 0 and whose covariance is exactly 1."""
    values = np.random.default_rng(seed).normal(size=(frames, dimensions))
    values -= values.mean(0)
    return np.linalg.qr(values)[0] * np.sqrt(frames - 1)


def test_frechet_distance_of_gaussians_known_in_closed_form():
    # for covariances that commute: the squared distance of the means plus that of the standard deviations
    one, two = whitened(500, 3, 0), whitened(800, 3, 1)
    made = metrics.frechet_distance([one[:100] * [1, 2, 3], one[100:] * [1, 2, 3]], [two * [3, 2, 1] + [1, 0, -2]])
    assert made.value == pytest.approx(5 + 4 + 0 + 4)
    assert made.pooling == "500 against 800 frames, 3 dimensions"
    assert metrics.frechet_distance([one], [one]).value == pytest.approx(0.0, abs=1e-9)
    # those that do not: against the definition
    rng = np.random.default_rng(2)
    mixed = [values @ rng.normal(size=(3, 3)) for values in (one, two)]
    covariances = [np.cov(values.T) for values in mixed]
    trace = np.trace(covariances[0] + covariances[1] - 2 * sqrtm(covariances[0] @ covariances[1]).real)
    assert metrics.frechet_distance([mixed[0]], [mixed[1]]).value == pytest.approx(trace)
    # dimensions that never move, and fewer frames than dimensions, where the root of the product does not exist
    still = np.concatenate([one, np.zeros((500, 60))], axis=1)
    assert metrics.frechet_distance([still], [still + 1.0]).value == pytest.approx(63.0)
    assert metrics.frechet_distance([still[:20]], [still[:20]]).value == pytest.approx(0.0, abs=1e-9)
    with pytest.raises(InputError, match="same k"):
        metrics.frechet_distance([one], [still])


def test_energy_correlation_of_known_energies():
    n = np.arange(200)
    envelope = 1 + np.sin(2 * np.pi * n / 50)
    mel = np.log(1e-5) + np.sqrt(envelope)[:, None] * np.ones((1, 80))  # energy 80 times the envelope
    motion = np.sqrt(envelope)[:, None] * np.array([[0.6, 0.8]])
    assert metrics.energy_correlation([SoundAndMotion(motion, 25.0, mel, 25.0)]).value == pytest.approx(1.0)
    opposite = np.sqrt(2 - envelope)[:, None]
    both = metrics.energy_correlation(
        [SoundAndMotion(motion, 25.0, mel, 25.0), SoundAndMotion(opposite, 25.0, mel, 25.0)]
    )
    assert both.value == pytest.approx(0.0, abs=1e-9) and both.pooling == "mean of 2 clips"
    # each on a clock of its own; a face at rest has no energy
    slow = motion[1::4]
    assert metrics.energy_correlation([SoundAndMotion(slow, 6.25, mel, 25.0)]).value > 0.99
    assert metrics.energy_correlation([SoundAndMotion(np.zeros((200, 2)), 25.0, mel, 25.0)]).value == 0.0


def test_energy_of_a_face_goes_with_its_own_sound(spoken, recorded):
    """r is .21 in time and .00 on average out of it: what correlates is the sound of these very frames."""
    weights, mel = spoken.weights.astype(float), log_mel(recorded)

    def r(shift):
        moved = np.roll(weights, shift, axis=0)
        return metrics.energy_correlation([SoundAndMotion(moved, spoken.fps, mel, MEL_RATE)]).value

    out_of_time = [r(shift) for shift in range(20, len(weights) - 20, 5)]
    assert r(0) > 0.1 and r(0) > np.mean(out_of_time) + 1.5 * np.std(out_of_time)


@pytest.mark.parametrize("metric", [metrics.stoi, metrics.pitch_accuracy, metrics.log_mel_error, metrics.closure_f1,
                                    metrics.mel_cepstral_distortion, metrics.global_variance_ratio])  # fmt: skip
def test_metrics_refuse_clips_without_a_partner(metric):
    with pytest.raises(InputError, match="0 predicted clips, but 0 true clips"):
        metric([], [])


@pytest.mark.parametrize(("package", "call"), [("jiwer", "word_error_rate(['a'], ['a'])"), ("pystoi", "stoi([], [])")])
def test_without_a_package_the_extra_is_told(package, call):
    code = (
        f"import sys; sys.modules['{package}'] = None\n"
        "from kmtalk import metrics\n"
        f"try: metrics.{call}\n"
        "except ValueError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert f"needs the package {package}; pip install 'kmtalk[evaluate]'\n" in done.stdout
