"""Settings: how speech is recognised, how a face is animated, and how the result is exported.

Each setting is one field here, with its description and bounds. The Python API takes the fields as keyword arguments,
the command line as options, batch manifests as columns, and saved animations record them as their provenance.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from kmtalk.articulation.styles import SpeakingStyle
from kmtalk.errors import InputError, describe_validation_error
from kmtalk.expression.emotion import EmotionCue, parse_emotion
from kmtalk.speech.alignment_pipeline import ALIGNER_NAMES
from kmtalk.speech.audio import CHANNEL_NAMES, MIX
from kmtalk.timecode import FIRST_TIMECODE, MAX_FPS, MIN_FPS, parse_frame_rate, parse_timecode


class Settings(BaseModel):
    """Base of all settings: frozen, and unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @classmethod
    def create(cls, base: Self | None = None, **options: Any) -> Self:
        """The settings `base` (None: the defaults) with some fields replaced.

        Raises:
            InputError: An option is unknown or has a value that cannot be used.
        """
        given = {} if base is None else {name: getattr(base, name) for name in base.model_fields_set}
        try:
            return cls(**(given | options))
        except ValidationError as error:
            raise InputError(_explain(cls, error)) from None

    def with_absolute_paths(self) -> Self:
        """The same settings for a process with another current folder."""
        return self.model_copy(update={name: value.resolve() for name, value in self if isinstance(value, Path)})


def _explain(model: type[Settings], error: ValidationError) -> str:
    first = error.errors()[0]
    name = str(first["loc"][0]) if first["loc"] else ""
    if first["type"] == "extra_forbidden":
        return f"{name}: no such setting; one of {', '.join(model.model_fields)}"
    given = f"{name} {str(first['input'])[:80]}"
    if first["type"] == "literal_error":
        return f"{given}: no such choice; one of {first['ctx']['expected'].replace(chr(39), '')}"
    if first["type"] == "value_error" or not name:
        return describe_validation_error(error).removeprefix(f"{name}: ")
    bounds = {"greater_than": "must be more than {gt:g}", "greater_than_equal": "must be {ge:g} or more"}
    bound = bounds.get(first["type"], "").format_map(first.get("ctx", {}))
    return f"{given}: {bound or describe_validation_error(error).partition(': ')[2]}"


FrameRate = Annotated[float, BeforeValidator(parse_frame_rate)]
"""Frames per second: a number, or text such as 23.976 or 24000/1001."""


class RecognitionSettings(Settings):
    """How words and phones are found in the sound."""

    whisper: str = Field(default="base", description="Whisper model, by name or path.")
    whisper_engine: Literal["auto", "openai-whisper", "faster-whisper"] = Field(
        default="auto",
        description="What runs Whisper: openai-whisper; faster-whisper, in 8 bit on the CPU; or auto: faster-whisper "
        "where it is installed and has the weights.",
    )
    aligner: str = Field(default="auto", description=f"Forced aligner: {', '.join(ALIGNER_NAMES)}.")
    acoustic_model: str | None = Field(
        default=None, description="MFA acoustic model: a zip file, or a model's name in MFA's folder."
    )
    dictionary: str | None = Field(
        default=None, description="MFA pronunciation dictionary: a file, or a dictionary's name in MFA's folder."
    )


def _check_channel(value: object) -> object:
    name = str(value).strip().lower()
    if name in (MIX, *CHANNEL_NAMES) or (name.isdecimal() and int(name[:9]) > 0):
        return name
    raise ValueError(f"channel {value}: give a number from 1, {', '.join(CHANNEL_NAMES)} or {MIX}")


def _check_track(value: object) -> object:
    if value is None or (isinstance(value, int | str) and str(value).strip().isdecimal() and int(str(value)[:9]) > 0):
        return value
    raise ValueError(f"track {value}: give the number of a sound track, from 1")


class SoundSettings(Settings):
    """Which part of the sound is analysed. The animation plays all of it."""

    channel: Annotated[str, BeforeValidator(_check_channel)] = Field(
        default=MIX, description="Channel that is analysed: its number from 1, left, right, or mix (the mean of all)."
    )
    track: Annotated[int | None, BeforeValidator(_check_track)] = Field(
        default=None, description="Sound track of a video, by its number from 1; the file's default one by default."
    )
    voice_only: bool = Field(
        default=False,
        description="Analyse only speech: music and noise beside it do not move the mouth. Needs the extra vad.",
    )


