// Prints what three-vrm finds in a VRM animation, as JSON, for tests: node vrma.js animation.vrma
import { VRMAnimationLoaderPlugin } from '@pixiv/three-vrm-animation';
import { readFileSync } from 'node:fs';
import { GLTFLoader } from 'three/addons/loaders/GLTFLoader.js';

globalThis.self = globalThis;
const loader = new GLTFLoader().register((parser) => new VRMAnimationLoaderPlugin(parser));
const file = readFileSync(process.argv[2]);
const { userData } = await loader.parseAsync(file.buffer.slice(file.byteOffset, file.byteOffset + file.byteLength), '');
const [animation] = userData.vrmAnimations;
const values = (tracks) => Object.fromEntries([...tracks].map(([name, track]) => [name, [...track.values]]));
console.log(JSON.stringify({
  duration: animation.duration,
  rotations: values(animation.humanoidTracks.rotation),
  presets: values(animation.expressionTracks.preset),
  customs: values(animation.expressionTracks.custom),
  look: [...(animation.lookAtTrack?.values ?? [])],
}));
