// The picture and the map over it.

import { drawMap } from "../kit/maps.js";

/**
 * The picture in its colours and the map over it, moved as far as the hand is ahead.
 * @param {any} canvas
 * @param {HTMLImageElement | OffscreenCanvas} picture
 * @param {any} layer
 * @param {number} opacity
 * @param {number} width
 * @param {number[]} ahead
 */
export const paint = (canvas, picture, layer, opacity, width, [right, down, zoom]) => {
  drawMap(canvas, picture, null, 0, width);
  if (!layer) return;
  const context = canvas.getContext("2d");
  const side = canvas.width;
  const grown = side * zoom;
  const edge = (side - grown) / 2;
  context.globalAlpha = opacity;
  context.drawImage(layer, edge + right * side, edge + down * side, grown, grown);
  context.globalAlpha = 1;
};

/**
 * Draws a picture on the way, red green blue opacity for each pixel: no file to decode.
 * @returns {(pixels: Uint8Array, size: number[]) => OffscreenCanvas}
 */
export const pixelDrawer = () => {
  const picture = new OffscreenCanvas(1, 1);
  const context = picture.getContext("2d");
  return (pixels, [rows, cols]) => {
    if (picture.height !== rows || picture.width !== cols) [picture.height, picture.width] = [rows, cols];
    context.putImageData(new ImageData(new Uint8ClampedArray(pixels), cols, rows), 0, 0);
    return picture;
  };
};