class VoiceSettings(Settings):
    """Which voice speaks a text, and how."""

    engine: Literal["piper", "flow"] = Field(
        default="piper",
        description="What speaks: piper (a Piper voice, whose phones are known exactly), or flow (a joint model, which "
        "makes sound and face together, in English).",
    )
    voice: str | None = Field(
        default=None,
        description="Piper voice: an .onnx file, with its .onnx.json beside it; joe of the extra voices by default.",
    )
    speaker: str | None = Field(
        default=None, description="Name or number of a speaker, in voices that have several; the first by default."
    )
    rate: float = Field(default=1.0, ge=0.25, le=4, description="Factor of the speaking rate, from 0.25 to 4.")
    voice_like: Path | None = Field(
        default=None,
        description="For engine flow: a sound whose voice is imitated, with a second of speech or more.",
    )

    @model_validator(mode="after")
    def _check_engine(self) -> Self:
        for_other = ("voice", "speaker") if self.engine == "flow" else ("voice_like",)
        misplaced = [name for name in for_other if getattr(self, name) is not None]
        if misplaced:
            raise ValueError(f"{', '.join(misplaced)}: not for engine {self.engine}")
        return self


class CharacterSettings(Settings):
    """What is read of a character's file, and what its parts are."""

    node: str | None = Field(
        default=None, description="Node of a glTF file that is the character, where the file has several."
    )
    head_bone: str | None = Field(
        default=None, description="Bone of a glTF file on which the head turns; found by its usual names by default."
    )
    map: str | None = Field(
        default=None, description="YAML file that says what the mesh's own shapes are, in lines as  morph_0: jawOpen."
    )


class Intensity(BaseModel):
    """Factors on the motion: 1 leaves it as it is."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    jaw: float = Field(default=1.0, ge=0, le=3, description="Factor on the jaw's opening.")
    lips: float = Field(default=1.0, ge=0, le=3, description="Factor on all other shapes of the mouth.")

    @model_validator(mode="before")
    @classmethod
    def _parse(cls, value: object) -> object:
        if value is None:
            return {}
        return _parse_intensity(value) if isinstance(value, str | int | float) else value


def _parse_intensity(value: str | float) -> dict[str, float]:
    amounts: dict[str, float] = {}
    try:
        for part in str(value).split(","):
            name, equals, amount = part.partition("=")
            if equals and name.strip() not in ("jaw", "lips"):
                raise ValueError
            for which in [name.strip()] if equals else ["jaw", "lips"]:
                amounts[which] = float(amount if equals else name)
        if not all(0 <= amount <= 3 for amount in amounts.values()):
            raise ValueError
    except ValueError:
        raise ValueError(f"intensity {value}: give a number from 0 to 3, or jaw=1.2,lips=0.9") from None
    return amounts


MAX_GAIN = 10.0
"""Largest factor on the weights of a shape."""


def _parse_gain(value: object) -> object:
    """Factors of a text such as jawOpen=0.8,mouthSmile=1.2, or of several texts; a later one replaces an earlier."""
    if value is None:
        return {}
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list | tuple):
        return value
    factors: dict[str, float] = {}
    for part in ",".join(map(str, value)).split(","):
        name, equals, factor = part.partition("=")
        try:
            if not (equals and name.strip()):
                raise ValueError
            factors[name.strip()] = float(factor)
        except ValueError:
            raise ValueError(f"gain {part.strip()}: give the name of a shape and a factor, as jawOpen=0.8") from None
    return factors


def _check_gain(gain: dict[str, float]) -> dict[str, float]:
    for name, factor in gain.items():
        if not 0 <= factor <= MAX_GAIN:
            raise ValueError(f"gain {name}={factor:g}: factors are from 0 to {MAX_GAIN:g}")
    return gain


MAX_STYLE_DIGITS = 18
"""Digits of the number of a random speaker's style."""


def _check_style(value: object) -> object:
    number = isinstance(value, int) or (isinstance(value, str) and value.isdecimal())
    too_long = value >= 10**MAX_STYLE_DIGITS if isinstance(value, int) else len(str(value)) > MAX_STYLE_DIGITS
    if isinstance(value, bool) or (isinstance(value, int) and value < 0) or (number and too_long):
        raise ValueError(f"style: give a name, or a number of 0 or more with at most {MAX_STYLE_DIGITS} digits")
    return value


