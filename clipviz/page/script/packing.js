// Arrays in one buffer, as panels read them.

/** Arrays as a panel gets them: one buffer, and where each begins. @param {Record<string, any>} arrays */
export const packed = (arrays) => {
  /** @type {Record<string, { dtype: string, offset: number, size: number }>} */
  const places = {};
  /** @type {Record<string, string>} */
  const kinds = { Float32Array: "float32", Uint8Array: "uint8", Int32Array: "int32" };
  let size = 0;
  for (const [name, array] of Object.entries(arrays)) {
    places[name] = { dtype: kinds[array.constructor.name], offset: size, size: array.byteLength };
    size += array.byteLength + (-array.byteLength & 7);
  }
  const buffer = new Uint8Array(size);
  for (const [name, array] of Object.entries(arrays))
    buffer.set(new Uint8Array(array.buffer, array.byteOffset, array.byteLength), places[name].offset);
  return { places, blob: new DataView(buffer.buffer) };
};
