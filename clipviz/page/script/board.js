// The page: every panel's own script on a model that a kernel beside the page answers; nothing is sent
// anywhere.

import { followAround } from "../panels/core/around.js";
import { boardFrame, boardPlace } from "../panels/kit/board.js";
import { clickable, h } from "../panels/kit/dom.js";
import { followTheme } from "../panels/kit/protocol.js";
import { address, OPTIONS, read } from "./address.js";
import { Kernel } from "./kernel.js";
import { inflated } from "./store.js";

const base = new URL("./", document.baseURI).href;
const raw = (/** @type {string} */ text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const unpacked = (/** @type {any} */ value) =>
  value && typeof value === "object" && typeof value.base64 === "string"
    ? new DataView(raw(value.base64).buffer)
    : value;
const megabytes = (/** @type {number} */ bytes) => (bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0);

/** The worker, which answers one question after the other. @param {(message: any) => void} unasked receives messages that answer no question */
const beside = (unasked) => {
  const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  const waiting = new Map();
  let last = 0;
  worker.addEventListener("message", ({ data }) => {
    if (!("id" in data)) return unasked(data);
    const { resolve, reject } = waiting.get(data.id);
    waiting.delete(data.id);
    if (data.error) reject(data.error);
    else resolve(data.found);
  });
  worker.addEventListener("error", (event) =>
    waiting.forEach(({ reject }) =>
      reject({ message: event.message || "The page's worker could not start." }),
    ),
  );
  return (/** @type {string} */ what, /** @type {any} */ given) =>
    new Promise((resolve, reject) => {
      waiting.set(++last, { resolve, reject });
      worker.postMessage({ id: last, what, given });
    });
};

/** @typedef {Record<string, Set<() => void>>} Listeners */

/** A model as panels know it. @param {any} panel @param {Record<string, any>} more */
const standIn = ({ name, traits }, more) => {
  const values = Object.fromEntries(Object.entries(traits).map(([trait, value]) => [trait, unpacked(value)]));
  /** @type {Listeners} */
  const listeners = {};
  const one = {
    name,
    values,
    key: "",
    ack: 0,
    seq: 0,
    arrays: {},
    asked: /** @type {any} */ (null), // the newest request that was forwarded
    fire: (/** @type {string} */ event) => listeners[event]?.forEach((listener) => listener()),
  };
  const model = {
    get: (/** @type {string} */ trait) => values[trait],
    set: (/** @type {string} */ trait, /** @type {any} */ value) => {
      values[trait] = value;
    },
    on: (/** @type {string} */ event, /** @type {any} */ listener) =>
      (listeners[event] ??= new Set()).add(listener),
    off: (/** @type {string} */ event, /** @type {any} */ listener) => listeners[event]?.delete(listener),
    save_changes: () => {},
    send: () => {},
    ...more,
  };
  return { model, one };
};

/**
 * The bar at the top: what the page is, its loading progress, and controls to add a picture.
 * @param {any} about
 * @param {(blob: Blob, name: string) => void} bring
 * @param {() => string} link
 */
const header = (about, bring, link) => {
  const bar = h("i");
  const meter = h(
    "div",
    {
      class: "meter",
      role: "progressbar",
      "aria-label": "Loading the model",
      "aria-valuemin": 0,
      "aria-valuemax": 100,
      "aria-valuenow": 0,
    },
    bar,
  );
  const state = h("span", { class: "state", role: "status" }, "Loading the model…");
  const said = h("span", { class: "said", role: "status" });
  const file = h("input", {
    type: "file",
    accept: "image/*",
    hidden: true,
    "aria-hidden": "true",
    tabindex: -1,
    onchange: () => {
      if (file.files[0]) bring(file.files[0], file.files[0].name);
      file.value = "";
    },
  });
  const pick = clickable({ onclick: () => file.click() }, "Picture…");
  const shoot = clickable(
    { hidden: !navigator.mediaDevices?.getUserMedia, onclick: () => camera(bring) },
    "Camera",
  );
  const copy = clickable(
    {
      onclick: async () => {
        try {
          await navigator.clipboard.writeText(link());
          said.textContent = "Link copied";
        } catch {
          said.textContent = "The browser does not let this page copy; take the link from the address bar";
        }
        setTimeout(() => (said.textContent = ""), 2500);
      },
    },
    "Copy link",
  );
  const element = h(
    "header",
    { class: "cv-top" },
    h("h1", {}, about.title),
    h(
      "p",
      { class: "cv-private" },
      h("b", {}, "Everything is computed in this browser. "),
      "Texts and pictures stay on this machine: the page sends nothing anywhere, and works without a network once it is loaded. Drop or paste a picture anywhere.",
    ),
    h("div", { class: "tools" }, pick, shoot, copy, said, file),
    h("div", { class: "loading" }, meter, state),
  );
  return {
    element,
    loaded: (/** @type {number} */ share, /** @type {string} */ words) => {
      bar.style.width = `${100 * share}%`;
      meter.setAttribute("aria-valuenow", String(Math.round(100 * share)));
      state.textContent = words;
    },
    ready: () => {
      element.dataset.ready = "true";
      meter.hidden = true;
      state.textContent = "";
    },
    failed: (/** @type {string} */ words) => {
      element.dataset.failed = "true";
      meter.hidden = true;
      state.textContent = words;
    },
  };
};

/** A picture from the camera. @param {(blob: Blob, name: string) => void} bring */
const camera = async (bring) => {
  const video = h("video", {
    autoplay: true,
    playsinline: true,
    onloadeddata: () => (shutter.disabled = false),
  });
  const dialog = h("dialog", { class: "cv-camera", "aria-label": "Camera" });
  /** @type {MediaStream | null} */
  let stream = null;
  const close = () => {
    stream?.getTracks().forEach((track) => track.stop());
    dialog.close();
    dialog.remove();
  };
  const take = () => {
    const canvas = h("canvas", { width: video.videoWidth, height: video.videoHeight });
    canvas.getContext("2d").drawImage(video, 0, 0);
    canvas.toBlob((/** @type {Blob} */ blob) => bring(blob, "camera"), "image/png");
    close();
  };
  const note = h("p", {}, "The picture stays in this browser.");
  const shutter = clickable({ onclick: take, disabled: true }, "Take the picture"); // until there is one
  dialog.append(video, note, h("div", { class: "tools" }, shutter, clickable({ onclick: close }, "Cancel")));
  dialog.addEventListener("cancel", close);
  document.body.append(dialog);
  dialog.showModal();
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    if (!dialog.open) close(); // while the browser asked
    video.srcObject = stream;
  } catch (error) {
    note.textContent = `The browser provides no camera: ${/** @type {Error} */ (error).message}`;
  }
};

