// Pointer, wheel and keys.

/** @import { Hovering } from "./overlay.js" */

/**
 * Pointer and wheel: pan, zoom, draw a loop, select. Returns the loop being drawn.
 * @param {AtlasApi} api
 * @param {HTMLCanvasElement} canvas
 * @param {Camera} camera
 * @param {Hovering} hover
 * @param {(over?: boolean) => void} moved
 * @param {(points: number[]) => void} choose
 */
export const handle = (api, canvas, camera, hover, moved, choose) => {
  /** @type {number[][]} */
  const loop = [];
  /** @param {number} i */
  const select = (i) => api.offers({ image: api.arrays.ids[i] }) && api.ask({ image: api.arrays.ids[i] });
  let from = /** @type {number[] | null} */ (null);
  let far = 0;
  let panning = false;
  let still = false;
  /** @param {MouseEvent} event */
  const pointer = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  canvas.addEventListener(
    "wheel",
    (/** @type {On<WheelEvent>} */ event) => {
      if (!api.view.plane) return;
      event.preventDefault();
      const [left, top] = pointer(event);
      camera.zoomAt(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0018)), left, top);
      hover.leave();
      moved();
    },
    { passive: false },
  );
  canvas.addEventListener("pointerdown", (/** @type {On<PointerEvent>} */ event) => {
    if (event.button) return;
    canvas.setPointerCapture(event.pointerId);
    from = pointer(event);
    far = 0;
    panning = api.standalone || (api.option("drag") === "pan") !== event.shiftKey;
    if (!panning) loop.splice(0, Infinity, from);
    hover.leave();
  });
  canvas.addEventListener("pointermove", (/** @type {On<PointerEvent>} */ event) => {
    const [left, top] = pointer(event);
    if (!from) return hover.point(left, top);
    far = Math.max(far, Math.hypot(left - from[0], top - from[1]));
    if (!panning) {
      loop.push([left, top]);
      return moved(false);
    }
    camera.pan(left - from[0], top - from[1]);
    from = [left, top];
    far += 1;
    canvas.dataset.grabbed = "true";
    moved();
  });
  const end = () => {
    from = null;
    loop.length = 0;
    delete canvas.dataset.grabbed;
    moved(false);
  };
  canvas.addEventListener("pointerleave", hover.leave);
  canvas.addEventListener("pointercancel", end);
  canvas.addEventListener("pointerup", () => {
    if (!from) return;
    still = far < 6;
    if (!panning && loop.length > 6 && far > 10) choose(camera.inside(loop));
    end();
  });
  canvas.addEventListener("click", (/** @type {On<MouseEvent>} */ event) => {
    const [left, top] = pointer(event);
    const [i, distance] = camera.nearest(left, top);
    if (still && event.detail < 2 && i >= 0 && distance < 20) select(i);
  });
  canvas.addEventListener("dblclick", () => {
    camera.home();
    moved();
  });
  return loop;
};

/**
 * Keys: arrows pan, with Shift they go to the next image; + and − zoom, 0 goes home, Enter selects what is in
 * the middle.
 * @param {AtlasApi} api
 * @param {HTMLCanvasElement} canvas
 * @param {Camera} camera
 * @param {(over?: boolean) => void} moved
 */
export const keys = (api, canvas, camera, moved) =>
  canvas.addEventListener("keydown", (/** @type {On<KeyboardEvent>} */ event) => {
    const step = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] }[event.key];
    const zoom = { "+": 1.4, "=": 1.4, "-": 1 / 1.4, "−": 1 / 1.4 }[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey || !api.view.plane) return;
    if (event.key === "Escape") api.ask({ images: [] });
    else if (event.key === "0" || event.key === "Home") camera.home();
    else if (zoom) camera.zoomAt(zoom, camera.width / 2, camera.height / 2);
    else if (event.key === "Enter") {
      const [i] = camera.nearest(camera.width / 2, camera.height / 2);
      if (i >= 0) api.ask({ image: api.arrays.ids[i] });
    } else if (step && event.shiftKey) {
      const [x, y] = camera.point(Math.max(0, api.arrays.ids.indexOf(api.view.selection.image)));
      const [i] = camera.nearest(x, y, (/** @type {number} */ k) => {
        const [px, py] = camera.point(k);
        const along = (px - x) * step[0] + (py - y) * step[1];
        return along > 1 && Math.abs((px - x) * step[1]) + Math.abs((py - y) * step[0]) <= along;
      });
      if (i >= 0) api.ask({ image: api.arrays.ids[i] });
    } else if (step) camera.pan(-60 * step[0], -60 * step[1]);
    else return;
    event.preventDefault();
    moved();
  });
