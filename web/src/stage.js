import {
  Box3, CustomBlending, Matrix4, NeutralToneMapping, OneFactor, PerspectiveCamera, Scene, Vector3, WebGLRenderer,
  ZeroFactor,
} from 'three';
import { OrbitControls } from 'three/addons/controls/OrbitControls.js';
import { lightScene, studioBackground } from './studio.js';

// Framing of the face, in units of the height from the chin to the eyes; the eyes are at a third from the top.
const FACE_HEIGHT = 2.5;
const FACE_WIDTH = 2.0;
const NECK = 0.5; // distance of the axis that the camera turns around behind the face
const [YAW, PITCH] = [0.2, 0.03]; // radians, as in the film: a slight turn shows the depth of the face

/**
 * The eyes' height, the chin's height and the centre of the face, in the scene. Files of other programs do not say
 * where they are: the lids are what blinking moves, and the chin is the lowest part that moves far with the jaw.
 */
function locateFace(face, focus) {
  if (focus) {
    const [eyes, chin] = [focus.eyes, focus.chin].map((point) => face.scene.localToWorld(new Vector3(...point)));
    return { eyes: eyes.y, chin: chin.y, centre: eyes.lerp(chin, 0.5) };
  }
  const [lids, jaw] = [face.movedPoints(/blink/i, 0.5), face.movedPoints(/jaw_?open/i, 0.6)];
  const mean = (points) => points.reduce((sum, point) => sum.add(point), new Vector3()).divideScalar(points.length);
  const lowest = (points) => points.reduce((least, { y }) => Math.min(least, y), Infinity);
  if (lids.length && jaw.length) {
    const eyes = mean(lids);
    return { eyes: eyes.y, chin: lowest(jaw), centre: eyes.clone().lerp(mean(jaw), 0.5) };
  }
  const box = new Box3().setFromPoints(face.movedPoints(/./, 0.15));
  if (box.isEmpty()) box.setFromObject(face.scene);
  const { min, max } = box;
  return { eyes: min.y + (max.y - min.y) * 0.7, chin: min.y, centre: box.getCenter(new Vector3()) };
}

/** Smooths the edges of hair and lashes by multisampling; the picture stays opaque there. */
function smoothCutOut(material) {
  material.alphaToCoverage = true;
  material.blending = CustomBlending;
  Object.assign(material, {
    blendSrc: OneFactor, blendDst: ZeroFactor, blendSrcAlpha: ZeroFactor, blendDstAlpha: OneFactor,
  });
}

/** The scene with studio and camera. Draws only after a change. */
export class Stage {
  onframing = () => {};
  closeUp = true;
  #changed = true;
  #atHome = true;

  constructor(container, face, focus) {
    this.container = container;
    this.renderer = new WebGLRenderer({ antialias: true });
    this.renderer.toneMapping = NeutralToneMapping;
    this.renderer.shadowMap.enabled = true;
    container.prepend(this.renderer.domElement);

    const model = face.scene;
    if (focus) {
      model.matrixAutoUpdate = false;
      model.matrix.copy(new Matrix4().set(
        ...focus.upright[0], 0, ...focus.upright[1], 0, ...focus.upright[2], 0, 0, 0, 0, 1,
      ));
      model.updateMatrixWorld(true);
    }
    for (const { mesh } of face.primitives) {
      mesh.frustumCulled = false;
      mesh.castShadow = mesh.receiveShadow = true;
      mesh.material.flatShading = false;
      if (mesh.material.map) mesh.material.map.anisotropy = 4;
      if (mesh.material.alphaTest) smoothCutOut(mesh.material);
    }
    this.scene = new Scene();
    this.scene.add(model);
    this.box = new Box3().setFromObject(model);
    this.face = locateFace(face, focus);
    const radius = this.box.getSize(new Vector3()).length() / 2 || 1;
    const faceSize = this.face.eyes - this.face.chin || radius;
    lightScene(this.scene, this.renderer, this.face.centre, Math.min(radius, faceSize * 2.5));

    this.camera = new PerspectiveCamera(18, 1, Math.min(radius, faceSize) / 8, radius * 60);
    this.controls = new OrbitControls(this.camera, this.renderer.domElement);
    this.controls.enableDamping = true;
    this.controls.dampingFactor = 0.12;
    this.controls.minDistance = faceSize;
    this.controls.maxDistance = radius * 30;
    this.controls.addEventListener('change', () => this.invalidate());
    this.controls.addEventListener('start', () => (this.#atHome = false));
    this.renderer.domElement.addEventListener('dblclick', () => this.resetView());

    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.#paintBackground());
    this.#paintBackground();
    new ResizeObserver(() => this.#resize()).observe(container);
    this.#resize();
  }

  invalidate() {
    this.#changed = true;
  }

  draw() {
    this.controls.update();
    if (!this.#changed) return;
    this.#changed = false;
    this.renderer.render(this.scene, this.camera);
  }

  /** Frames the face, or the whole model. */
  frame(closeUp) {
    this.closeUp = closeUp;
    this.resetView();
    this.onframing();
  }

  resetView() {
    const { camera, controls } = this;
    const slope = 2 * Math.tan((camera.fov * Math.PI) / 360);
    const target = new Vector3();
    let distance;
    if (this.closeUp) {
      const { eyes, chin, centre } = this.face;
      const size = eyes - chin;
      const height = size * Math.max(FACE_HEIGHT, FACE_WIDTH / camera.aspect);
      target.set(centre.x, eyes - height / 6, centre.z - size * NECK);
      distance = height / slope + size * NECK;
    } else {
      const size = this.box.getSize(new Vector3());
      this.box.getCenter(target);
      distance = (Math.max(size.y, Math.max(size.x, size.z) / camera.aspect) / slope) * 1.06 + size.z / 2;
    }
    // An update without damping stops any remaining rotation.
    controls.enableDamping = false;
    controls.update();
    controls.enableDamping = true;
    controls.target.copy(target);
    camera.position.setFromSphericalCoords(distance, Math.PI / 2 - PITCH, YAW).add(target);
    controls.update();
    this.#atHome = true;
    this.invalidate();
  }

  #paintBackground() {
    const style = getComputedStyle(this.container);
    const [inner, outer] = ['--stage-inner', '--stage-outer'].map((name) => style.getPropertyValue(name).trim());
    this.scene.background?.dispose();
    this.scene.background = studioBackground(inner, outer);
    this.invalidate();
  }

  #resize() {
    const { clientWidth: width, clientHeight: height } = this.container;
    if (!width || !height) return;
    this.renderer.setPixelRatio(Math.min(devicePixelRatio, 2));
    this.renderer.setSize(width, height);
    this.camera.aspect = width / height;
    this.camera.updateProjectionMatrix();
    if (this.#atHome) this.resetView();
    // Draw at once: a resized canvas is blank.
    this.invalidate();
    this.draw();
  }
}