/** Pictures dropped or pasted anywhere. @param {(blob: Blob, name: string) => void} bring */
const bringing = (bring) => {
  const first = (/** @type {DataTransfer | null} */ data) =>
    [...(data?.files ?? [])].find(({ type }) => type.startsWith("image/"));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    if (event.defaultPrevented) return; // a panel has handled it
    event.preventDefault();
    const file = first(event.dataTransfer);
    if (file) bring(file, file.name);
  });
  document.addEventListener("paste", (event) => {
    const file = first(event.clipboardData);
    if (file) bring(file, "pasted picture");
  });
};

const isDesk = (/** @type {any} */ about, /** @type {string} */ name) =>
  about.desks.some((/** @type {string[]} */ [desk]) => desk === name);

/** The places of panels: the board, and the row of desks below it. @param {any} about */
const frame = (about) => {
  const { root, grid, desks } = boardFrame();
  followTheme(root);
  const places = Object.fromEntries(
    about.panels.map((/** @type {any} */ { name }) => [
      name,
      boardPlace(isDesk(about, name) ? "desk" : name),
    ]),
  );
  grid.append(
    ...about.panels
      .filter((/** @type {any} */ { live, name }) => live && name !== "receipts" && !isDesk(about, name))
      .map((/** @type {any} */ { name }) => places[name]),
    ...(about.desks.length ? [desks] : []),
    places.receipts,
  );
  return { root, desks, places };
};

