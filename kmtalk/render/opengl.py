"""Selects an OpenGL that works without a screen. Call `select_backend` before importing pyrender."""

from __future__ import annotations

import ctypes
import glob
import importlib.util
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

DEVICE = "EGL_DEVICE_ID"
"""Environment variable with the number of the EGL device, which pyrender reads."""

SOFTWARE = ("llvmpipe", "softpipe", "swrast", "swr ", "software")
"""Parts of the names of what draws on the processor, in Mesa."""


class OpenGLNotFoundError(RuntimeError):
    """No OpenGL works on this machine."""


def select_backend() -> str:
    """Configure pyrender for the first OpenGL that works.

    Tries EGL (on a GPU before the processor, or on the device EGL_DEVICE_ID), the system's OSMesa and the OSMesa of the
    lavavu-osmesa wheel, or only the one that the environment variable KMTALK_GL names; on macOS the system's own OpenGL
    is used.

    Returns:
        The name: "egl", "osmesa", "osmesa-wheel" or "macos".

    Raises:
        OpenGLNotFoundError: None of them works.
    """
    if sys.platform == "darwin":
        return "macos"
    _stub_pyglet()
    tried = []
    for name, attempt in (("egl", _use_egl), ("osmesa", _use_system_osmesa), ("osmesa-wheel", _use_wheel_osmesa)):
        requested = os.environ.get("KMTALK_GL")
        if requested not in (None, name):
            continue
        if attempt():
            return name
        tried.append(name)
    raise OpenGLNotFoundError(
        f"no OpenGL found (tried {', '.join(tried)}); run 'apt-get install libegl1 libgl1', "
        "or 'pip install --no-deps lavavu-osmesa', or pass --no-video"
    )


def _first_loadable(*names: str) -> str | None:
    for name in names:
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return name
    return None


def _use_egl() -> bool:
    if not (_first_loadable("libEGL.so.1") and _first_loadable("libOpenGL.so.0", "libGL.so.1")):
        return False
    os.environ["PYOPENGL_PLATFORM"] = "egl"
    try:  # the library may be installed without a driver
        from pyrender.platforms import egl

        numbers = range(max(1, len(egl.query_devices())))
        chosen = os.environ.get(DEVICE)
        renderers = {n: _egl_renderer(n) for n in (numbers if chosen is None else [int(chosen)])}
        working = {n: renderer for n, renderer in renderers.items() if renderer}
        # a GPU before the processor
        number = min(working, key=lambda n: _draws_on_processor(working[n]))
    except Exception:
        for module in [m for m in sys.modules if m.split(".")[0] in ("OpenGL", "pyrender")]:
            del sys.modules[module]
        return False
    os.environ[DEVICE] = str(number)
    return True


def _egl_renderer(number: int) -> str | None:
    """The name of what draws on an EGL device; None where nothing does."""
    from OpenGL import GL
    from pyrender.platforms import egl

    try:
        platform = egl.EGLPlatform(16, 16, device=egl.get_device_by_index(number))
        platform.init_context()
        platform.make_current()
        renderer = GL.glGetString(GL.GL_RENDERER).decode(errors="replace")
        platform.delete_context()
    except Exception:  # a device without a driver, or one that this user may not open
        return None
    return str(renderer)


def _draws_on_processor(renderer: str) -> bool:
    return any(name in renderer.lower() for name in SOFTWARE)


def _use_system_osmesa() -> bool:
    library = _first_loadable("libOSMesa.so.8", "libOSMesa.so")
    return library is not None and _use_osmesa(lambda: ctypes.CDLL(library, mode=ctypes.RTLD_LOCAL))


def _use_wheel_osmesa() -> bool:
    spec = importlib.util.find_spec("lavavu")  # only located, never imported
    if spec is None:
        return False
    root = Path(spec.origin or next(iter(spec.submodule_search_locations or [""]))).parent.parent
    libraries = glob.glob(str(root / "lavavu_osmesa.libs" / "libOSMesa*.so*"))
    return bool(libraries) and _use_osmesa(lambda: _load_with_neighbours(Path(libraries[0])))


def _load_with_neighbours(path: Path) -> ctypes.CDLL:
    """Load a library of the wheel after its dependencies: they have no rpath, so retry until the order works."""
    remaining = [p for p in path.parent.glob("*.so*") if p != path]
    while remaining:
        failed = []
        for library in remaining:
            try:
                ctypes.CDLL(str(library), mode=ctypes.RTLD_LOCAL)
            except OSError:
                failed.append(library)
        if len(failed) == len(remaining):
            break
        remaining = failed
    return ctypes.CDLL(str(path), mode=ctypes.RTLD_LOCAL)


class _OSMesaModule(types.ModuleType):
    """Module in which PyOpenGL looks up the platform class.

    The class is created on access because its base class can only be imported while PyOpenGL selects a platform.
    """

    load: Callable[[], ctypes.CDLL]

    def __getattr__(self, name: str) -> Any:
        if name != "OSMesa":
            raise AttributeError(name)
        from OpenGL.platform import baseplatform
        from OpenGL.platform.osmesa import OSMesaPlatform

        load = self.load

        class OSMesa(OSMesaPlatform):
            @baseplatform.lazy_property
            def GL(self) -> Any:
                return load()

            @baseplatform.lazy_property
            def GetCurrentContext(self) -> Any:
                # return an int: pyrender uses it as the key of its program cache; a new pointer object per call
                # would recompile the shader and leak 3 MB per frame
                function = self.OSMesa.OSMesaGetCurrentContext
                function.restype = ctypes.c_void_p
                return function

        return OSMesa


def _use_osmesa(load: Callable[[], ctypes.CDLL]) -> bool:
    try:
        load()
    except OSError:
        return False
    os.environ["PYOPENGL_PLATFORM"] = "kmtalk_osmesa"
    from OpenGL.plugins import PlatformPlugin

    module = _OSMesaModule("kmtalk_osmesa_platform")
    module.load = load
    sys.modules[module.__name__] = module
    PlatformPlugin("kmtalk_osmesa", f"{module.__name__}.OSMesa")
    import OpenGL.platform  # noqa: F401 (loads the plugin)

    os.environ["PYOPENGL_PLATFORM"] = "osmesa"  # the name that pyrender checks
    return True


def _stub_pyglet() -> None:
    """Replace pyglet by a stub: pyrender imports its on-screen viewer, and importing pyglet needs X libraries."""
    if "pyglet" in sys.modules:
        return
    pyglet = types.ModuleType("pyglet")
    pyglet.options = {}  # type: ignore[attr-defined]
    clock = types.ModuleType("pyglet.clock")
    pyglet.clock = clock  # type: ignore[attr-defined]
    pyglet.window = types.SimpleNamespace(Window=object)  # type: ignore[attr-defined]
    sys.modules["pyglet"] = pyglet
    sys.modules["pyglet.clock"] = clock


if __name__ == "__main__":
    try:
        print(select_backend())
    except OpenGLNotFoundError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
