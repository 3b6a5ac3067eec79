import { PropertyBinding, Vector3 } from 'three';
import { GLTFLoader } from 'three/addons/loaders/GLTFLoader.js';
import { MorphedMesh } from './morphs.js';

/** The model, posed for a frame; shapes that the user has set keep their value. */
export class Face {
  held = new Map();
  frame = -1;

  static async load(buffer) {
    return new Face(await new GLTFLoader().parseAsync(buffer, ''));
  }

  constructor({ scene, animations, parser }) {
    this.scene = scene;
    // GLTFLoader makes one Mesh per primitive, and the primitives of a glTF mesh have the same parent.
    const byMesh = new Map();
    scene.traverse((object) => {
      if (!object.isMesh) return;
      const key = `${object.parent.id} ${parser.associations.get(object)?.meshes}`;
      byMesh.set(key, [...(byMesh.get(key) ?? []), object]);
    });
    this.meshes = [...byMesh.values()].map((meshes) => new MorphedMesh(meshes));
    this.primitives = this.meshes.flatMap(({ primitives }) => primitives);
    this.restWeights = this.primitives.map(({ mesh }) => mesh.morphTargetInfluences?.slice() ?? []);
    // A character may have other animations before ours.
    const animation = animations.find(({ name }) => name === 'kmtalk') ?? animations[0];
    this.tracks = (animation?.tracks ?? []).map((track) => ({
      sampler: track.createInterpolant(),
      binding: PropertyBinding.create(scene, track.name),
    }));
    // The targets of each shape: several primitives (skin, teeth) share a name.
    this.places = new Map();
    for (const { mesh } of this.primitives) {
      for (const [name, target] of Object.entries(mesh.morphTargetDictionary ?? {})) {
        if (!this.places.has(name)) this.places.set(name, []);
        this.places.get(name).push({ mesh, target });
      }
    }
    this.names = [...this.places.keys()];
  }

  pose(frame, fps) {
    this.frame = frame;
    this.primitives.forEach(({ mesh }, number) => {
      this.restWeights[number].forEach((weight, target) => (mesh.morphTargetInfluences[target] = weight));
    });
    for (const { sampler, binding } of this.tracks) binding.setValue(sampler.evaluate(frame / fps), 0);
    for (const [name, value] of this.held) {
      for (const { mesh, target } of this.places.get(name)) mesh.morphTargetInfluences[target] = value;
    }
    for (const mesh of this.meshes) mesh.update();
  }

  weight(name) {
    const { mesh, target } = this.places.get(name)[0];
    return mesh.morphTargetInfluences[target];
  }

  weights() {
    return Object.fromEntries(this.names.map((name) => [name, this.weight(name)]));
  }

  /** The animation's weight of a shape in every frame. */
  curve(name, frames, fps) {
    const { mesh, target } = this.places.get(name)[0];
    const track = this.tracks.find(({ binding }) => binding.node === mesh);
    if (!track) return new Float32Array(frames).fill(this.weight(name));
    return Float32Array.from({ length: frames }, (_, frame) => track.sampler.evaluate(frame / fps)[target]);
  }

  /** Positions of all primitives, one after the other, as they are in the file. */
  positions() {
    return this.primitives.flatMap(({ position }) => [...position.array]);
  }

  /** The vertices, in the scene, that the shapes of some names move by at least a share of the largest displacement. */
  movedPoints(names, share) {
    const wanted = this.names.filter((name) => names.test(name)).flatMap((name) => this.places.get(name));
    const displacements = this.primitives.map(() => new Map());
    for (const { mesh, target } of wanted) {
      const number = this.primitives.findIndex((primitive) => primitive.mesh === mesh);
      const moved = this.primitives[number].targets.find((one) => one.number === target);
      moved?.places.forEach((place, i) => {
        const vertex = Math.floor(place / 3);
        displacements[number].set(vertex, Math.max(displacements[number].get(vertex) ?? 0, Math.abs(moved.deltas[i])));
      });
    }
    let largest = 0;
    for (const one of displacements) for (const displacement of one.values()) largest = Math.max(largest, displacement);
    this.scene.updateMatrixWorld();
    return this.primitives.flatMap(({ mesh }, number) =>
      [...displacements[number]]
        .filter(([, displacement]) => displacement >= share * largest)
        .map(([vertex]) => mesh.localToWorld(mesh.getVertexPosition(vertex, new Vector3()))));
  }

  /** Positions of all primitives, one after the other, after skinning, in the model's own axes. */
  skinnedPositions() {
    this.scene.updateMatrixWorld(true);
    return this.primitives.flatMap(({ mesh, position }) =>
      Array.from({ length: position.count }, (_, i) =>
        this.scene.worldToLocal(mesh.localToWorld(mesh.getVertexPosition(i, new Vector3()))).toArray()).flat());
  }
}
