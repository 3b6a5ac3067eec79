"""KMTalk: the one place where the stages meet."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np

from kmtalk import keys
from kmtalk.animation import Animation
from kmtalk.articulation.speaker import STYLES, Speaker, Style, find_style
from kmtalk.errors import InputError
from kmtalk.face.motion import Motion, frame_count
from kmtalk.face.rig import Rig, load_rig, rig_for
from kmtalk.face.template import Template, load_template
from kmtalk.motion.model import Network, load_network, style_shares
from kmtalk.motion.performer import Intensity, Performer, check_rig, find_intensity, intensified, parse_style
from kmtalk.progress import Progress
from kmtalk.speech.align import ALIGNERS, Aligner, Transcript, align_or_uniform, uniform
from kmtalk.speech.alignment import Alignment, read_textgrid
from kmtalk.speech.audio import Audio, load_audio
from kmtalk.speech.encode import load_encoder
from kmtalk.speech.mfa import MfaAligner, mfa_folder
from kmtalk.speech.mfa_cli import MfaCommandAligner, mfa_language
from kmtalk.speech.sphinx import PocketSphinxAligner
from kmtalk.speech.text import check_text
from kmtalk.speech.transcribe import Transcriber
from kmtalk.weights import asset

MOTIONS = ("network", "rules")
NETWORK = "network.safetensors"
DEFAULT_STYLE = "natural"


def _to_stderr(message: str) -> None:
    print(f"kmtalk: {message}", file=sys.stderr)


class KMTalk:
    """Speech to talking face. Models are loaded at first use, once, and serve every later call.

    ``whisper`` is a Whisper model's name or path; ``aligner`` one of "auto", "pocketsphinx", "mfa",
    "mfa-cli", "uniform"; ``acoustic`` and ``dictionary`` are an MFA model, by path or name; ``network``
    is a file of trained weights (None: those shipped); ``warn`` hears one-line warnings; ``progress``
    hears of the stages.
    """

    def __init__(
        self,
        whisper: str = "base",
        aligner: str = "auto",
        acoustic: str | None = None,
        dictionary: str | None = None,
        network: str | Path | None = None,
        warn: Callable[[str], None] = _to_stderr,
        progress: Progress | None = None,
    ) -> None:
        if aligner not in ALIGNERS:
            raise InputError(f"{aligner}: no such aligner; one of {', '.join(ALIGNERS)}")
        if aligner == "mfa" and not (acoustic and dictionary):
            raise InputError("the mfa aligner needs an acoustic model zip and a dictionary (--acoustic, --dictionary)")
        if bool(acoustic) != bool(dictionary) and aligner != "mfa-cli":
            raise InputError("an MFA acoustic model and its dictionary go together (--acoustic, --dictionary)")
        self._whisper, self._aligner = whisper, aligner
        self._acoustic, self._dictionary = acoustic, dictionary
        self._given_network = network
        self._warn, self._progress = warn, progress or Progress()
        self._made: dict[str, Aligner] = {}

    @cached_property
    def rig(self) -> Rig:
        """The default head."""
        return load_rig(asset("head.safetensors"))

    @cached_property
    def _transcriber(self) -> Transcriber:
        return Transcriber(self._whisper)

    @cached_property
    def network(self) -> Network:
        """The trained network's weights."""
        return load_network(Path(self._given_network) if self._given_network else asset(NETWORK))

    @cached_property
    def performer(self) -> Performer:
        """The trained network with its speech encoder; the encoder shares the transcriber's Whisper where
        it is the same model."""
        wanted = self.network.shape.encoder
        shared = "_transcriber" in self.__dict__ and wanted.rpartition("-")[0] == f"whisper-{self._whisper}"
        return Performer(self.network, load_encoder(wanted, self._transcriber.model if shared else None))

    def animate(
        self,
        speech: str | Path | Audio,
        template: str | Path | Template | None = None,
        *,
        text: str | None = None,
        textgrid: str | Path | None = None,
        fps: float = 30.0,
        language: str | None = None,
        motion: str = "network",
        style: str | int | Style | None = None,
        intensity: str | float | Intensity | None = None,
        expression: bool = True,
        seed: int = 0,
    ) -> Animation:
        """Animate one clip.

        ``speech`` is a sound or video file; ``template`` a mesh of the default head's topology (None:
        the default head); ``text`` the words spoken, which skips transcription; ``textgrid`` a file
        with a tier of phones, which skips alignment as well; ``language`` an ISO 639-1 code; ``motion``
        how the mouth is made: "network" or "rules"; ``style`` a name, shares of names
        ("clear:0.5,relaxed:0.5") or "mean", for rules a name or a number (articulation.speaker);
        ``intensity`` a number or "jaw=1.2,lips=0.9"; ``expression`` False leaves out the layer of brows,
        lids and head, which comes from rules; ``seed`` what is random. Raises InputError for anything
        that cannot be used.
        """
        if not 0 < fps < 10_000:
            raise InputError(f"fps {fps}: must be more than 0")
        if seed < 0:
            raise InputError(f"seed {seed}: must be 0 or more")
        if motion not in MOTIONS:
            raise InputError(f"{motion}: no such motion; one of {', '.join(MOTIONS)}")
        amount = find_intensity(intensity)
        wanted = None
        if motion == "network":
            if isinstance(style, Style):
                raise InputError("a Style is a rule's; give the network a style by name, or motion='rules'")
            known = DEFAULT_STYLE if DEFAULT_STYLE in self.network.shape.styles else None
            wanted = known if style is None else parse_style(style)
            style_shares(self.network.shape, wanted)
            check_rig(self.network, self.rig)
        manner = self._manner(motion, style, wanted)
        rig = self._rig_for(template)
        audio, alignment = self.align(speech, text=text, textgrid=textgrid, language=language)
        features = None
        if motion == "network" and not audio.silent:
            with self._progress.stage("encode"):
                features = self.performer.hear(audio)
        with self._progress.stage("motion"):
            speaker, rate = Speaker(rig), float(fps)
            if motion == "network":
                weights = self.performer.mouth(rig, alignment, audio, rate, wanted, features)
            else:
                weights = speaker.mouth(alignment, audio, rate, manner, seed)
            weights = intensified(weights, rig, amount)
            if expression:
                weights += speaker.expression(alignment, audio, rate, manner, seed)
            moved = Motion(rig, np.clip(weights, 0, 1).astype(np.float32), rate)
            located = keys.locate(alignment, frame_count(audio.duration, fps), float(fps))
        return Animation(moved, alignment, located, audio)

    def _manner(self, motion: str, style: str | int | Style | None, wanted: object) -> Style:
        """What the rules need to know of a style: all of it, or the expression's share of the network's."""
        if motion == "rules":
            return find_style(style)
        return STYLES.get(wanted, STYLES["neutral"]) if isinstance(wanted, str) else STYLES["neutral"]

    def align(
        self,
        speech: str | Path | Audio,
        *,
        text: str | None = None,
        textgrid: str | Path | None = None,
        language: str | None = None,
    ) -> tuple[Audio, Alignment]:
        """The sound and its phones; arguments as for ``animate``."""
        if text is not None:
            check_text(text, "the text")
        with self._progress.stage("read"):
            audio = speech if isinstance(speech, Audio) else load_audio(speech)
            if textgrid is not None:
                return audio, read_textgrid(textgrid, audio.duration)
        if audio.silent:
            return audio, Alignment(status="silent")
        if self._aligner == "uniform":
            return audio, uniform("asked for")
        if text is not None:
            transcript = Transcript(text, language or "en")
        else:
            with self._progress.stage("transcribe"):
                transcript = self._transcriber.transcribe(audio, language)
        with self._progress.stage("align"):
            if not transcript.text:
                self._warn("no words heard: key frames are uniform (stride 3) and the mouth follows the sound alone")
                return audio, uniform("no words heard")
            return audio, align_or_uniform(self._aligners(transcript.language), audio, transcript, self._warn)

    def _rig_for(self, template: str | Path | Template | None) -> Rig:
        if template is None:
            return self.rig
        if isinstance(template, Template):
            return rig_for(template, self.rig, template.name)
        loaded = load_template(template)
        base = self.rig.template
        same = np.array_equal(loaded.faces, base.faces) and np.allclose(loaded.vertices, base.vertices, 0, 1e-6)
        if same:  # assets/face.obj is the default head
            return self.rig
        return rig_for(loaded, self.rig, str(template))

    def _aligners(self, language: str) -> list[Aligner]:
        """Who may try, in order."""
        if self._aligner == "auto":
            names = ["mfa"] if self._acoustic and self._dictionary else []
            names += ["pocketsphinx"] if language == "en" else []
            found = _published_model(language)
            if found and language != "en":
                names.append(f"mfa:{found}")
            return [self._aligner_named(n) for n in names]
        return [self._aligner_named(self._aligner)]

    def _aligner_named(self, name: str) -> Aligner:
        if name not in self._made:
            kind, _, model = name.partition(":")
            if kind == "pocketsphinx":
                self._made[name] = PocketSphinxAligner()
            elif kind == "mfa":
                acoustic, dictionary = (model, model) if model else (self._acoustic or "", self._dictionary or "")
                self._made[name] = MfaAligner(acoustic, dictionary)
            else:
                self._made[name] = MfaCommandAligner(self._acoustic, self._dictionary)
        return self._made[name]


def _published_model(language: str) -> str | None:
    """A model in MFA's own folder whose name begins with the language's, with its dictionary."""
    for path in sorted((mfa_folder() / "acoustic").glob(f"{mfa_language(language)}_*.zip")):
        if (mfa_folder() / "dictionary" / f"{path.stem}.dict").is_file():
            return path.stem
    return None
