"""The kmtalk command: one thin verb a command."""

from __future__ import annotations

import re
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from kmtalk import __version__
from kmtalk.errors import InputError
from kmtalk.progress import Progress

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Speech in, a talking 3D face mesh out.",
)

Speech = Annotated[Path, typer.Argument(help="Sound or video file.", show_default=False)]
Whisper = Annotated[str, typer.Option(help="Whisper model, by name or path.")]
Language = Annotated[str | None, typer.Option(help="Language spoken (en, de, ...); found by itself if left out.")]
Text = Annotated[str | None, typer.Option(help="The words spoken, or a text file with them: skips transcription.")]
Aligner = Annotated[str, typer.Option(help="auto, pocketsphinx, mfa, mfa-cli or uniform.")]
Acoustic = Annotated[str | None, typer.Option(help="MFA acoustic model: a zip, or a name in MFA's folder.")]
Dictionary = Annotated[str | None, typer.Option(help="MFA dictionary: a file, or a name in MFA's folder.")]
Landmarks = Annotated[
    Path | None,
    typer.Option(help="Landmarks of the mesh (JSON or MeshLab .pp, seven are good), where the face is not found."),
]
Network = Annotated[Path | None, typer.Option(help="Trained weights (.safetensors); those shipped if left out.")]


class _Screen(Progress):
    """Progress bars on a terminal, nothing elsewhere."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        if not self._console.is_terminal:
            yield lambda done: None
            return
        columns = [SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()]
        if total is not None:
            columns.insert(3, MofNCompleteColumn())
        with Bars(*columns, console=self._console, transient=True) as bars:
            task = bars.add_task(name, total=total)
            yield lambda done: bars.update(task, completed=done)


def _say(message: str) -> None:
    print(f"kmtalk: {message}", file=sys.stderr)


def _text(text: str | None) -> str | None:
    """The text itself, or what the file of that name holds."""
    if text is None:
        return None
    try:
        if text and Path(text).is_file():
            return Path(text).read_text(encoding="utf-8-sig")
        if text.lower().endswith(".txt") and len(text.split()) == 1:
            raise InputError(f"{text}: no such file")
    except OSError:  # too long for a file's name: it is the text
        pass
    except UnicodeDecodeError:
        raise InputError(f"{text}: is not a UTF-8 text file") from None
    return text


def _size(size: str) -> tuple[int, int]:
    width, _, height = size.lower().partition("x")
    try:
        return int(width), int(height or width)
    except ValueError:
        raise InputError(f"--size {size}: give pixels, as 512 or 1280x720") from None


def _check_no_input(output: Path, *inputs: Path | str | None) -> None:
    """Raise InputError where the output would replace what the user gave."""
    for given in inputs:
        try:
            if given and output.is_file() and output.samefile(given):
                raise InputError(f"{output}: is an input; write to another file")
        except OSError:  # not a file at all: a text, a model's name
            continue


@contextmanager
def _one_line() -> Iterator[None]:
    """What the user gave wrong ends in one line on stderr and exit code 2."""
    warnings.filterwarnings("ignore")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended from outside: tidy up as for Ctrl-C
    try:
        yield
    except InputError as error:
        _say(" ".join(str(error).split()))
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        _say("stopped")
        raise typer.Exit(130) from None


@app.command()
def animate(
    speech: Speech,
    template: Annotated[
        Path | None, typer.Option(help="Any face mesh, or a fitted .kmrig; the default head if left out.")
    ] = None,
    landmarks: Landmarks = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Folder, or one .mp4, .glb or .npz file [default: SPEECH-kmtalk/]."),
    ] = None,
    whisper: Whisper = "base",
    language: Language = None,
    text: Text = None,
    textgrid: Annotated[
        Path | None, typer.Option(help="Praat TextGrid with a tier of phones: skips alignment.")
    ] = None,
    aligner: Aligner = "auto",
    acoustic: Acoustic = None,
    dictionary: Dictionary = None,
    motion: Annotated[str, typer.Option(help="How the mouth is made: network or rules.")] = "network",
    network: Network = None,
    style: Annotated[
        str | None,
        typer.Option(
            help="natural (a real speaker), neutral, clear, relaxed, expressive, population (many speakers), shares "
            "such as clear:0.5,relaxed:0.5, or mean; with --motion rules neutral, clear, relaxed, "
            "expressive, or a number for a random speaker."
        ),
    ] = None,
    intensity: Annotated[str | None, typer.Option(help="Size of the motion: 1.2, or jaw=1.2,lips=0.9.")] = None,
    emotion: Annotated[str, typer.Option(help="none: no corpus here shows any honestly.")] = "none",
    expression: Annotated[
        bool, typer.Option("--expression/--no-expression", help="The layer of brows, lids and head, made by rule.")
    ] = True,
    seed: Annotated[int, typer.Option(help="Seed of blinks and small variation.")] = 0,
    fps: Annotated[float, typer.Option(help="Frames per second.")] = 30.0,
    size: Annotated[str, typer.Option(help="Video size in pixels: 512 or 1280x720.")] = "512",
    quality: Annotated[str, typer.Option(help="Video: draft (fast) or high (lit per pixel).")] = "draft",
    video: Annotated[bool, typer.Option("--video/--no-video", help="Render the mp4.")] = True,
    sheet: Annotated[
        Path | None, typer.Option(help="Also write a contact sheet PNG: frames at the first 40 phones.")
    ] = None,
) -> None:
    """Animate a face: mesh animation, video, TextGrid and key frames from speech."""
    with _one_line():
        from kmtalk.animation import SUFFIXES, check_writable
        from kmtalk.render.video import check_size

        if emotion != "none":
            raise InputError(f"--emotion {emotion}: these weights know no emotion; none is the only one")
        if quality not in ("draft", "high"):
            raise InputError(f"--quality {quality}: draft or high")
        pixels = _size(size)
        target = output or speech.parent / f"{speech.stem}-kmtalk"
        # "face.avi" is a kind of file that is not written; "take.2" and "take.v2" are folders' names
        a_file = output and re.fullmatch(r"\.([a-z]{2,5}\d?|m4[av])", target.suffix.lower())
        if a_file and target.suffix.lower() not in SUFFIXES and not target.is_dir():
            raise InputError(f"{target}: -o takes a folder, or a file ending in {', '.join(SUFFIXES)}")
        check_size(pixels)
        if sheet and sheet.suffix.lower() != ".png":
            raise InputError(f"{sheet}: a contact sheet is written as .png")
        for path in (target, sheet):
            if path is not None:
                _check_no_input(path, speech, template, landmarks, textgrid, text, acoustic, dictionary)
                check_writable(path)
        progress = _Screen()
        with progress.stage("load"):
            from kmtalk.pipeline import KMTalk

        talk = KMTalk(whisper, aligner, acoustic, dictionary, network, warn=_say, progress=progress)
        animation = talk.animate(
            speech,
            template,
            landmarks=landmarks,
            text=_text(text),
            textgrid=textgrid,
            fps=fps,
            language=language,
            motion=motion,
            style=style,
            intensity=intensity,
            expression=expression,
            seed=seed,
        )
        written = animation.save(target, video=video, size=pixels, quality=quality, progress=progress)
        if sheet is not None:
            animation.sheet(sheet)
            written.append(sheet)
        for path in written:
            print(path)


@app.command()
def fit(
    template: Annotated[Path, typer.Argument(help="Face mesh, or a folder of OBJ shapes.", show_default=False)],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Rig to write [default: TEMPLATE.kmrig].")
    ] = None,
    landmarks: Landmarks = None,
    refine: Annotated[bool, typer.Option("--refine", help="Amberg's non-rigid ICP: slower.")] = False,
    rig: Annotated[Path | None, typer.Option(help="A .kmrig of the same topology, whose shapes carry over.")] = None,
) -> None:
    """Fit the rig to a mesh: writes face.kmrig, a preview face-fit.png and a report face-fit.json."""
    with _one_line():
        import json

        from kmtalk.animation import check_writable, finished
        from kmtalk.face.files.load import load_template
        from kmtalk.face.fit import NoFace
        from kmtalk.face.kmrig import SUFFIX, save_kmrig
        from kmtalk.face.names import MARKS

        if output is None and not template.name:
            raise InputError(f"{template}: give -o with the rig's name")
        if template.suffix.lower() == SUFFIX:
            raise InputError(f"{template}: is a fitted rig already; use it with kmtalk animate --template")
        target = output or template.with_suffix(SUFFIX)
        if target.suffix.lower() != SUFFIX:
            raise InputError(f"{target}: -o takes a file ending in {SUFFIX}")
        picture, paper = (target.with_name(f"{target.stem}-fit{suffix}") for suffix in (".png", ".json"))
        for path in (target, picture, paper):
            _check_no_input(path, template, landmarks, rig)
            check_writable(path)
        progress = _Screen()
        with progress.stage("load"):
            from kmtalk.pipeline import KMTalk
            from kmtalk.render.preview import write_mesh_preview, write_preview

        talk = KMTalk(warn=_say, progress=progress)
        mesh = load_template(template)
        try:
            fitted = talk.fit(mesh, landmarks, refined=refine, known=rig)
        except NoFace as refusal:
            seen = ""
            with suppress(InputError), finished(picture) as temporary:  # the refusal stands without a picture
                write_mesh_preview(temporary, mesh)
                seen = f" (what was looked at: {picture})"
            raise InputError(f"{refusal}{seen}") from None
        with finished(target) as temporary:
            save_kmrig(temporary, fitted)
        with finished(paper) as temporary:
            t = fitted.rig.template
            marks = {name: t.vertices[v].astype(float).tolist() for name, v in t.landmarks.items() if name in MARKS}
            document = fitted.report.document() | {"landmarks": marks}
            temporary.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        written = [target, paper]
        try:
            with progress.stage("preview"), finished(picture) as temporary:
                write_preview(temporary, fitted)
            written.append(picture)
        except InputError as error:
            _say(f"no preview: {error}")
        report = fitted.report
        _say(f"{template}: {report.way}, confidence {report.confidence}")
        for line in (*report.doubts, *report.remarks):
            _say(line)
        for path in written:
            print(path)


@app.command()
def align(
    speech: Speech,
    output: Annotated[Path, typer.Option("-o", "--output", help="TextGrid to write.")],
    whisper: Whisper = "base",
    language: Language = None,
    text: Text = None,
    aligner: Aligner = "auto",
    acoustic: Acoustic = None,
    dictionary: Dictionary = None,
) -> None:
    """Find words and phones: writes a TextGrid that Praat and MFA read."""
    with _one_line():
        from kmtalk.animation import check_writable, finished

        if output.suffix.lower() != ".textgrid":
            raise InputError(f"{output}: -o takes a file ending in .TextGrid")
        _check_no_input(output, speech, text, acoustic, dictionary)
        check_writable(output)
        progress = _Screen()
        with progress.stage("load"):
            from kmtalk.pipeline import KMTalk
            from kmtalk.speech.alignment import write_textgrid

        said: list[str] = []
        talk = KMTalk(whisper, aligner, acoustic, dictionary, warn=said.append, progress=progress)
        audio, alignment = talk.align(speech, text=_text(text), language=language)
        if alignment.status == "uniform":
            raise InputError(f"{speech}: no phones to write ({alignment.aligner})")
        for line in said:
            _say(line)
        with finished(output) as temporary:
            write_textgrid(alignment, temporary, audio.duration)
        print(output)


corpus = typer.Typer(no_args_is_help=True, help="Make corpora to train on.")
app.add_typer(corpus, name="corpus")


@corpus.command()
def build(
    kind: Annotated[str, typer.Argument(help="simulated: many voices with the simulated speaker's motion.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to make.")],
    clips: Annotated[int, typer.Option(min=1, help="About how many clips.")] = 1400,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Make a corpus from what voices are installed (data/README.md tells which there are)."""
    with _one_line():
        from kmtalk.animation import finished
        from kmtalk.corpora.simulated import build as build_simulated
        from kmtalk.face.rig import load_rig
        from kmtalk.weights import asset

        if kind != "simulated":
            raise InputError(f"{kind}: no such corpus to build; only simulated is made here")
        if output.exists() and (not output.is_dir() or any(output.iterdir())):
            raise InputError(f"{output}: is there already; give a new folder")
        with finished(output) as temporary:
            temporary.mkdir()
            made = build_simulated(temporary, load_rig(asset("head.safetensors")), clips, seed, _Screen(), _say)
        print(f"{output}: {made} clips, simulated")


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="YAML config; see data/configs.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for weights, checkpoint and log.")],
) -> None:
    """Train the network; goes on where a run in the same folder was stopped. For several processes or
    machines: accelerate launch -m kmtalk.cli train CONFIG -o DIR."""
    with _one_line():
        try:
            import accelerate  # noqa: F401
            import pydantic  # noqa: F401
            import tensorboard  # noqa: F401
            import yaml  # noqa: F401
        except ImportError as missing:
            raise InputError(f"training needs {missing.name}: pip install 'kmtalk[train]'") from None
        from kmtalk.animation import check_writable
        from kmtalk.face.rig import load_rig
        from kmtalk.training.config import load_config
        from kmtalk.training.corpora import gather
        from kmtalk.training.loop import Trainer
        from kmtalk.weights import asset

        plan, rig, progress = load_config(config), load_rig(asset("head.safetensors")), _Screen()
        for folder in (output, plan.cache or output):
            if folder.exists() and not folder.is_dir():
                raise InputError(f"{folder}: is a file; a folder is wanted there")
            check_writable(folder / "run")
        clips, judged = gather(plan.corpora, rig, progress)
        print(Trainer(plan, clips, judged, rig, output, progress, _say).run())


