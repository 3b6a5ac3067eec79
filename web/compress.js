// Compresses a GLB as web pages have it, for tests: node compress.js meshopt|draco|quantize IN OUT
import { NodeIO } from '@gltf-transform/core';
import { ALL_EXTENSIONS } from '@gltf-transform/extensions';
import { draco, meshopt, quantize } from '@gltf-transform/functions';
import draco3d from 'draco3dgltf';
import { MeshoptDecoder, MeshoptEncoder } from 'meshoptimizer';

const [kind, input, output] = process.argv.slice(2);
await MeshoptEncoder.ready;
const io = new NodeIO().registerExtensions(ALL_EXTENSIONS).registerDependencies({
  'meshopt.decoder': MeshoptDecoder,
  'meshopt.encoder': MeshoptEncoder,
  'draco3d.encoder': await draco3d.createEncoderModule(),
  'draco3d.decoder': await draco3d.createDecoderModule(),
});
const bits = { quantizePosition: 16, quantizeNormal: 10, quantizeTexcoord: 14 };
const steps = { meshopt: meshopt({ encoder: MeshoptEncoder, level: 'high', ...bits }), draco: draco(bits), quantize: quantize(bits) };
const document = await io.read(input);
await document.transform(steps[kind]);
await io.write(output, document);
