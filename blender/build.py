"""Builds the Blender extension: dist/kmtalk-blender-VERSION.zip, with the version of kmtalk. Prints its path."""

from __future__ import annotations

import argparse
import re
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "blender" / "kmtalk"
MANIFEST = "blender_manifest.toml"


def build_extension(folder: Path) -> Path:
    """Write the zip file into a folder and return its path."""
    found = re.search(r'^__version__ = "(.+)"$', (ROOT / "kmtalk" / "__init__.py").read_text(encoding="utf-8"), re.M)
    assert found
    version = found[1]
    manifest = (SOURCE / MANIFEST).read_text(encoding="utf-8")
    manifest = re.sub(r"^version = .*$", f'version = "{version}"', manifest, count=1, flags=re.M)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"kmtalk-blender-{version}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(MANIFEST, manifest)
        archive.write(ROOT / "LICENSE", "LICENSE")
        for file in sorted(SOURCE.glob("*.py")):
            archive.write(file, file.name)
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "dist", help="folder (default: dist)")
    print(build_extension(parser.parse_args().output))
