"""Regenerates docs/avatar.jpg: a web avatar at three frames in kmtalk's film, in the web page and in Blender.

    python docs/avatar_pictures.py --blender PYTHON_WITH_BPY

Needs anny, Chromium with playwright, and a Python that has bpy.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "data" / "characters"))

from make_avatar import write_avatar  # noqa: E402

from kmtalk import KMTalk  # noqa: E402
from kmtalk.render.video import Cell, render_contact_sheet  # noqa: E402

CELL, LABELS = 384, ("kmtalk's film", "web page", "Blender")
PHONES = ("AO", "EY", "UW")  # of "calling", "waldo's" and "you"
IN_BLENDER = """
import os, runpy, sys
import bpy
from mathutils import Vector
folder, frames, eyes, chin = sys.argv[1], *map(eval, sys.argv[2:])
bpy.ops.wm.read_factory_settings(use_empty=True)
runpy.run_path(os.path.join(folder, "import_blender.py"), {"__file__": os.path.join(folder, "import_blender.py")})
scene = bpy.context.scene
scene.render.engine, scene.cycles.samples, scene.cycles.device = "CYCLES", 48, "CPU"
scene.render.resolution_x = scene.render.resolution_y = SIZE
scene.view_settings.view_transform = "Standard"
scene.world = bpy.data.worlds.new("world")
scene.world.use_nodes = True
scene.world.node_tree.nodes["Background"].inputs[0].default_value = (0.42, 0.44, 0.46, 1)
scene.world.node_tree.nodes["Background"].inputs[1].default_value = 0.7
up = lambda p: Vector((p[0], -p[2], p[1]))
eyes, chin = up(eyes), up(chin)
height = (eyes - chin).length
target = eyes.lerp(chin, 0.45)
lamp = bpy.data.objects.new("key", bpy.data.lights.new("key", "AREA"))
lamp.data.energy, lamp.data.size = 700 * height**2, 4 * height
lamp.location = target + Vector((-5, -8, 5)) * height
lamp.rotation_euler = (target - lamp.location).to_track_quat("-Z", "Y").to_euler()
camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
camera.data.angle = 0.314
camera.location = target + Vector((0.2, -1, 0.03)).normalized() * 8 * height
camera.rotation_euler = (target - camera.location).to_track_quat("-Z", "Y").to_euler()
for one in (lamp, camera):
    scene.collection.objects.link(one)
scene.camera = camera
for frame in frames:
    scene.frame_set(frame)
    scene.render.filepath = os.path.join(folder, f"blender-{frame}.png")
    bpy.ops.render.render(write_still=True)
""".replace("SIZE", str(CELL))


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blender", required=True, help="a Python that has bpy")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_avatar(folder / "avatar.glb")
        animation = KMTalk().animate(ROOT / "assets" / "speech.wav", folder / "avatar.glb")
        phones = [next(p for p in animation.alignment.phones if p.label.startswith(phone)) for phone in PHONES]
        frames = [int((p.start + p.end) / 2 * animation.fps) for p in phones]
        rows = [film(animation, frames, folder), page(animation, frames, folder)]
        rows.append(blender(animation, frames, folder, given.blender))
    sheet = Image.new("RGB", (CELL * len(frames), CELL * len(rows)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=18)
    for row, (pictures, label) in enumerate(zip(rows, LABELS, strict=True)):
        for column, picture in enumerate(pictures):
            sheet.paste(picture.convert("RGB").resize((CELL, CELL)), (CELL * column, CELL * row))
        draw.text((8, CELL * row + 6), label, fill=(30, 30, 40), font=font)
    sheet.save(ROOT / "docs" / "avatar.jpg", quality=85)


def film(animation, frames, folder):  # type: ignore[no-untyped-def]
    """Pictures of the film."""
    cells = [Cell(frame, "", "portrait", "face") for frame in frames]
    render_contact_sheet(animation.with_materials.motion, cells, folder / "film.png", CELL, len(cells))
    sheet = Image.open(folder / "film.png")
    return [sheet.crop((CELL * k, 0, CELL * (k + 1), CELL)) for k in range(len(frames))]


def page(animation, frames, folder):  # type: ignore[no-untyped-def]
    """Pictures of the web page, without its controls."""
    animation.save(folder / "page.html")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    arguments = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        opened = browser.new_page(viewport={"width": 900, "height": 900})
        opened.goto((folder / "page.html").as_uri())
        opened.evaluate("kmtalk.ready")
        out = []
        for frame in frames:
            opened.evaluate(f"kmtalk.seek({(frame + 0.5) / animation.fps})")
            opened.wait_for_timeout(300)
            picture = Image.open(io.BytesIO(opened.locator("canvas").first.screenshot()))
            side = min(picture.size)
            left, top = (picture.width - side) // 2, (picture.height - side) // 2
            out.append(picture.crop((left, top, left + side, top + side)))
        browser.close()
    return out


def blender(animation, frames, folder, python):  # type: ignore[no-untyped-def]
    """Pictures by Cycles."""
    animation.save(folder / "scene", formats="glb")
    marks = {name: animation.template.vertices[k] for name, k in animation.template.landmarks.items()}
    eyes = ((marks["eye_outer_left"] + marks["eye_outer_right"]) / 2).tolist()
    script = folder / "render.py"
    script.write_text(IN_BLENDER)
    arguments = [python, script, folder / "scene", frames, eyes, marks["chin"].tolist()]
    subprocess.run([str(a) for a in arguments], check=True, capture_output=True)
    return [Image.open(folder / "scene" / f"blender-{frame}.png") for frame in frames]


if __name__ == "__main__":
    main()
