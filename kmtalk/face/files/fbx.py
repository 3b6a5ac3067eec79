"""FBX characters, which Blender converts to GLB once; the conversion is kept in the user's cache."""

from __future__ import annotations

import atexit
import hashlib
from contextlib import ExitStack
from pathlib import Path

from platformdirs import user_cache_path

from kmtalk.blender_process import SCRIPTS, find_blender, run_in_blender
from kmtalk.errors import InputError
from kmtalk.output import atomic_write
from kmtalk.working_folders import temporary_folder

_uncached: dict[str, Path] = {}


def glb_of_fbx(path: Path) -> Path:
    """Return the GLB that Blender makes of an FBX file.

    Raises:
        InputError: There is no Blender, or it cannot read the file.
    """
    digest = hashlib.sha256(path.read_bytes())
    digest.update((SCRIPTS / "convert.py").read_bytes())
    digest.update(str(find_blender()).encode())
    if digest.hexdigest() in _uncached:
        return _uncached[digest.hexdigest()]
    target = user_cache_path("kmtalk", appauthor=False) / "fbx" / f"{digest.hexdigest()}.glb"
    if not target.is_file():
        with temporary_folder() as folder:
            made = folder / "character.glb"
            run_in_blender("convert.py", [str(path.resolve()), str(made)], str(path))
            try:
                with atomic_write(target) as temporary:
                    temporary.write_bytes(made.read_bytes())
            except InputError:  # no cache can be written: the file lives as long as this process
                stack = ExitStack()
                atexit.register(stack.close)
                target = stack.enter_context(temporary_folder()) / target.name
                target.write_bytes(made.read_bytes())
                _uncached[digest.hexdigest()] = target
    return target
