// What lies over the points: pictures, labels, the chosen images, the loop, and the image under the pointer.

import { h } from "../kit/dom.js";
import { thinned } from "../kit/plane.js";
import { OTHER } from "../kit/points.js";

/** @import { Thumbnails } from "./thumbnails.js" */

const LARGE = 34;

/**
 * Texts at dense places, as far as they fit beside the names of the axes; returns them.
 * @param {CanvasRenderingContext2D} g
 * @param {AtlasApi} api
 * @param {HTMLCanvasElement} canvas
 * @param {Camera} camera
 * @param {(name: string) => string} ink
 */
const drawLabels = (g, api, canvas, camera, ink) => {
  g.font = `600 12px ${getComputedStyle(api.root).fontFamily}`;
  const boxes = api.view.regions.map(([text, x, y]) => {
    const [left, top] = camera.at(x, y);
    const width = g.measureText(text).width + 12;
    return { text, left: left - width / 2, top: top - 10, width, height: 20 };
  });
  const frame = canvas.getBoundingClientRect();
  const ends = [...canvas.parentElement.querySelectorAll(".end")]
    .filter((end) => end.textContent)
    .map((end) => {
      const { left, top, width, height } = end.getBoundingClientRect();
      return { left: left - frame.left, top: top - frame.top, width, height };
    });
  const kept = thinned([...ends, ...boxes], camera.width, camera.height).filter(({ text }) => text);
  for (const { text, left, top, width, height } of kept) {
    g.fillStyle = ink("--bg");
    g.globalAlpha = 0.86;
    g.beginPath();
    g.roundRect(left, top, width, height, 5);
    g.fill();
    g.globalAlpha = 1;
    g.fillStyle = ink("--ink");
    g.fillText(text, left + 6, top + 14);
  }
  return kept.map(({ text }) => text);
};

/** A closed loop with a light ground. @param {CanvasRenderingContext2D} g @param {number[][]} loop */
const drawLoop = (g, loop) => {
  g.beginPath();
  loop.forEach(([left, top], i) => (i ? g.lineTo(left, top) : g.moveTo(left, top)));
  g.closePath();
  g.globalAlpha = 0.12;
  g.fill();
  g.globalAlpha = 1;
  g.lineWidth = 1.5;
  g.stroke();
};

/**
 * Pictures, labels, the chosen images, the selected one and the loop, over the points.
 * @param {AtlasApi} api
 * @param {HTMLCanvasElement} canvas
 * @param {Camera} camera
 * @param {Thumbnails} small
 * @param {(byte: number) => string} shade
 */
export const overlay = (api, canvas, camera, small, shade) => {
  const g = canvas.getContext("2d");
  /** @param {string} name */
  const ink = (name) => getComputedStyle(api.root).getPropertyValue(name).trim();
  /** @param {number} i @param {number} radius */
  const dot = (i, radius) => {
    const [left, top] = camera.point(i);
    g.beginPath();
    g.arc(left, top, radius, 0, 7);
  };
  /** @param {number[]} tiles @param {ReadonlySet<number>} set */
  const pictures = (tiles, set) => {
    const { ids, colours } = api.arrays;
    const side = Math.max(20, Math.min(LARGE, camera.width / 26));
    for (const i of tiles) {
      const picture = small.get(ids[i]);
      const [left, top] = camera.point(i);
      if (!picture || left < -side || top < -side || left > camera.width + side || top > camera.height + side)
        continue;
      g.globalAlpha = set.size && !set.has(ids[i]) ? 0.25 : 1;
      g.drawImage(
        picture.sheet,
        picture.left,
        picture.top,
        picture.side,
        picture.side,
        left - side / 2,
        top - side / 2,
        side,
        side,
      );
      g.lineWidth = 2;
      g.strokeStyle = colours[i] < OTHER ? shade(colours[i]) : ink("--bg");
      g.strokeRect(left - side / 2, top - side / 2, side, side);
    }
    g.globalAlpha = 1;
  };
  return (/** @type {number[]} */ tiles, /** @type {number[][]} */ loop, /** @type {number} */ ratio) => {
    const { ids } = api.arrays;
    const set = new Set(api.view.selection.images);
    const own = ids.indexOf(api.view.selection.image);
    g.setTransform(ratio, 0, 0, ratio, 0, 0);
    g.clearRect(0, 0, camera.width, camera.height);
    if (set.size)
      ids.forEach((id, i) => {
        if (set.has(id)) {
          dot(i, 3.4);
          g.fillStyle = shade(api.arrays.colours[i]);
          g.fill();
        }
      });
    if (api.option("pictures")) pictures(tiles, set);
    const said = api.option("labels") ? drawLabels(g, api, canvas, camera, ink) : [];
    g.strokeStyle = g.fillStyle = ink("--accent");
    g.lineWidth = 3;
    if (own >= 0) {
      dot(own, 9);
      g.stroke();
    }
    if (loop.length > 1) drawLoop(g, loop);
    return said;
  };
};

/**
 * What is under the pointer: its picture and name.
 * @param {AtlasApi} api
 * @param {Camera} camera
 * @param {Thumbnails} small
 * @param {any} tip
 */
export const hovering = (api, camera, small, tip) => {
  /** @param {number} left @param {number} top */
  const around = (left, top) =>
    camera
      .spread(24)
      .filter((/** @type {number} */ i) => {
        const [x, y] = camera.point(i);
        return Math.hypot(x - left, y - top) < 110;
      })
      .slice(0, 40);
  let now = -1;
  const show = () => {
    tip.hidden = now < 0;
    if (tip.hidden) return;
    const id = api.arrays.ids[now];
    const group = api.view.groups.find(([byte]) => byte === api.arrays.colours[now]);
    const picture = small.get(id);
    const [left, top] = camera.point(now);
    const said = [`image ${id}`, picture?.name, group?.[0] < OTHER ? group[1] : ""]
      .filter(Boolean)
      .join(" · ");
    const face = h("canvas", { width: 88, height: 88, "aria-hidden": "true" });
    if (picture)
      face
        .getContext("2d")
        .drawImage(picture.sheet, picture.left, picture.top, picture.side, picture.side, 0, 0, 88, 88);
    tip.replaceChildren(...(picture ? [face] : []), h("span", {}, said));
    tip.dataset.pictured = String(Boolean(picture));
    Object.assign(tip.style, {
      left: `${Math.max(90, Math.min(camera.width - 90, left))}px`,
      top: `${top}px`,
    });
    tip.classList.toggle("below", top < 140);
  };
  /** @param {number} left @param {number} top */
  const point = (left, top) => {
    const [i, distance] = camera.nearest(left, top);
    const next = distance < 12 ? i : -1;
    if (next === now) return;
    now = next;
    show();
    if (now >= 0) small.ask([now, ...around(left, top)].map((k) => api.arrays.ids[k]));
  };
  return {
    point,
    show,
    leave: () => {
      now = -1;
      show();
    },
  };
};

/** @typedef {ReturnType<typeof hovering>} Hovering */