def _parse_cues(value: object) -> object:
    """Cues of a text such as happy:0.6, or of a file, so that saved settings need no file."""
    if value is None:
        return ()
    return parse_emotion(str(value)) if isinstance(value, str | Path) else value


Emotion = Annotated[tuple[EmotionCue, ...], BeforeValidator(_parse_cues)]
"""Cues of the emotion layer, or a text or the file that gives them."""

Gain = Annotated[dict[str, float], BeforeValidator(_parse_gain), AfterValidator(_check_gain)]
"""Factors on the weights of shapes by name, or texts with them."""


class AnimationSettings(Settings):
    """How one clip is animated."""

    motion: Literal["network", "rules", "flow"] = Field(
        default="network",
        description="How the mouth is animated: network (trained), rules (simulated speaker), or flow (sampled by the "
        "joint model of sound and face).",
    )
    style: Annotated[str | int | SpeakingStyle | None, BeforeValidator(_check_style)] = Field(
        default=None,
        description="Speaking style: neutral (the default), clear, relaxed, expressive, population (the mean of many "
        "speakers), natural, natural-s4 (two real speakers), facegood (a mouth made by animators), a mixture such as "
        "clear:0.5,relaxed:0.5, or mean. With motion rules: neutral (the default), clear, relaxed, expressive, or a "
        "number for a random speaker.",
    )
    intensity: Intensity = Field(
        default=Intensity(), description="Factor on the motion: 1.2, or jaw=1.2,lips=0.9; from 0 to 3."
    )
    gain: Gain = Field(
        default={},
        description="Factors on the weights of single shapes, from 0 to 10: jawOpen=0.8,mouthSmile=1.2. A name without "
        "Left or Right means both. mouthClose takes jawOpen's factor unless it has its own, so that closed lips stay "
        "closed. The names of the mesh's own shapes are known too.",
    )
    expression: bool = Field(
        default=True, description="Animate brows, eyelids, eyes and head as well, by rules driven by the voice."
    )
    keys: Literal["boundaries", "apex"] = Field(
        default="boundaries",
        description="Where the editable keys stand: boundaries (of phones) or apex (in the middle of vowels too).",
    )
    head: float = Field(
        default=1.0,
        ge=0,
        le=2,
        description="Factor on the motion of the head, from 0 to 2; 1 moves as much as public speakers do.",
    )
    gaze: Literal["camera", "wander"] = Field(
        default="camera", description="Where the eyes look: camera (at the viewer) or wander (with glances aside)."
    )
    emotion: Emotion = Field(
        default=(),
        description="Emotion, a layer by rule: happy, sad, angry, surprised, afraid, disgusted or friendly, with an "
        "amount from 0 to 1 as happy:0.6; or a .json file of cues with time, name and amount.",
    )
    seed: int = Field(default=0, ge=0, description="Seed of blinks and of other small random variation.")
    fps: FrameRate = Field(
        default=30.0,
        ge=MIN_FPS,
        lt=MAX_FPS,
        description="Frames per second: a number or a fraction. 23.976, 29.97 and 59.94 mean the NTSC rates "
        "24000/1001, 30000/1001 and 60000/1001.",
    )
    language: str | None = Field(
        default=None, description="Spoken language as an ISO 639-1 code (en, de, ...); detected by default."
    )