@app.command()
def evaluate(
    path: Annotated[Path, typer.Argument(help="The corpus's folder.")],
    corpus_name: Annotated[str, typer.Option("--corpus", help="grid: real lips, tracked.")] = "grid",
    network: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=FILE of further trained weights, each a row; names that end in -1, -2 … are seeds of one."
        ),
    ] = None,
    given: Annotated[bool, typer.Option("--given-phones", help="True phones instead of own transcription.")] = False,
    cache: Annotated[Path | None, typer.Option(help="Folder that keeps transcriptions and features.")] = None,
    clips: Annotated[int | None, typer.Option(min=2, help="Only so many clips.")] = None,
) -> None:
    """Score mouths against real lips: baselines, rules, the shipped network and further ones, by rows."""
    with _one_line():
        if corpus_name != "grid":
            raise InputError(f"--corpus {corpus_name}: only grid can be evaluated on yet")
        from kmtalk.evaluate import evaluate_grid

        for line in evaluate_grid(path, network or [], given, cache, clips, _Screen(), _say):
            print(line, flush=True)


@app.callback(invoke_without_command=True)
def _main(
    version: Annotated[bool, typer.Option("--version", help="Show the version and leave.")] = False,
) -> None:
    if version:
        print(f"kmtalk {__version__}")
        raise typer.Exit


if __name__ == "__main__":  # python -m kmtalk.cli, for accelerate launch
    app()
