"""KMTalk: the pipeline from speech to an animated face, where all stages meet."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from kmtalk.animation import Animation, load_animation
from kmtalk.conversation import (
    dialogue_animation,
    listener_animation,
    listener_weights,
    load_other_face,
    overlap_warning,
    read_conversation,
)
from kmtalk.dialogue import Dialogue
from kmtalk.dialogue_motion import Speaker, dialogue_weights
from kmtalk.errors import InputError
from kmtalk.exchange.keys_json import read_keys
from kmtalk.expression.layer import ExpressionSettings, expression_weights
from kmtalk.expression.live_layer import LiveExpressionSettings
from kmtalk.expression.text_cues import cues_of_text
from kmtalk.face.fit import FittedRig
from kmtalk.face.motion import frame_times
from kmtalk.face.rig import Rig
from kmtalk.face.source_head import SourceHead
from kmtalk.face.template import Template
from kmtalk.faces import Face, Faces, Landmarks, is_mesh_file
from kmtalk.joint.joint_flow import JointFlow
from kmtalk.joint_tasks import face_of_listener
from kmtalk.key_editing import apply_key_file, complete_animation
from kmtalk.keys import KeyMotions, locate_key_frames
from kmtalk.listener_settings import DialogueSettings, ListenerSettings
from kmtalk.motion.gain import check_gain
from kmtalk.motion.model import KMTalkNetwork
from kmtalk.motion.predictor import MotionPredictor
from kmtalk.motion.styles import resolve_style, style_mixture
from kmtalk.motion_import import animation_from_vertex_cache, import_key_motions
from kmtalk.mouth_animator import MouthAnimator
from kmtalk.progress import Progress
from kmtalk.settings import (
    AnimationSettings,
    CharacterSettings,
    Provenance,
    RecognitionSettings,
    SoundSettings,
    VoiceSettings,
)
from kmtalk.sound_input import read_speech, sound_settings_of
from kmtalk.speaking import Voice, prepare_voice, speak_jointly, synthesize_text
from kmtalk.speech.alignment import Alignment
from kmtalk.speech.audio import Audio, audio_from_samples, load_audio
from kmtalk.speech.prosody import analyze_prosody
from kmtalk.speech_reader import Speech, SpeechReader
from kmtalk.stream_settings import StreamSettings
from kmtalk.streaming.face_stream import FaceStream


def _log_to_stderr(message: str) -> None:
    print(f"kmtalk: {message}", file=sys.stderr)


class KMTalk:
    """Speech to talking face. Each model is loaded once, at first use, and serves every later call.

    One object may be used from several threads at once; each call gives what it gives alone.
    """

    def __init__(
        self,
        recognition: RecognitionSettings | None = None,
        *,
        network: str | Path | None = None,
        joint: str | Path | None = None,
        streaming: str | Path | None = None,
        warn: Callable[[str], None] = _log_to_stderr,
        inform: Callable[[str], None] = lambda line: None,
        progress: Progress | None = None,
        **options: Any,
    ) -> None:
        """
        Args:
            recognition: Settings of transcription and alignment.
            network: File of trained weights (.safetensors); None for those shipped.
            joint: File of weights of the joint model (.safetensors), for "flow"; None for those shipped.
            streaming: File of weights of the streaming network (.safetensors), for `stream`; None for those shipped.
            warn: Called with each one-line warning.
            inform: Called with one line on how each mesh is animated.
            progress: Receives the progress of each stage.
            options: Fields of `RecognitionSettings` by keyword: `whisper`, `whisper_engine`, `aligner`,
                `acoustic_model`, `dictionary`.

        Raises:
            InputError: A setting cannot be used.
        """
        recognition = RecognitionSettings.create(recognition, **options)
        self._warn, self._progress = warn, progress or Progress()
        self._faces = Faces(warn, inform, self._progress)
        self._reader = SpeechReader(recognition, warn, self._progress)
        paths = [None if path is None else Path(path) for path in (network, joint, streaming)]
        self._mouths = MouthAnimator(paths[0], paths[1], paths[2], self._reader, self._progress)

    @property
    def rig(self) -> Rig:
        """The rig of the default head's light version, whose weights the network predicts."""
        return self._faces.rig

    @property
    def full_rig(self) -> Rig:
        """The rig of the default head, which has the same shapes."""
        return self._faces.full_rig

    @property
    def source_head(self) -> SourceHead:
        """The default head with the landmarks and gradients that fitting a rig needs."""
        return self._faces.source_head

    @property
    def network(self) -> KMTalkNetwork:
        """The trained network."""
        return self._mouths.network

    @property
    def joint_flow(self) -> JointFlow:
        """The joint model of sound and face."""
        return self._mouths.joint_flow

    @property
    def predictor(self) -> MotionPredictor:
        """The trained network with its speech encoder."""
        return self._mouths.predictor

    @property
    def completion_predictor(self) -> MotionPredictor:
        """The network that completes edited keys."""
        return self._mouths.completion_predictor

    def animate(
        self,
        speech: Speech,
        template: Face | None = None,
        *,
        landmarks: Landmarks | None = None,
        character: CharacterSettings | None = None,
        text: str | None = None,
        textgrid: str | Path | Alignment | None = None,
        tier: str | None = None,
        sound: SoundSettings | None = None,
        settings: AnimationSettings | None = None,
        **options: Any,
    ) -> Animation:
        """Animate one clip.

        Args:
            speech: A sound or video file.
            template: A face mesh, a fitted .kmrig file, or the result of `fit`; None for the default head, "light" for
                its version with fewer vertices.
            landmarks: Landmarks of the mesh, as for `fit`.
            character: What is read of the mesh's file, as for `fit`.
            text: The spoken words; skips transcription. They may contain emotion cues as [happy] or [sad:0.6], which
                replace each other and end with [neutral].
            textgrid: A TextGrid file with a tier of phones, or an `Alignment`; skips transcription and alignment.
            tier: Part of the names of the TextGrid's tiers to read, such as a speaker's name.
            sound: Which channel and track of the sound is analysed, and whether only the speech in it is.
            settings: Settings of the animation.
            options: Fields of `AnimationSettings` by keyword, which replace those of `settings`: `motion`, `style`,
                `intensity`, `gain`, `expression`, `seed`, `fps`, `language`.

        Returns:
            The animation, N = round(duration · fps) frames.

        Raises:
            InputError: An input or a setting cannot be used.
        """
        settings = AnimationSettings.create(settings, **options)
        if isinstance(template, str | Path) and is_mesh_file(template):  # before the network, which takes longer
            template, character = self._faces.read_mesh(template, character), None
        self.check(settings)
        rig = self._faces.rig_for(template, landmarks, character)
        check_gain(settings.gain, rig)
        audio, alignment = self.align(
            speech, text=text, textgrid=textgrid, tier=tier, language=settings.language, sound=sound
        )
        settings = AnimationSettings.create(
            settings, emotion=settings.emotion + cues_of_text(text, alignment, settings.language)
        )
        prosody = None if audio.is_silent else analyze_prosody(audio.samples)
        weights = self._mouths.weights(self.rig, audio, alignment, settings, prosody)
        with self._progress.stage("motion"):
            if settings.expression and prosody is not None:
                expression = ExpressionSettings(
                    settings.head, settings.gaze, self._mouths.speaking_style(settings).upper_face, settings.emotion
                )
                rng = np.random.default_rng([settings.seed, audio.digest, 1])
                times = frame_times(len(weights), settings.fps)
                weights += expression_weights(self.rig, alignment, prosody, times, expression, rng)
            motion = self._faces.retarget(weights, rig, alignment, settings.fps, settings.gain)
            keys = KeyMotions(locate_key_frames(alignment, len(motion), settings.fps, settings.keys == "apex"), motion)
        provenance = Provenance(
            settings=settings, sound=sound_settings_of(audio), network_digest=self._mouths.digest(settings.motion)
        )
        return Animation(motion, alignment, keys, audio, provenance, self.complete)

    def listen(
        self,
        other: Speech,
        template: Face | None = None,
        *,
        other_face: str | Path | Animation | None = None,
        landmarks: Landmarks | None = None,
        character: CharacterSettings | None = None,
        sound: SoundSettings | None = None,
        settings: ListenerSettings | None = None,
        **options: Any,
    ) -> Animation:
        """Animate a face that listens: it nods, blinks, raises its brows and smiles back, by rules.

        Args:
            other: A sound or video file of the one who speaks.
            template: The face that listens, as for `animate`.
            other_face: The animation.npz of the one who speaks, or that animation: its smiles are answered.
            landmarks: Landmarks of the mesh, as for `fit`.
            character: What is read of the mesh's file, as for `fit`.
            sound: Which channel and track is listened to, and whether only the speech in it is.
            settings: How the face listens.
            options: Fields of `ListenerSettings` by keyword: `nod`, `smile`, `head`, `gaze`, `emotion`, `seed` …

        Returns:
            The animation, in time with the other's sound, which is its sound. It has no phones.

        Raises:
            InputError: An input or a setting cannot be used.
        """
        settings = ListenerSettings.create(settings, **options)
        rig = self._faces.rig_for(template, landmarks, character)
        check_gain(settings.gain, rig)
        with self._progress.stage("read"):
            audio = read_speech(other, sound)
        for line in audio.notes:
            self._warn(line)
        with self._progress.stage("motion"):
            if settings.motion == "flow":
                seen = None if other_face is None else load_other_face(other_face, audio)
                weights = face_of_listener(self.joint_flow, self.rig, audio, seen, settings.fps, settings.seed)
            else:
                weights = listener_weights(self.rig, audio, other_face, settings, self._warn)
            motion = self._faces.retarget(weights, rig, Alignment(), settings.fps, settings.gain)
        made = listener_animation(motion, audio, settings)
        provenance = made.provenance.model_copy(update={"network_digest": self._mouths.digest(settings.motion)})
        return replace(made, provenance=provenance, completer=self.complete)

    def stream(
        self, rate: float, fps: float = 60.0, *, settings: StreamSettings | None = None, **options: Any
    ) -> FaceStream:
        """Begin a face that follows a voice while it is spoken.

        >>> stream = KMTalk().stream(48_000)
        >>> for block in blocks:  # (S,) samples each
        ...     for pose in stream.feed(block):
        ...         print(pose.time, pose.weights)

        Args:
            rate: Sample rate of the sound in Hz, 8,000 to 192,000.
            fps: Poses per second, 1 to 240.
            settings: How the face follows.
            options: Fields of `StreamSettings` by keyword: `style`, `head`, `gaze`, `seed` …

        Returns:
            The stream: `feed` takes samples and returns poses, weights (R,) of `rig`; `follow` does so for `async for`.

        Raises:
            InputError: A rate or a setting cannot be used.
        """
        settings = StreamSettings.create(settings, **options)
        network = self._mouths.streaming_network
        style = style_mixture(network.config.styles, resolve_style(network.config.styles, settings.style))
        expression = LiveExpressionSettings(settings.head, settings.gaze, settings.brows)
        return FaceStream(
            network, self.rig, rate, fps, style, expression if settings.expression else None, settings.seed
        )

    def animation_of_stream(
        self, weights: np.ndarray, fps: float, samples: np.ndarray, rate: int, template: Face | None = None
    ) -> Animation:
        """Make an animation of what a stream gave, to save it.

        Args:
            weights: Weights (N, R) of `rig`, the poses of the stream.
            fps: Poses per second.
            samples: The sound that it followed, (S,) or (S, channels).
            rate: Sample rate of the sound in Hz.
            template: A face, as for `animate`.

        Raises:
            InputError: There are no poses or no samples, or the template cannot be used.
        """
        if not len(weights):
            raise InputError("the stream has given no poses: the sound was too short")
        rig = self._faces.rig_for(template, None)
        audio, alignment = audio_from_samples(samples, rate, "stream"), Alignment(status="silent")
        motion = self._faces.retarget(np.asarray(weights, np.float32), rig, alignment, fps, {})
        keys = KeyMotions(locate_key_frames(alignment, len(motion), fps), motion)
        made = Provenance(
            settings=AnimationSettings.create(None, fps=fps), network_digest=self._mouths.digest("live"), role="live"
        )
        return Animation(motion, alignment, keys, audio.unanalyzed(), made)

    def dialogue(
        self,
        first: Speech,
        second: Speech | None = None,
        template: Face | None = None,
        second_template: Face | None = None,
        *,
        text: str | None = None,
        second_text: str | None = None,
        sound: SoundSettings | None = None,
        settings: DialogueSettings | None = None,
        **options: Any,
    ) -> Dialogue:
        """Animate two faces in a conversation: each speaks with its voice and listens to the other.

        Args:
            first: The first voice, or a sound of two channels with one voice in each.
            second: The second voice, on the same clock; None where `first` has both.
            template: The first face, as for `animate`.
            second_template: The second face; None for the same as the first.
            text: The words of the first voice, as for `animate`.
            second_text: The words of the second voice.
            sound: Which track is analysed, and whether only the speech in it is.
            settings: How they speak and listen.
            options: Fields of `DialogueSettings` by keyword: `nod`, `smile`, `offset`, `style`, `emotion` …

        Returns:
            The two animations, of equal length.

        Raises:
            InputError: An input or a setting cannot be used.
        """
        settings = DialogueSettings.create(settings, **options)
        with self._progress.stage("read"):
            sounds = read_conversation(first, second, settings.offset, sound)
        self.check(settings)
        rig = self._faces.rig_for(template, None)
        rigs = rig, rig if second_template is None else self._faces.rig_for(second_template, None)
        for one in rigs:
            check_gain(settings.gain, one)
        voices = [self._voice(one, said, settings) for one, said in zip(sounds, (text, second_text), strict=True)]
        overlap = overlap_warning(voices, settings.fps)
        if overlap:
            self._warn(overlap)
        with self._progress.stage("motion"):
            both = dialogue_weights(self.rig, voices, settings)
            motions = [
                self._faces.retarget(weights, one, voice.alignment, settings.fps, settings.gain)
                for voice, weights, one in zip(voices, both, rigs, strict=True)
            ]
        digest = self._mouths.digest(settings.motion)
        faces = [dialogue_animation(*parts, settings, digest) for parts in zip(motions, voices, strict=True)]
        return Dialogue(*(replace(face, completer=self.complete) for face in faces))

    def _voice(self, audio: Audio, text: str | None, settings: DialogueSettings) -> Speaker:
        """One voice of a dialogue, with its mouth on the default head."""
        if audio.is_silent:
            for line in audio.notes:
                self._warn(line)
            self._warn(f"{audio.source}: channel {audio.channel} of the conversation is silent: its face only listens")
            alignment = Alignment(status="silent")
        else:
            audio, alignment = self.align(audio, text=text, language=settings.language)
        emotion = settings.emotion + cues_of_text(text, alignment, settings.language)
        mouth = self._mouths.weights(self.rig, audio, alignment, settings)
        return Speaker(audio, alignment, mouth, self._mouths.speaking_style(settings).upper_face, emotion)

    def speak(
        self,
        text: str,
        template: Face | None = None,
        *,
        engine: str = "piper",
        voice: str | Path | Voice | None = None,
        speaker: str | None = None,
        rate: float = 1.0,
        voice_like: str | Path | None = None,
        landmarks: Landmarks | None = None,
        character: CharacterSettings | None = None,
        settings: AnimationSettings | None = None,
        **options: Any,
    ) -> Animation:
        """Speak a text and animate it, with the exact phones of the voice: nothing is transcribed or aligned.

        Args:
            text: The words, at most `kmtalk.speaking.MAX_TEXT_CHARACTERS` characters, with emotion cues as for
                `animate`.
            template: The face, as for `animate`.
            engine: What speaks: "piper", or "flow", a joint model, which makes sound and face in one sample.
            voice: A Piper .onnx file, or a voice that `kmtalk.speaking.load_voice` loaded; None for the voice joe.
            speaker: Name or number of a speaker, in voices that have several; None for the first.
            rate: Factor of the speaking rate, from 0.25 to 4.
            voice_like: A sound whose voice the joint model imitates, for engine "flow".
            landmarks: Landmarks of the mesh, as for `fit`.
            character: What is read of the mesh's file, as for `fit`.
            settings: Settings of the animation. `seed` varies the voice as well; the language is that of the voice.
            options: Fields of `AnimationSettings` by keyword, which replace those of `settings`.

        Returns:
            The animation with its sound, at the voice's own sample rate.

        Raises:
            InputError: The text cannot be spoken, or an input or a setting cannot be used.
        """
        settings = AnimationSettings.create(settings, **options)
        if engine == "flow":
            named = None if voice is None else str(voice)
            spoken = VoiceSettings.create(engine=engine, voice=named, speaker=speaker, rate=rate, voice_like=voice_like)
            return self._speak_jointly(text, spoken, self._faces.rig_for(template, landmarks, character), settings)
        if voice_like is not None:
            raise InputError(f"voice_like is for engine flow, not {engine}")
        loaded, settings = prepare_voice(engine, voice, speaker, rate, text, settings)
        if isinstance(template, str | Path) and is_mesh_file(template):
            template, character = self._faces.read_mesh(template, character), None
        self.check(settings)
        with ThreadPoolExecutor(1) as pool, self._progress.stage("speak"):
            if settings.motion == "network":
                pool.submit(lambda: self.predictor)  # loads while the voice speaks
            audio, alignment = synthesize_text(loaded, text, rate, speaker, settings.seed, self._warn)
        return self.animate(
            audio, template, landmarks=landmarks, character=character, text=text, textgrid=alignment, settings=settings
        )

    def _speak_jointly(self, text: str, spoken: VoiceSettings, rig: Rig, settings: AnimationSettings) -> Animation:
        """Speak a text by the joint model."""
        if settings.motion == "rules" or settings.gaze != "camera":
            raise InputError("engine flow makes the whole face itself: motion rules and gaze are for other engines")
        settings = AnimationSettings.create(settings, motion="flow")
        check_gain(settings.gain, rig)
        with self._progress.stage("speak"):
            audio, alignment, weights = speak_jointly(self.joint_flow, text, spoken, self.rig, settings)
        motion = self._faces.retarget(weights, rig, alignment, settings.fps, settings.gain)
        keys = KeyMotions(locate_key_frames(alignment, len(motion), settings.fps, settings.keys == "apex"), motion)
        digest = self._mouths.digest("flow")
        provenance = Provenance(settings=settings, sound=sound_settings_of(audio), network_digest=digest, role="joint")
        return Animation(motion, alignment, keys, audio, provenance, self.complete)

    def check(self, settings: AnimationSettings) -> None:
        """Raise InputError where what moves the mouth cannot follow the settings, before long work begins."""
        self._mouths.check(settings, self.rig)

    def align(
        self,
        speech: Speech,
        *,
        text: str | None = None,
        textgrid: str | Path | Alignment | None = None,
        tier: str | None = None,
        language: str | None = None,
        sound: SoundSettings | None = None,
    ) -> tuple[Audio, Alignment]:
        """Find the words and phones of a clip.

        Args:
            speech: A sound or video file.
            text: The spoken words; skips transcription. Emotion cues in brackets are left out.
            textgrid: A TextGrid file with a tier of phones, or an `Alignment`; skips transcription and alignment.
            tier: Part of the names of the TextGrid's tiers to read, such as a speaker's name.
            language: Spoken language as an ISO 639-1 code; None detects it.
            sound: Which channel and track of the sound is analysed, and whether only the speech in it is.

        Returns:
            The sound and its alignment.

        Raises:
            InputError: An input cannot be used.
        """
        return self._reader.read(speech, text, textgrid, tier, language, sound)

    def fit(
        self,
        template: str | Path | Template,
        landmarks: Landmarks | None = None,
        *,
        character: CharacterSettings | None = None,
        refine: bool = False,
        reference: str | Path | FittedRig | None = None,
    ) -> FittedRig:
        """Fit the rig to a face mesh (see `kmtalk.face.rigging`). Fitted rigs are cached by the mesh's content.

        Args:
            template: The mesh: a file, a folder of OBJ shapes, or a `Template`.
            landmarks: Points by name, or a file of them, for meshes on which no face is detected.
            character: Node, head bone and map of shapes, for a mesh that is a file.
            refine: Register by Amberg's non-rigid ICP, which is slower.
            reference: A fitted rig of the same topology, whose shapes are transferred.

        Raises:
            InputError: The mesh cannot be used, or no face is found on it.
        """
        return self._faces.fit(template, landmarks, character=character, refine=refine, reference=reference)

    def load(self, path: str | Path) -> Animation:
        """Load an animation.npz, which can be edited and completed; raises InputError where it is not one."""
        return replace(load_animation(path), completer=self.complete)

    def complete(self, animation: Animation) -> Animation:
        """Complete an animation after its keys were edited.

        Returns:
            A new animation that meets the pinned keys exactly; the animation itself where no key was edited.

        Raises:
            InputError: The animation consists of imported vertices, which have no keys.
        """
        return complete_animation(animation, self.completion_predictor, self._progress)

    def load_key_edits(
        self,
        keys: str | Path,
        speech: Speech,
        template: Face | None = None,
        landmarks: Landmarks | None = None,
    ) -> Animation:
        """Load an edited keys.json over the animation that it was written for, which is animated again.

        Args:
            keys: The keys.json file.
            speech: The same sound, or the animation.npz.
            template: The mesh, unless it is the default head or `speech` is an animation.npz.
            landmarks: Landmarks of the mesh, as for `fit`.

        Returns:
            The animation with the edited keys; `complete` animates the frames between them.

        Raises:
            InputError: The file is damaged, or was written for another clip, mesh or network.
        """
        path = Path(keys)
        file = read_keys(path)
        if not isinstance(speech, Audio) and Path(speech).suffix.lower() == ".npz":
            if template is not None:
                raise InputError(f"{speech}: contains its mesh; leave --template out")
            return apply_key_file(file, path, self.load(speech))
        settings = file.provenance.settings
        if settings is None:
            raise InputError(f"{path}: belongs to imported vertices, which have no keys to edit")
        if file.provenance.role != "speaker":
            made_by = {"joint": "a joint model", "live": "a live voice"}.get(file.provenance.role, "a conversation")
            raise InputError(f"{path}: belongs to a face of {made_by}; give its animation.npz instead of the sound")
        if file.provenance.network_digest != self._mouths.digest(settings.motion):
            option = "--joint" if settings.motion == "flow" else "--network"
            raise InputError(f"{path}: was made with other weights; give the same {option}, or none")
        sound = None if isinstance(speech, Audio) else file.provenance.sound
        base = self.animate(
            speech, template, landmarks=landmarks, textgrid=file.alignment, sound=sound, settings=settings
        )
        return apply_key_file(file, path, base)

    def from_vertices(
        self,
        motion: str | Path,
        template: str | Path | Template,
        speech: Speech,
        fps: float | None = None,
        landmarks: Landmarks | None = None,
    ) -> Animation:
        """Make an animation of vertices by frame, such as those that `kmtalk evaluate -o` or another system writes.

        Args:
            motion: A .npy file, (N, V, 3) or (N, 3V), positions or offsets from the neutral.
            template: The neutral mesh, in the same vertex order.
            speech: A sound or video file.
            fps: Frames per second of `motion`; None derives it from the durations of sound and motion.
            landmarks: Landmarks of the mesh, as for `fit`.

        Returns:
            An animation with one shape per frame and no keys to edit.

        Raises:
            InputError: The motion does not fit the mesh or the sound.
        """
        audio = speech if isinstance(speech, Audio) else load_audio(speech)
        animation = animation_from_vertex_cache(Path(motion), self._faces.rig_for(template, landmarks), audio, fps)
        return replace(animation, completer=self.complete)

    def import_key_motions(self, animation: Animation, path: str | Path, fps: float | None = None) -> float:
        """Replace the animation's key motions by the poses of another system's motion, and pin them (paper, Table 2).

        Args:
            animation: The animation whose `keys` are replaced in place.
            path: A .npy file on the same mesh, (N, V, 3) or (N, 3V), positions or offsets from the neutral.
            fps: Frames per second of the file; None derives it from the durations of sound and motion.

        Returns:
            Root mean square in mm of the part of the poses that the rig's shapes cannot express.

        Raises:
            InputError: The file does not fit the mesh or the sound.
        """
        return import_key_motions(animation, Path(path), fps, self._progress)
