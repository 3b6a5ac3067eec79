"""Build the wheel and the sdist, check what they contain, and try them with every Python that is here.

Run `python tests/package.py`, or `make package-test`; `--here` tries only the running Python. The fresh environments
see the packages of the running one where the version of Python is the same; for other versions only what needs no
packages is tried: installation, metadata, and the syntax of all modules.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
CONTENTS = {
    "kmtalk",
    "assets",
    "data",
    "README.md",
    "LICENSE",
    "SECURITY.md",
    "pyproject.toml",
    "PKG-INFO",
    ".gitignore",
}
NEEDED = ("face.obj", "network.safetensors", "completion.safetensors", "speech.wav")  # among the assets
OLDEST, NEWEST = (3, 11), (3, 14)


def run(*command: object, cwd: Path | None = None) -> str:
    """Run a command; its output. Raises SystemExit with the output where it fails."""
    done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def build(folder: Path) -> tuple[Path, Path]:
    """Build a wheel from the sdist, as installers do; returns both."""
    run(sys.executable, "-m", "pip", "install", "--quiet", "--target", folder / "build", "hatchling>=1.25")
    code = f"import sys; sys.path.insert(0, {str(folder / 'build')!r}); import hatchling.build as b; "
    run(sys.executable, "-c", f"{code} b.build_sdist({str(folder)!r})", cwd=ROOT)
    (sdist,) = folder.glob("kmtalk-*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "source", filter="data")
    run(sys.executable, "-c", f"{code} b.build_wheel({str(folder)!r})", cwd=next((folder / "source").iterdir()))
    (wheel,) = folder.glob("kmtalk-*.whl")
    return sdist, wheel


def check_contents(sdist: Path, wheel: Path) -> None:
    """Raise AssertionError where assets are missing, or where tests or foreign files are inside."""
    with tarfile.open(sdist) as archive:
        source = {name.partition("/")[2] for name in archive.getnames()}
    with zipfile.ZipFile(wheel) as archive:
        installed = set(archive.namelist())
    for name in NEEDED:
        assert f"assets/{name}" in source, name
        assert f"kmtalk/assets/{name}" in installed, name
    modules = {str(p.relative_to(ROOT)) for p in (ROOT / "kmtalk").rglob("*.py")}
    assert modules <= source & installed, modules - (source & installed)
    tops = {name.partition("/")[0] for name in source}
    assert tops <= CONTENTS, tops - CONTENTS
    assert {name.partition("/")[0] for name in installed} == {"kmtalk", f"{wheel.name.split('-py3')[0]}.dist-info"}
    for name in source | installed:
        assert not any(part in ("tests", "shared", "__pycache__", ".venv") for part in Path(name).parts), name


def try_python(python: Path, wheel: Path, folder: Path) -> str:
    """Install the wheel in a fresh environment; what was tried."""
    version = run(python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])").strip()
    place = folder / f"venv-{version}"
    run(python, "-m", "venv", place)
    inside = place / "bin" / "python"
    run(inside, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel)
    packages = Path(run(inside, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    run(inside, "-m", "compileall", "-q", packages / "kmtalk")
    run(
        inside,
        "-c",
        "import kmtalk, importlib.metadata as m; assert m.version('kmtalk') == kmtalk.__version__",
        cwd=folder,
    )
    if version != f"{sys.version_info[0]}.{sys.version_info[1]}":
        return f"{version}: installed, compiled"
    (packages / "packages.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    command = place / "bin" / "kmtalk"
    assert "animate" in run(command, "--help", cwd=folder)
    assert str(packages) in run(command, "doctor", "--json", cwd=folder)
    tone = ROOT / "assets" / "speech.wav"
    run(command, "animate", tone, "--aligner", "uniform", "--text", "la", "-o", "a.npz", cwd=folder)
    shutil.rmtree(place)
    return f"{version}: installed, help, doctor, animate"


def main() -> None:
    names = [] if "--here" in sys.argv else [f"python{OLDEST[0]}.{minor}" for minor in range(OLDEST[1], NEWEST[1] + 1)]
    found = [Path(sys.executable)] + [Path(p) for p in map(shutil.which, names) if p]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sdist, wheel = build(folder)
        check_contents(sdist, wheel)
        print(f"{sdist.name}, {wheel.name}: {wheel.stat().st_size / 1e6:.0f} MB")
        tried: set[str] = set()
        for python in found:
            about = [python, "-c", "import sys; print(sys.version_info[:2])"]
            done = subprocess.run(about, capture_output=True, text=True, check=False)
            if done.returncode == 0 and done.stdout not in tried:  # a shim may stand for a Python that is not there
                tried.add(done.stdout)
                print(try_python(python, wheel, folder))


if __name__ == "__main__":
    main()