/**
 * The desks; those that need Python are shown as they were published.
 * @param {any} about
 * @param {ReturnType<typeof frame>} frames
 * @param {Record<string, any>} models of those that answer
 */
const openDesks = async (about, { desks, places }, models) => {
  const bar = h("div", {});
  const mounted = new Set();
  const load = async (/** @type {string} */ name) => (await import(`../panels/${name}/view.js`)).default;
  const scripts = Object.fromEntries(
    await Promise.all(
      about.desks.map(async (/** @type {[string, string, string]} */ [name]) => [name, await load(name)]),
    ),
  );
  for (const [name] of about.desks)
    if (models[name]) {
      mounted.add(name);
      scripts[name].render({ model: models[name], el: places[name] });
    }
  const shown = { name: "desks", traits: { desks: about.desks, shown: "" } };
  const { model, one } = standIn(shown, {});
  const open = (/** @type {string} */ name) => {
    for (const [desk] of about.desks) places[desk].hidden = desk !== name;
    if (!name || mounted.has(name)) return;
    mounted.add(name);
    const panel = about.panels.find((/** @type {any} */ { name: own }) => own === name);
    const stored = standIn(panel, { standalone: true, fixed: true, offers: () => false }).model;
    places[name].append(
      h(
        "p",
        { class: "cv-stale" },
        "As published: this desk computes with Python and does not follow the selection above.",
      ),
    );
    scripts[name].render({ model: stored, el: places[name] });
  };
  model.save_changes = () => {
    one.fire("change:shown");
    open(one.values.shown);
  };
  desks.append(bar, ...about.desks.map((/** @type {[string, string, string]} */ [name]) => places[name]));
  open("");
  (await load("desks")).render({ model, el: bar });
};

/** @param {string} name @param {any} manifest */
const content = async (name, manifest) => {
  const whole = [];
  for (const part of manifest.contents[name].parts)
    whole.push(await inflated(await (await fetch(new URL(`parts/${part}`, base))).arrayBuffer()));
  return JSON.parse(await new Blob(/** @type {any} */ (whole)).text());
};

/**
 * The panels that answer in the page, each with a model in its kernel's place; and their options at first.
 * @param {any} about
 * @param {Kernel} kernel
 */
const standIns = (about, kernel) => {
  /** @type {Record<string, Model>} */
  const models = {};
  /** @type {Record<string, Record<string, any>>} */
  const defaults = {};
  for (const panel of about.panels.filter((/** @type {any} */ { live }) => live)) {
    const { model, one } = standIn(panel, {
      live: true,
      desks: about.desks.map((/** @type {[string, string, string]} */ [name]) => name),
    });
    defaults[panel.name] = Object.fromEntries(
      (OPTIONS[panel.name] ?? []).map((/** @type {string} */ option) => [option, one.values[option]]),
    );
    model.save_changes = () => {
      if (one.values.request && one.values.request !== one.asked) {
        one.asked = one.values.request;
        void kernel.requested(one, one.values.request);
      }
    };
    models[panel.name] = model;
    kernel.panels.push(one);
  }
  return { models, defaults };
};

/** Shows what the address says. @param {Kernel} kernel */
const follow = (kernel) => {
  const { changes, options } = read(location.hash);
  for (const { name, values, fire } of kernel.panels)
    for (const [option, value] of Object.entries(options[name] ?? {})) {
      values[option] = value;
      fire(`change:${option}`);
    }
  try {
    kernel.select(changes);
  } catch {
    /* an address of another page */
  }
  void kernel.refresh();
};