def _parse_size(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if isinstance(value, str):
        width, _, height = value.lower().partition("x")
        try:
            value = int(width), int(height or width)
        except ValueError:
            raise ValueError(f"size {str(value)[:80]}: give pixels, as 512 or 1280x720") from None
    return value


MAX_SIDE, MAX_PIXELS = 8192, 4096 * 4096
"""Pixels of the longer side of a video, and of a frame, which then takes 1.7 GB to render."""


def _check_size(size: tuple[int, int]) -> tuple[int, int]:
    width, height = size
    if min(size) < 32 or max(size) > MAX_SIDE or width % 2 or height % 2:
        raise ValueError(f"size {width}x{height}: width and height must be even, from 32 to {MAX_SIDE}")
    if width * height > MAX_PIXELS:
        raise ValueError(f"size {width}x{height}: give at most 4096x4096, or as many pixels in another shape")
    return size


def _check_three_sizes(size: tuple[int, int]) -> tuple[int, int]:
    width, height = size
    if 3 * width > MAX_SIDE or 3 * width * height > MAX_PIXELS:
        raise ValueError(f"size {width}x{height}: three pictures stand side by side; give at most 2048x2048")
    return size


BACKGROUND_COLORS = {"white": (255, 255, 255), "black": (0, 0, 0), "green": (0, 177, 64)}
"""Named plain backgrounds of videos, sRGB."""


def parse_background(background: str) -> tuple[int, int, int] | None:
    """Return the sRGB colour of a background, None for "studio"; raises ValueError for anything else."""
    name = background.lower()
    if name == "studio":
        return None
    if name in BACKGROUND_COLORS:
        return BACKGROUND_COLORS[name]
    if re.fullmatch("#[0-9a-f]{6}", name):
        red, green, blue = bytes.fromhex(name[1:])
        return red, green, blue
    raise ValueError(f"background {background}: give studio, {', '.join(BACKGROUND_COLORS)}, or a colour as #1a2b3c")


def _check_timecode(timecode: str) -> str:
    parse_timecode(timecode, 1000.0)  # how many frames a second has is known with the clip
    return timecode


def _check_background(background: str) -> str:
    parse_background(background)
    return background


_Size = Annotated[tuple[int, int], BeforeValidator(_parse_size), AfterValidator(_check_size)]


class VideoSettings(Settings):
    """How a video looks."""

    size: _Size = Field(default=(512, 512), description="Width and height of the video in pixels: 512 or 1280x720.")
    quality: Literal["draft", "high"] = Field(
        default="draft", description="Quality of the video: draft (fast) or high (lit per pixel)."
    )
    frame: Literal["face", "head", "body"] = Field(
        default="face", description="What the video shows: face, head (with hair and shoulders) or body (all)."
    )
    view: Literal["portrait", "front", "three-quarter", "profile"] = Field(
        default="portrait", description="Side of the camera: portrait (turned slightly), front, three-quarter, profile."
    )
    background: Annotated[str, AfterValidator(_check_background)] = Field(
        default="studio", description="Background of the video: studio, white, black, green, or a colour as #1a2b3c."
    )


class ComparisonSettings(VideoSettings):
    """How the video of a comparison looks."""

    size: Annotated[_Size, AfterValidator(_check_three_sizes)] = Field(
        default=(400, 400), description="Width and height of each of the three pictures in pixels."
    )


class ExportSettings(VideoSettings):
    """Which files an animation is written to, and how."""

    formats: str | None = Field(
        default=None,
        description="Formats of an output folder, separated by commas: glb, usd, csv, mp4 … (default: npz,glb; animate "
        "and complete add mp4 unless --no-video).",
    )
    bake: bool = Field(
        default=False, description="Write vertices by frame: to GLB and USD instead of blend shapes, also to npz."
    )
    animation_only: bool = Field(
        default=False, description="Write the .glb of a character without its meshes: its nodes and the animation."
    )
    reduce: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Write few keys instead of one per frame, so that no weight is wrong by more than this, such as "
        "0.01: to GLB, to anim and to Blender's import script.",
    )
    timecode: Annotated[str, AfterValidator(_check_timecode)] = Field(
        default=FIRST_TIMECODE, description="Time code of the first frame, in csv and json: HH:MM:SS:FF."
    )
    video: bool = Field(default=True, description="Render an mp4 where --formats is not given (animate, complete).")

    @model_validator(mode="after")
    def _check_reduce(self) -> Self:
        if self.reduce and self.bake:
            raise ValueError("reduce: baked vertices have no weights to reduce; leave bake out")
        return self


class Provenance(Settings):
    """How an animation was made.

    Attributes:
        settings: What `KMTalk.animate` was given; None for imported vertices, which have no keys to edit.
        sound: Which part of the sound was analysed.
        network_digest: Beginning of the SHA-256 of the weights that moved the face; empty for those shipped.
        role: What the face does in the sound: it speaks (`animate`), listens to it (`listen`), or does both in turn
            (`dialogue`); a joint model made a part of it ("joint"), or it followed a voice live (`stream`). Only a
            speaker can be animated again from the sound alone.
        reaction: Factors on a listener's `nod` and `smile`; empty for a speaker.
    """

    settings: AnimationSettings | None = AnimationSettings()
    sound: SoundSettings = SoundSettings()
    network_digest: str = ""
    role: Literal["speaker", "listener", "dialogue", "joint", "live"] = "speaker"
    reaction: dict[str, float] = {}
