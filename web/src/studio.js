// The light of the scene and what is behind the face: a photographer's studio.
import {
  BackSide, BoxGeometry, CanvasTexture, DirectionalLight, FrontSide, Mesh, MeshBasicMaterial, PlaneGeometry,
  PMREMGenerator, Scene, SRGBColorSpace, Vector3,
} from 'three';

// Directions towards the light (x right, y up, z towards the viewer), colours and intensities.
const LIGHTS = {
  key: [new Vector3(-0.6, 0.62, 0.9), 0xfff4e8, 1.9],
  fill: [new Vector3(1.4, 0.1, 1.0), 0xdfe9ff, 0.55],
  rim: [new Vector3(0.9, 0.8, -1.6), 0xffffff, 1.6],
};
// Size and brightness of the lamps' reflections: eyes and wet lips mirror them.
const PANELS = { key: [1.2, 2.4, 18], fill: [1, 3, 4], rim: [1, 3, 4] };

/** The lamps as bright panels in a grey room, for the light from all around and for reflections. */
function environmentScene() {
  const scene = new Scene();
  const add = (geometry, colour, brightness, side = FrontSide) => {
    const mesh = new Mesh(geometry, new MeshBasicMaterial({ color: colour, side }));
    mesh.material.color.multiplyScalar(brightness);
    scene.add(mesh);
    return mesh;
  };
  add(new BoxGeometry(12, 9, 12), 0xf1f3fa, 0.42, BackSide);
  add(new PlaneGeometry(12, 12), 0xcfb8a6, 0.22).rotateX(-Math.PI / 2).position.y = -4.4;
  for (const [name, [width, height, brightness]] of Object.entries(PANELS)) {
    const panel = add(new PlaneGeometry(width, height), LIGHTS[name][1], brightness);
    panel.position.copy(LIGHTS[name][0]).setLength(4.2);
    panel.lookAt(0, 0, 0);
  }
  return scene;
}

/** Lights a scene around a point; within `radius` of it the key light casts shadows. */
export function lightScene(scene, renderer, centre, radius) {
  const generator = new PMREMGenerator(renderer);
  scene.environment = generator.fromScene(environmentScene(), 0.02).texture;
  generator.dispose();
  for (const [name, [direction, colour, intensity]] of Object.entries(LIGHTS)) {
    const light = new DirectionalLight(colour, intensity);
    light.position.copy(direction).setLength(radius * 4).add(centre);
    light.target.position.copy(centre);
    scene.add(light, light.target);
    if (name !== 'key') continue;
    light.castShadow = true;
    light.shadow.mapSize.set(1024, 1024);
    light.shadow.radius = 5;
    light.shadow.normalBias = radius * 0.012;
    Object.assign(light.shadow.camera, {
      left: -radius, right: radius, bottom: -radius, top: radius, near: radius, far: radius * 8,
    });
  }
}

/** A soft gradient in the two colours of the page's theme. */
export function studioBackground(inner, outer) {
  const canvas = document.createElement('canvas');
  canvas.width = canvas.height = 256;
  const context = canvas.getContext('2d');
  const gradient = context.createRadialGradient(128, 108, 0, 128, 108, 190);
  gradient.addColorStop(0, inner);
  gradient.addColorStop(1, outer);
  context.fillStyle = gradient;
  context.fillRect(0, 0, 256, 256);
  const texture = new CanvasTexture(canvas);
  texture.colorSpace = SRGBColorSpace;
  return texture;
}
