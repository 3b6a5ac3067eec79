import {
  Box3, Color, DirectionalLight, HemisphereLight, PerspectiveCamera, NeutralToneMapping, Scene,
  Vector3, WebGLRenderer,
} from 'three';
import { OrbitControls } from 'three/addons/controls/OrbitControls.js';

/** The scene with lights and camera. Draws only after a change. */
export class Stage {
  #changed = true;
  #atHome = true;

  constructor(container, model) {
    this.container = container;
    this.renderer = new WebGLRenderer({ antialias: true, alpha: true });
    this.renderer.toneMapping = NeutralToneMapping;
    this.renderer.shadowMap.enabled = true;
    container.prepend(this.renderer.domElement);

    this.scene = new Scene();
    this.scene.add(model);
    const box = new Box3().setFromObject(model);
    this.centre = box.getCenter(new Vector3());
    this.size = box.getSize(new Vector3());
    this.radius = this.size.length() / 2 || 1;
    this.#light();

    this.camera = new PerspectiveCamera(24, 1, this.radius / 20, this.radius * 60);
    this.controls = new OrbitControls(this.camera, this.renderer.domElement);
    this.controls.enableDamping = true;
    this.controls.dampingFactor = 0.12;
    this.controls.minDistance = this.radius;
    this.controls.maxDistance = this.radius * 30;
    this.controls.addEventListener('change', () => this.invalidate());
    this.controls.addEventListener('start', () => (this.#atHome = false));
    this.renderer.domElement.addEventListener('dblclick', () => this.resetView());

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

  /** Views the face from the front, at the distance where its bounding box fits the view. */
  resetView() {
    const { camera, controls, size, centre } = this;
    const slope = Math.tan((camera.fov * Math.PI) / 360);
    const distance = Math.max(size.y, size.x / camera.aspect) / 2 / slope;
    // An update without damping stops any remaining rotation.
    controls.enableDamping = false;
    controls.update();
    controls.enableDamping = true;
    controls.target.copy(centre);
    camera.position.copy(centre);
    camera.position.z += distance * 1.06 + size.z / 3;
    controls.update();
    this.#atHome = true;
    this.invalidate();
  }

  #light() {
    const from = (x, y, z, colour, strength) => {
      const light = new DirectionalLight(new Color(colour), strength);
      light.position.copy(this.centre).addScaledVector(new Vector3(x, y, z), this.radius * 2);
      light.target.position.copy(this.centre);
      this.scene.add(light, light.target);
      return light;
    };
    this.scene.add(new HemisphereLight(0xf4f6ff, 0xb09a8c, 1.3));
    const key = from(-0.8, 1.0, 1.5, 0xfff3e6, 2.1);
    from(1.6, 0.2, 1.2, 0xe4edff, 0.7); // fill
    from(1.0, 0.6, -1.9, 0xffffff, 0.6); // rim
    key.castShadow = true;
    key.shadow.mapSize.set(512, 512);
    key.shadow.radius = 3;
    key.shadow.intensity = 0.75;
    key.shadow.normalBias = this.radius * 0.02;
    Object.assign(key.shadow.camera, {
      left: -this.radius, right: this.radius, bottom: -this.radius, top: this.radius,
      near: this.radius * 0.5, far: this.radius * 8,
    });
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
