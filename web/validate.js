// Prints the report of the Khronos glTF validator on a file, as JSON: npm run validate --silent -- animation.glb
import { readFileSync } from 'node:fs';
import validator from 'gltf-validator';

const report = await validator.validateBytes(new Uint8Array(readFileSync(process.argv[2])));
console.log(JSON.stringify(report.issues));
