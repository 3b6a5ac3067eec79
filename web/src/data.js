// Reads the data that Python embeds in the page: facts as JSON, the model as base64 of gzip.

export function bytesOfBase64(text) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

export function readFacts() {
  const facts = JSON.parse(document.getElementById('facts').textContent);
  facts.frames = Math.max(1, facts.frames);
  return facts;
}

/** The decompressed GLB as an ArrayBuffer. */
export async function readModel() {
  if (typeof DecompressionStream === 'undefined') {
    throw new Error('This browser is too old to decompress the model. Use a browser from 2023 or later.');
  }
  const packed = bytesOfBase64(document.getElementById('model').textContent.trim());
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream('gzip'));
  return new Response(stream).arrayBuffer();
}

/** A Blob URL for a data URL: seeking in a long data URL is not reliable in all browsers. */
export function blobUrl(dataUrl) {
  const comma = dataUrl.indexOf(',');
  const type = dataUrl.slice('data:'.length, comma).split(';')[0];
  return URL.createObjectURL(new Blob([bytesOfBase64(dataUrl.slice(comma + 1))], { type }));
}

/** The [text, start, end] that contains a time, or undefined. */
export function intervalAt(intervals, time) {
  return intervals.find(([text, start, end]) => text && start <= time && time < end);
}
