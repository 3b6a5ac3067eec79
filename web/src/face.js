import { BufferAttribute, BufferGeometry, PropertyBinding } from 'three';
import { GLTFLoader } from 'three/addons/loaders/GLTFLoader.js';

/** Computes unit vertex normals as the normalised sum of the face normals around each vertex. */
function smoothNormals(position, index, normals) {
  normals.fill(0);
  for (let f = 0; f < index.length; f += 3) {
    const a = index[f] * 3, b = index[f + 1] * 3, c = index[f + 2] * 3;
    const ux = position[b] - position[a], vx = position[c] - position[a];
    const uy = position[b + 1] - position[a + 1], vy = position[c + 1] - position[a + 1];
    const uz = position[b + 2] - position[a + 2], vz = position[c + 2] - position[a + 2];
    const x = uy * vz - uz * vy, y = uz * vx - ux * vz, z = ux * vy - uy * vx;
    normals[a] += x, normals[a + 1] += y, normals[a + 2] += z;
    normals[b] += x, normals[b + 1] += y, normals[b + 2] += z;
    normals[c] += x, normals[c + 1] += y, normals[c + 2] += z;
  }
  for (let i = 0; i < normals.length; i += 3) {
    const length = Math.hypot(normals[i], normals[i + 1], normals[i + 2]) || 1;
    normals[i] /= length, normals[i + 1] /= length, normals[i + 2] /= length;
  }
}

function floatsOf(attribute) {
  const floats = new Float32Array(attribute.count * 3);
  for (let i = 0; i < floats.length; i++) floats[i] = attribute.getComponent(Math.floor(i / 3), i % 3);
  return floats;
}

/** The nonzero coordinates of a morph target; most targets move few vertices. */
function sparse(attribute) {
  const all = floatsOf(attribute);
  const places = Uint32Array.from(all.keys()).filter((i) => all[i] !== 0);
  return { places, deltas: Float32Array.from(places, (i) => all[i]) };
}

/**
 * A mesh whose morph targets are applied on the CPU instead of in the vertex shader. The files have
 * no normals for the targets, so normals are recomputed for each pose, and a file with one target
 * per frame has more targets than some GPUs support.
 */
class MorphedMesh {
  constructor(mesh) {
    const source = mesh.geometry;
    const { position, normal } = source.attributes;
    this.mesh = mesh;
    this.index = source.index?.array ?? Uint32Array.from({ length: position.count }, (_, i) => i);
    this.rest = floatsOf(position);
    this.restWeights = mesh.morphTargetInfluences?.slice() ?? [];
    this.targets = (source.morphAttributes.position ?? []).map(sparse);
    this.position = new BufferAttribute(this.rest.slice(), 3);
    this.normal = new BufferAttribute(new Float32Array(this.rest.length), 3);

    // The difference between the file's normals and the smooth ones (hard edges, seams) is kept in every pose.
    smoothNormals(this.rest, this.index, this.normal.array);
    this.normalOffset = normal && floatsOf(normal).map((n, i) => n - this.normal.array[i]);

    const geometry = new BufferGeometry();
    geometry.setIndex(source.index);
    for (const name in source.attributes) geometry.setAttribute(name, source.attributes[name]);
    geometry.setAttribute('position', this.position);
    geometry.setAttribute('normal', this.normal);
    mesh.geometry = geometry;
    mesh.material.flatShading = false;
    mesh.frustumCulled = false;
    mesh.castShadow = mesh.receiveShadow = true;
    this.update();
  }

  update() {
    const { position, normal, normalOffset } = this;
    position.array.set(this.rest);
    this.targets.forEach(({ places, deltas }, target) => {
      const weight = this.mesh.morphTargetInfluences[target];
      if (weight) for (let i = 0; i < places.length; i++) position.array[places[i]] += weight * deltas[i];
    });
    smoothNormals(position.array, this.index, normal.array);
    if (normalOffset) for (let i = 0; i < normalOffset.length; i++) normal.array[i] += normalOffset[i];
    position.needsUpdate = normal.needsUpdate = true;
  }
}

/** The model, posed for a frame; shapes that the user has set keep their value. */
export class Face {
  held = new Map();
  frame = -1;

  static async load(buffer) {
    return new Face(await new GLTFLoader().parseAsync(buffer, ''));
  }

  constructor({ scene, animations }) {
    this.scene = scene;
    this.meshes = [];
    scene.traverse((object) => object.isMesh && this.meshes.push(new MorphedMesh(object)));
    this.tracks = (animations[0]?.tracks ?? []).map((track) => ({
      sampler: track.createInterpolant(),
      binding: PropertyBinding.create(scene, track.name),
    }));
    // The targets of each shape: several meshes (head, teeth) may share a name.
    this.places = new Map();
    for (const { mesh } of this.meshes) {
      for (const [name, target] of Object.entries(mesh.morphTargetDictionary ?? {})) {
        if (!this.places.has(name)) this.places.set(name, []);
        this.places.get(name).push([mesh.morphTargetInfluences, target]);
      }
    }
    this.names = [...this.places.keys()];
  }

  pose(frame, fps) {
    this.frame = frame;
    for (const { mesh, restWeights } of this.meshes) {
      restWeights.forEach((weight, target) => (mesh.morphTargetInfluences[target] = weight));
    }
    for (const { sampler, binding } of this.tracks) binding.setValue(sampler.evaluate(frame / fps), 0);
    for (const [name, value] of this.held) {
      for (const [weights, target] of this.places.get(name)) weights[target] = value;
    }
    for (const mesh of this.meshes) if (mesh.targets.length) mesh.update();
  }

  weight(name) {
    const [weights, target] = this.places.get(name)[0];
    return weights[target];
  }

  weights() {
    return Object.fromEntries(this.names.map((name) => [name, this.weight(name)]));
  }

  positions() {
    return this.meshes[0].position.array.slice();
  }
}
