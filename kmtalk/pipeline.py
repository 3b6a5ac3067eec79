"""KMTalk: the one place where the stages meet."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from kmtalk.animation import Animation, load_animation
from kmtalk.articulation.speaker import SimulatedSpeaker
from kmtalk.articulation.styles import SPEAKING_STYLES, SpeakingStyle, parse_speaking_style
from kmtalk.assets import asset_path
from kmtalk.errors import InputError
from kmtalk.exchange.keys_json import Provenance, apply_key_edits, content_digest, read_keys
from kmtalk.exchange.vertex_motion import read_vertex_motion
from kmtalk.face.files.load import load_template
from kmtalk.face.fit import FittedRig
from kmtalk.face.landmark_file import load_landmarks
from kmtalk.face.motion import Motion, frame_count, frame_times
from kmtalk.face.rig import Rig, load_rig
from kmtalk.face.rig_file import SUFFIX, fit_cache_key, load_cached_rig, load_rig_file, store_cached_rig
from kmtalk.face.rigging import rig_template
from kmtalk.face.source_head import SourceHead, load_source_head
from kmtalk.face.template import Template
from kmtalk.face.weight_solver import solve_weights
from kmtalk.keys import KeyMotions, locate_key_frames
from kmtalk.motion.inference import load_network_encoder
from kmtalk.motion.key_editing import complete_motion
from kmtalk.motion.model import KMTalkNetwork, load_network, style_mixture
from kmtalk.motion.postprocessing import seal_retargeted_bilabials
from kmtalk.motion.predictor import Intensity, MotionPredictor, apply_intensity, check_rig, parse_intensity, parse_style
from kmtalk.progress import Progress
from kmtalk.speech.aligner_registry import AlignerRegistry
from kmtalk.speech.alignment import Alignment, read_textgrid
from kmtalk.speech.alignment_pipeline import Transcript, align_with_fallback, empty_alignment
from kmtalk.speech.audio import Audio, load_audio
from kmtalk.speech.text import check_spoken_text
from kmtalk.speech.transcribe import Transcriber

MOTIONS = ("network", "rules")
NETWORK_FILE = "network.safetensors"
COMPLETION_FILE = "completion.safetensors"
DEFAULT_STYLE = "natural"


def _to_stderr(message: str) -> None:
    print(f"kmtalk: {message}", file=sys.stderr)


class KMTalk:
    """Speech to talking face. Models are loaded at first use, once, and serve every later call.

    ``whisper`` is a Whisper model's name or path; ``aligner`` one of "auto", "pocketsphinx", "mfa",
    "mfa-cli", "uniform"; ``acoustic_model`` and ``dictionary`` are an MFA model, by path or name; ``network``
    is a file of trained weights (None: those shipped); ``warn`` hears one-line warnings; ``progress``
    hears of the stages.
    """

    def __init__(
        self,
        whisper: str = "base",
        aligner: str = "auto",
        acoustic_model: str | None = None,
        dictionary: str | None = None,
        network: str | Path | None = None,
        warn: Callable[[str], None] = _to_stderr,
        progress: Progress | None = None,
    ) -> None:
        self._whisper = whisper
        self._aligners = AlignerRegistry(aligner, acoustic_model, dictionary)
        self._given_network = network
        self._warn, self._progress = warn, progress or Progress()

    @cached_property
    def rig(self) -> Rig:
        """The default head."""
        return load_rig(asset_path("head.safetensors"))

    @cached_property
    def source_head(self) -> SourceHead:
        """The default head with what fitting needs to know of it."""
        return load_source_head(self.rig)

    @cached_property
    def _transcriber(self) -> Transcriber:
        return Transcriber(self._whisper)

    @cached_property
    def network(self) -> KMTalkNetwork:
        """The trained network's weights."""
        return load_network(Path(self._given_network) if self._given_network else asset_path(NETWORK_FILE))

    @cached_property
    def _weights(self) -> str:
        """Which weights were given; "" for those shipped."""
        if self._given_network is None:
            return ""
        return hashlib.sha256(Path(self._given_network).read_bytes()).hexdigest()[:16]

    @cached_property
    def predictor(self) -> MotionPredictor:
        """The trained network with its speech encoder; the encoder shares the transcriber's Whisper where
        it is the same model."""
        wanted = self.network.config.encoder
        shared = "_transcriber" in self.__dict__ and wanted.rpartition("-")[0] == f"whisper-{self._whisper}"
        return MotionPredictor(
            self.network, load_network_encoder(self.network, self._transcriber.model if shared else None)
        )

    @cached_property
    def completion_predictor(self) -> MotionPredictor:
        """The network that completes edited keys: the shipped one for that, whose CMC follows them (Shape.lines), or
        the given network itself."""
        if self._given_network is not None:
            return self.predictor
        return MotionPredictor(load_network(asset_path(COMPLETION_FILE)), self.predictor.encoder)

    def animate(
        self,
        speech: str | Path | Audio,
        template: str | Path | Template | FittedRig | None = None,
        *,
        landmarks: str | Path | Mapping[str, np.ndarray] | None = None,
        text: str | None = None,
        textgrid: str | Path | Alignment | None = None,
        fps: float = 30.0,
        language: str | None = None,
        motion: str = "network",
        style: str | int | SpeakingStyle | None = None,
        intensity: str | float | Intensity | None = None,
        expression: bool = True,
        seed: int = 0,
    ) -> Animation:
        """Animate one clip.

        ``speech`` is a sound or video file; ``template`` any face mesh, a fitted .kmrig, or what ``fit`` returned
        (None: the default head); ``landmarks`` as for ``fit``; ``text`` the words spoken, which skips
        transcription; ``textgrid`` a file with a tier of phones, or an Alignment, which skips alignment as well;
        ``language`` an ISO 639-1 code; ``motion`` how the mouth is made: "network" or "rules"; ``style`` a name,
        shares of names ("clear:0.5,relaxed:0.5") or "mean", for rules a name or a number (articulation.speaker);
        ``intensity`` a number or "jaw=1.2,lips=0.9"; ``expression`` False leaves out the layer of brows,
        lids and head, which comes from rules; ``seed`` what is random. Raises InputError for anything
        that cannot be used.
        """
        amount, wanted, manner = self.check(fps, motion, style, intensity, seed)
        rig = self._rig_for(template, landmarks)
        audio, alignment = self.align(speech, text=text, textgrid=textgrid, language=language)
        features = None
        if motion == "network" and not audio.is_silent:
            with self._progress.stage("encode"):
                features = self.predictor.encode_audio(audio)
        with self._progress.stage("motion"):
            # made on the default head, then performed by whatever rig there is
            speaker, rate = SimulatedSpeaker(self.rig), float(fps)
            if motion == "network":
                weights = self.predictor.predict(self.rig, alignment, audio, rate, wanted, features)
            else:
                weights = speaker.mouth_weights(alignment, audio, rate, manner, seed)
            weights = apply_intensity(weights, self.rig, amount)
            if expression:
                weights += speaker.expression_weights(alignment, audio, rate, manner, seed)
            performed = rig.retarget(np.clip(weights, 0, 1), self.rig.names)
            frames = frame_count(audio.duration, rate)
            if rig is not self.rig and alignment.phones:  # what keeps our lips sealed may part theirs
                performed = seal_retargeted_bilabials(performed, rig, self.rig, alignment, frame_times(frames, rate))
            moved = Motion(rig, performed, rate)
            found = KeyMotions(locate_key_frames(alignment, frames, rate), moved)
        named = style if isinstance(style, str | int | None) else None
        how = Provenance(
            motion="network" if motion == "network" else "rules",
            style=named,
            jaw=amount.jaw,
            lips=amount.lips,
            expression=expression,
            seed=seed,
            network=self._weights if motion == "network" else "",
        )
        return Animation(moved, alignment, found, audio, how, self.complete)

    def load(self, path: str | Path) -> Animation:
        """Read an animation.npz, to be looked at, edited and completed; raises InputError where it is none."""
        return replace(load_animation(path), completer=self.complete)

    def from_vertices(
        self,
        motion: str | Path,
        template: str | Path | Template,
        speech: str | Path | Audio,
        fps: float | None = None,
        landmarks: str | Path | Mapping[str, np.ndarray] | None = None,
    ) -> Animation:
        """Vertices by frame, of ``kmtalk evaluate -o`` or of another system, on their own mesh with their sound.

        ``motion`` is a .npy (N, V, 3) or (N, 3V), positions or offsets, at ``fps`` (None: by its length). What comes
        out has one shape a frame, can be saved and looked at as any other, and has no keys to edit. Raises InputError
        for motion of another mesh.
        """
        audio = speech if isinstance(speech, Audio) else load_audio(speech)
        base = self._rig_for(template, landmarks)
        held = read_vertex_motion(Path(motion), base.template, audio.duration, fps)
        names = tuple(f"frame_{n:05d}" for n in range(len(held.offsets)))
        rig = Rig(base.template, names, held.offsets, base.upright_vertices)
        moved, alignment = Motion(rig, np.eye(len(names), dtype=np.float32), held.fps), Alignment()
        keys = KeyMotions(locate_key_frames(alignment, len(names), held.fps), moved)
        return Animation(moved, alignment, keys, audio, Provenance(motion="vertices"), self.complete)

    def complete(self, animation: Animation) -> Animation:
        """The animation after its keys were edited (``motion.editing``); one whose keys nobody touched stays as it
        is. Raises InputError for vertices by frame."""
        motion, made = animation.motion, animation.provenance
        if made.motion == "vertices":
            raise InputError("vertices by frame have no keys to edit (--motion-from makes keys of them)")
        with self._progress.stage("encode"):
            features = self.completion_predictor.encode_audio(animation.audio)
        with self._progress.stage("complete"):
            shape = self.completion_predictor.network.config
            style = made.style if made.motion == "network" else None
            known = DEFAULT_STYLE if DEFAULT_STYLE in shape.styles else None
            wanted = known if style is None else parse_style(style)
            weights = complete_motion(
                motion,
                animation.alignment,
                animation.keys,
                self.completion_predictor.network,
                features,
                style_mixture(shape, wanted),
                animation.audio.duration,
            )
            moved = replace(motion, weights=weights)
        return replace(animation, motion=moved, keys=animation.keys.rebased_on(moved))

    def load_key_edits(
        self,
        keys: str | Path,
        speech: str | Path | Audio,
        template: str | Path | Template | FittedRig | None = None,
        landmarks: str | Path | Mapping[str, np.ndarray] | None = None,
    ) -> Animation:
        """The motion that a keys.json was made of, made again, with its edits, for ``complete``.

        ``speech`` is the same sound, or an animation.npz. Raises InputError where the file is wrong or of another clip.
        """
        path = Path(keys)
        file = read_keys(path)
        if not isinstance(speech, Audio) and Path(speech).suffix.lower() == ".npz":
            if template is not None:
                raise InputError(f"{speech}: has its own face; leave --template out")
            base = self.load(speech)
        else:
            made = file.made
            if made.motion == "vertices":
                raise InputError(f"{path}: is of vertices by frame, which have no keys to edit")
            if made.motion == "network" and made.network != self._weights:
                raise InputError(f"{path}: was made with other weights; give the same --network, or none")
            base = self.animate(
                speech,
                template,
                landmarks=landmarks,
                textgrid=file.alignment,
                fps=file.fps,
                motion=made.motion,
                style=made.style,
                intensity=Intensity(made.jaw, made.lips),
                expression=made.expression,
                seed=made.seed,
            )
        if (len(base.motion), base.fps) != (file.frames, file.fps):
            raise InputError(
                f"{path}: is of a clip of {file.frames} frames at {file.fps:g} fps, not of {base.audio.source} "
                f"({len(base.motion)} at {base.fps:g})"
            )
        for kind, known, own, remedy in (
            ("sound", file.sound, content_digest(base.audio.original), "give the sound that it was made of"),
            (
                "mesh",
                file.mesh,
                content_digest(base.template.vertices),
                f"give its mesh ({file.template}) with --template",
            ),
        ):
            if known and known != own:
                raise InputError(f"{path}: is of another {kind}; {remedy}")
        return replace(base, keys=apply_key_edits(file, path, base.motion))

    def import_keys(self, animation: Animation, path: str | Path, fps: float | None = None) -> float:
        """Put another system's motion at the animation's keys, all pinned: what FaceFormer, CodeTalker or SelfTalk left
        as .npy on the same mesh (paper, Table 2). Returns the root mean square in mm of what the rig cannot show of it.

        ``path`` holds (N, V, 3) or (N, 3V), positions or offsets, at ``fps`` (None: by its length). Raises InputError
        for another mesh's.
        """
        rig = animation.motion.rig
        moved = read_vertex_motion(Path(path), rig.template, animation.audio.duration, fps)
        frames = animation.keys.frames
        offsets = moved.interpolate(animation.keys.times)
        with self._progress.stage("solve"):
            weights, missed = solve_weights(rig, offsets)
        for frame, label, pose in zip(frames.tolist(), animation.keys.labels, weights, strict=True):
            animation.keys.set_pose(frame, label, pose, pinned=True)
        return missed

    def check(
        self,
        fps: float,
        motion: str,
        style: str | int | SpeakingStyle | None,
        intensity: str | float | Intensity | None,
        seed: int,
    ) -> tuple[Intensity, str | dict[str, float] | None, SpeakingStyle]:
        """What ``animate`` is told, looked at before long work begins: the intensity, the network's style, and that of
        the rules. Raises InputError for anything that cannot be used."""
        if not 0 < fps < 10_000:
            raise InputError(f"fps {fps}: must be more than 0")
        if seed < 0:
            raise InputError(f"seed {seed}: must be 0 or more")
        if motion not in MOTIONS:
            raise InputError(f"{motion}: no such motion; one of {', '.join(MOTIONS)}")
        amount = parse_intensity(intensity)
        wanted = None
        if motion == "network":
            if isinstance(style, SpeakingStyle):
                raise InputError("a Style is a rule's; give the network a style by name, or motion='rules'")
            known = DEFAULT_STYLE if DEFAULT_STYLE in self.network.config.styles else None
            wanted = known if style is None else parse_style(style)
            style_mixture(self.network.config, wanted)
            check_rig(self.network, self.rig)
        return amount, wanted, self._manner(motion, style, wanted)

    def _manner(self, motion: str, style: str | int | SpeakingStyle | None, wanted: object) -> SpeakingStyle:
        """What the rules need to know of a style: all of it, or the expression's share of the network's."""
        if motion == "rules":
            return parse_speaking_style(style)
        return (
            SPEAKING_STYLES.get(wanted, SPEAKING_STYLES["neutral"])
            if isinstance(wanted, str)
            else SPEAKING_STYLES["neutral"]
        )

    def align(
        self,
        speech: str | Path | Audio,
        *,
        text: str | None = None,
        textgrid: str | Path | Alignment | None = None,
        language: str | None = None,
    ) -> tuple[Audio, Alignment]:
        """The sound and its phones; arguments as for ``animate``."""
        if text is not None:
            check_spoken_text(text, "the text")
        with self._progress.stage("read"):
            audio = speech if isinstance(speech, Audio) else load_audio(speech)
            if isinstance(textgrid, Alignment):
                return audio, textgrid
            if textgrid is not None:
                return audio, read_textgrid(textgrid, audio.duration)
        if audio.is_silent:
            return audio, Alignment(status="silent")
        if self._aligners.name == "uniform":
            return audio, empty_alignment("asked for")
        if text is not None:
            transcript = Transcript(text, language or "en")
        else:
            with self._progress.stage("transcribe"):
                transcript = self._transcriber.transcribe(audio, language)
        with self._progress.stage("align"):
            if not transcript.text:
                self._warn("no words heard: key frames are uniform (stride 3) and the mouth follows the sound alone")
                return audio, empty_alignment("no words heard")
            return audio, align_with_fallback(
                self._aligners.for_language(transcript.language), audio, transcript, self._warn
            )

    def fit(
        self,
        template: str | Path | Template,
        landmarks: str | Path | Mapping[str, np.ndarray] | None = None,
        *,
        refine: bool = False,
        reference: str | Path | FittedRig | None = None,
    ) -> FittedRig:
        """A rig on any face mesh (face.ways): fitted once, then kept in the user's cache by the mesh's content.

        ``landmarks`` are points by name, or a file of them (face.picked), where the face is not found by
        itself; ``refine`` takes Amberg's non-rigid ICP; ``reference`` is a .kmrig of the same topology, whose
        shapes carry over. Raises InputError for a mesh that cannot be used.
        """
        if not isinstance(template, Template):
            with self._progress.stage("read mesh"):
                template = load_template(template)
        points = landmarks
        if isinstance(landmarks, str | Path):
            points = load_landmarks(landmarks, template.vertices)
        assert points is None or isinstance(points, Mapping)
        if reference is not None:
            base = reference if isinstance(reference, FittedRig) else load_rig_file(reference)
            if points is not None or refine:
                raise InputError(
                    f"{template.display_name}: shapes of a given rig carry over; landmarks and refining are for fitting"
                )
            return rig_template(template, self.source_head, reference=base)
        key = fit_cache_key(template, points, refine)
        found = load_cached_rig(key)
        if found is None:
            with self._progress.stage("fit"):
                found = rig_template(template, self.source_head, points, refine)
            if found.report.method != "same topology":  # which costs nothing
                store_cached_rig(key, found)
        named = replace(found.rig.template, name=template.name, source=template.source, units=template.units)
        if found.report.method != "same topology":
            named = replace(named, colors=template.colors)
        return replace(found, rig=replace(found.rig, template=named))

    def _rig_for(
        self,
        template: str | Path | Template | FittedRig | None,
        landmarks: str | Path | Mapping[str, np.ndarray] | None,
    ) -> Rig:
        if template is None:
            if landmarks is not None:
                raise InputError("landmarks are of a template; give --template as well")
            return self.rig
        if isinstance(template, FittedRig):
            return template.rig
        if not isinstance(template, Template) and Path(template).suffix.lower() == SUFFIX:
            if landmarks is not None:
                raise InputError(f"{template}: is fitted already; landmarks go with the mesh (kmtalk fit)")
            return load_rig_file(template).rig
        name = template.display_name if isinstance(template, Template) else str(template)
        found = self.fit(template, landmarks)
        base, vertices = self.rig.template.vertices, found.rig.template.vertices
        if found.report.method == "same topology" and np.allclose(vertices, base, 0, 1e-6):
            return self.rig  # assets/face.obj is the default head
        if found.report.confidence != "high":
            doubts = "; ".join(found.report.warnings) or "see the preview"
            self._warn(
                f"{name}: confidence {found.report.confidence}: {doubts} (kmtalk fit shows it, --landmarks may mend it)"
            )
        return found.rig