const start = async () => {
  followAround();
  const manifest = await (await fetch(new URL("manifest.json", base), { cache: "no-cache" })).json();
  const about = await content("board", manifest);
  const total = Object.entries(manifest.contents).reduce(
    (sum, [name, { sent }]) => sum + (name === "board" ? 0 : sent),
    0,
  );
  let loaded = 0;
  const ask = beside((message) => {
    if (message.loaded) loaded += message.loaded;
    top.loaded(
      Math.min(1, loaded / total),
      loaded < total
        ? `Loading the model: ${megabytes(loaded)} of ${megabytes(total)} MB`
        : "Opening the model…",
    );
  });
  let begin = (/** @type {any} */ _opening) => {};
  // Once the board is drawn, so that nothing is loaded before it.
  const opened = new Promise((resolve) => (begin = resolve));
  const link = () => location.href;
  const kernel = new Kernel(
    { facts: manifest.facts, selection: about.selection, n_images: manifest.n_images },
    async (panel, selection, options) => {
      await opened;
      return ask("ask", { panel, selection, options });
    },
    () => write(),
    (is) => (document.body.dataset.busy = String(is)),
  );
  const bring = (/** @type {Blob} */ blob, /** @type {string} */ name) => {
    const images = kernel.panels.find((panel) => panel.name === "images");
    if (images) void kernel.requested(images, { seq: images.ack + 1, action: "bring", blob, name });
  };
  const top = header(about, bring, link);
  wire(kernel, ask, opened);
  const { models, defaults } = standIns(about, kernel);
  const write = () => {
    const options = /** @type {Record<string, any>} */ ({});
    for (const { name, values } of kernel.panels)
      for (const option of OPTIONS[name] ?? [])
        if (values[option] !== defaults[name][option]) (options[name] ??= {})[option] = values[option];
    history.replaceState(null, "", `#${address(kernel.selection, options, manifest.n_images)}`);
  };
  const places = frame(about);
  document
    .querySelector("main")
    .append(top.element, places.root, h("footer", { class: "cv-foot" }, about.foot));
  const scripts = await Promise.all(
    Object.keys(models)
      .filter((name) => !isDesk(about, name))
      .map(async (name) => [name, (await import(`../panels/${name}/view.js`)).default]),
  );
  for (const [name, script] of scripts) script.render({ model: models[name], el: places.places[name] });
  if (about.desks.length) await openDesks(about, places, models);
  document.body.dataset.drawn = "true";
  requestAnimationFrame(() => setTimeout(() => begin(ask("open", { manifest, base }))));
  bringing(bring);
  if (location.hash.length > 1) follow(kernel);
  addEventListener("hashchange", () => follow(kernel));
  try {
    await opened;
    top.ready();
    document.body.dataset.ready = "true";
    await kernel.refresh();
  } catch (error) {
    top.failed(`The model could not be opened: ${/** @type {any} */ (error).message}`);
    document.body.dataset.failed = "true";
  }
};

/**
 * Actions that panels request besides a selection.
 * @param {Kernel} kernel
 * @param {ReturnType<typeof beside>} ask
 * @param {Promise<any>} opened
 */
const wire = (kernel, ask, opened) => {
  const bring = async (/** @type {Blob} */ blob, /** @type {string} */ name) => {
    await opened;
    const { image, n } = /** @type {any} */ (await ask("add", { blob, name }));
    kernel.n = n;
    kernel.select({ image });
  };
  Object.assign(kernel.actions, {
    undo: () => kernel.go(-1),
    redo: () => kernel.go(1),
    /** @param {any} given */
    bring: ({ blob, name }) => bring(blob, name),
    /** @param {any} given */
    upload: ({ content: text, name }) => bring(new Blob([raw(text)]), name),
    /** @param {any} given */
    visit: ({ head, desk }) => {
      if (head) kernel.select({ layer: head[0], head: head[1] });
      if (desk)
        document
          .querySelector(`.cv-desks-bar [data-name="${desk}"][aria-expanded="false"]`)
          ?.dispatchEvent(new Event("click"));
    },
    /** @param {any} given */
    role: ({ head, role }) => {
      kernel.roles = { ...kernel.roles, [head.join()]: role };
    },
    /** @param {any} given */
    describe: ({ panel }) => {
      const { ids, lists } = panel.values.view;
      kernel.select({ images: ids.slice(-lists[lists.length - 1].count) });
    },
  });
};

start().catch((error) => {
  document.body.dataset.failed = "true";
  document.querySelector("main")?.append(`The page could not be opened: ${error.message ?? error}`);
});
