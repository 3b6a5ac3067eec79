// Morph targets on the CPU. The files have no normals for the targets, so normals are recomputed for
// each pose, and a file with one target per frame has more targets than some GPUs support.
import { BufferAttribute, BufferGeometry } from 'three';

function floatsOf(attribute) {
  if (attribute.array instanceof Float32Array && !attribute.isInterleavedBufferAttribute) return attribute.array;
  const floats = new Float32Array(attribute.count * 3);
  for (let i = 0; i < floats.length; i++) floats[i] = attribute.getComponent(Math.floor(i / 3), i % 3);
  return floats;
}

/** The nonzero coordinates of a morph target; most targets move few vertices. */
function sparse(attribute) {
  const all = floatsOf(attribute);
  const places = [];
  for (let i = 0; i < all.length; i++) if (all[i] !== 0) places.push(i);
  return { places: Uint32Array.from(places), deltas: Float32Array.from(places, (i) => all[i]) };
}

/** One primitive of a glTF mesh; targets that move none of its vertices are left out. */
class MorphedPrimitive {
  constructor(mesh) {
    const source = mesh.geometry;
    const { position, normal } = source.attributes;
    this.mesh = mesh;
    this.index = source.index?.array ?? Uint32Array.from({ length: position.count }, (_, i) => i);
    this.rest = floatsOf(position);
    this.restNormals = normal && floatsOf(normal);
    this.targets = (source.morphAttributes.position ?? [])
      .map((attribute, number) => ({ number, weight: 0, ...sparse(attribute) }))
      .filter(({ places }) => places.length);
    this.position = new BufferAttribute(this.rest.slice(), 3);
    this.normal = new BufferAttribute(new Float32Array(this.rest.length), 3);

    const geometry = new BufferGeometry();
    geometry.setIndex(source.index);
    for (const name in source.attributes) geometry.setAttribute(name, source.attributes[name]);
    geometry.setAttribute('position', this.position);
    geometry.setAttribute('normal', this.normal);
    mesh.geometry = geometry;
  }

  /** Moves the vertices to the current weights; returns whether any weight has changed. */
  pose() {
    const weights = this.mesh.morphTargetInfluences;
    if (!this.targets.some(({ number, weight }) => weights[number] !== weight)) return false;
    const { array } = this.position;
    array.set(this.rest);
    for (const target of this.targets) {
      const weight = (target.weight = weights[target.number]);
      if (!weight) continue;
      const { places, deltas } = target;
      for (let i = 0; i < places.length; i++) array[places[i]] += weight * deltas[i];
    }
    this.position.needsUpdate = true;
    return true;
  }

  /** Adds the normals of the triangles to the sums of their vertices. */
  addNormals(sums) {
    const { index, welded } = this;
    const position = this.position.array;
    for (let f = 0; f < index.length; f += 3) {
      const a = index[f] * 3, b = index[f + 1] * 3, c = index[f + 2] * 3;
      const ux = position[b] - position[a], vx = position[c] - position[a];
      const uy = position[b + 1] - position[a + 1], vy = position[c + 1] - position[a + 1];
      const uz = position[b + 2] - position[a + 2], vz = position[c + 2] - position[a + 2];
      const x = uy * vz - uz * vy, y = uz * vx - ux * vz, z = ux * vy - uy * vx;
      for (let k = 0; k < 3; k++) {
        const at = welded[index[f + k]] * 3;
        sums[at] += x, sums[at + 1] += y, sums[at + 2] += z;
      }
    }
  }

  takeNormals(sums) {
    const { welded, normalOffset } = this;
    const normals = this.normal.array;
    for (let v = 0; v < welded.length; v++) {
      const x = sums[welded[v] * 3], y = sums[welded[v] * 3 + 1], z = sums[welded[v] * 3 + 2];
      const length = Math.hypot(x, y, z) || 1;
      normals[v * 3] = x / length, normals[v * 3 + 1] = y / length, normals[v * 3 + 2] = z / length;
    }
    if (normalOffset) for (let i = 0; i < normals.length; i++) normals[i] += normalOffset[i];
    this.normal.needsUpdate = true;
  }
}

/**
 * The primitives of one glTF mesh. Vertices that are split at a seam of texture coordinates or between
 * materials share one normal; they have the same position and normal in the file.
 */
export class MorphedMesh {
  constructor(meshes) {
    this.primitives = meshes.map((mesh) => new MorphedPrimitive(mesh));
    const numbers = new Map();
    for (const primitive of this.primitives) {
      const { rest, restNormals } = primitive;
      primitive.welded = Uint32Array.from({ length: rest.length / 3 }, (_, v) => {
        const keys = [...rest.subarray(v * 3, v * 3 + 3)];
        for (let k = 0; restNormals && k < 3; k++) keys.push(Math.round(restNormals[v * 3 + k] * 1000));
        const key = keys.join();
        if (!numbers.has(key)) numbers.set(key, numbers.size);
        return numbers.get(key);
      });
    }
    this.sums = new Float32Array(numbers.size * 3);
    this.#computeNormals();
    // The difference between the file's normals and the smooth ones is kept in every pose.
    for (const primitive of this.primitives) {
      primitive.normalOffset = primitive.restNormals?.map((n, i) => n - primitive.normal.array[i]);
    }
    this.#computeNormals();
  }

  update() {
    const changed = this.primitives.map((primitive) => primitive.pose());
    if (changed.includes(true)) this.#computeNormals();
  }

  #computeNormals() {
    this.sums.fill(0);
    for (const primitive of this.primitives) primitive.addNormals(this.sums);
    for (const primitive of this.primitives) primitive.takeNormals(this.sums);
  }
}
