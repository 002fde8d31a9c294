// A panel's life: build the skeleton once, draw every view, ask, show errors, say when nobody answers, clean
// up.

import { clickable, counted, focusedBy, h } from "./dom.js";
import { roving } from "./grid.js";

export const SILENCE = 4000;
export const SUSPECT = 600; // ms without an answer before a panel reports it

/** @type {Record<Place["dtype"], Float32ArrayConstructor | Uint8ArrayConstructor | Int32ArrayConstructor>} */
export const DTYPES = { float32: Float32Array, uint8: Uint8Array, int32: Int32Array };

/** @param {Uint8Array} some @param {Uint8Array} others */
export const sameBytes = (some, others) => {
  if (some.length !== others.length) return false;
  for (let i = 0; i < some.length; i++) if (some[i] !== others[i]) return false;
  return true;
};

/**
 * One binary blob holds every array of a view; `arrays` says where each begins. An array that has not changed since
 * `before` stays the same object, so that what was made of it can be kept.
 * @param {Record<string, Place> | undefined} arrays
 * @param {any} blob
 * @param {Record<string, any>} [before]
 * @returns {Record<string, any>}
 */
export const unpack = (arrays, blob, before = {}) => {
  /** @type {Record<string, any>} */
  const unpacked = {};
  if (!blob || !arrays) return unpacked;
  const bytes = new Uint8Array(blob.buffer ?? blob, blob.byteOffset ?? 0, blob.byteLength);
  for (const [name, { dtype, offset, size }] of Object.entries(arrays)) {
    const copy = bytes.slice(offset, offset + size);
    const had = before[name];
    const same = had instanceof DTYPES[dtype] && sameBytes(new Uint8Array(had.buffer), copy);
    unpacked[name] = same ? had : new DTYPES[dtype](copy.buffer);
  }
  return unpacked;
};

const prefersDark = matchMedia("(prefers-color-scheme: dark)");

/**
 * What a page says of itself: JupyterLab, Notebook, Voila and exported notebooks by an attribute; VS Code by a class of
 * the body; Colab by the attribute `theme`; marimo by a class of the body; sites of mkdocs-material and Zensical by an
 * attribute. The first that says something is followed.
 * @type {((page: Document) => boolean | undefined)[]}
 */
const DARK = [
  ({ body }) => (body.dataset.jpThemeLight ? body.dataset.jpThemeLight === "false" : undefined),
  ({ body }) => (/\bvscode-(light|high-contrast-light)\b/.test(body.className) ? false : undefined),
  ({ body }) => (/\bvscode-(dark|high-contrast)\b/.test(body.className) ? true : undefined),
  ({ documentElement: { attributes } }) =>
    attributes.getNamedItem("theme") ? attributes.getNamedItem("theme").value === "dark" : undefined,
  ({ body }) => (/\blight\b/.test(body.className) ? false : undefined),
  ({ body }) => (/\bdark\b/.test(body.className) ? true : undefined),
  ({ body: { dataset } }) => (dataset.mdColorScheme ? dataset.mdColorScheme === "slate" : undefined),
];

/** @param {Document} [page] @returns {"light" | "dark"} */
export const themeNow = (page = document) => {
  for (const says of DARK) {
    const dark = says(page);
    if (dark !== undefined) return dark ? "dark" : "light";
  }
  return prefersDark.matches ? "dark" : "light";
};

/**
 * Calls `set` now and when a page may have another theme; returns a function that ends this.
 * @param {Document} page
 * @param {() => void} set
 */
export const followPage = (page, set) => {
  const watcher = new MutationObserver(set);
  const named = "class theme data-jp-theme-light data-jp-theme-name data-md-color-scheme".split(" ");
  watcher.observe(page.body, { attributeFilter: named });
  watcher.observe(page.documentElement, { attributeFilter: named });
  prefersDark.addEventListener("change", set);
  set();
  return () => {
    watcher.disconnect();
    prefersDark.removeEventListener("change", set);
  };
};

/**
 * Keeps data-theme up to date, and data-jp, whether JupyterLab's colours are there; returns a function that undoes
 * this.
 * @param {HTMLElement} root
 * @param {(theme: "light" | "dark") => void} [changed]
 */
export const followTheme = (root, changed = () => {}) =>
  followPage(document, () => {
    const theme = themeNow();
    root.toggleAttribute("data-jp", document.body.dataset.jpThemeLight !== undefined);
    if (root.dataset.theme === theme) return;
    root.dataset.theme = theme;
    changed(theme);
  });

/** A panel's frame; keys belong to the panel, not to the notebook. @param {string} name */
export const frame = (name) => {
  const body = h("div", { class: "cv-body" });
  const errors = h("div", { role: "alert" });
  const lost = h(
    "div",
    { class: "cv-lost", "aria-live": "assertive", hidden: true },
    "No answer from the kernel. If it was restarted, run the cell again.",
  );
  const print = h("div", { class: "cv-print", hidden: true });
  const doing = h("div", { class: "cv-doing", role: "status", hidden: true });
  const root = h(
    "section",
    {
      class: `cv cv-${name}`,
      "data-panel": name,
      "data-ready": "false",
      "aria-busy": "false",
      "data-lm-suppress-shortcuts": "true",
    },
    h("div", { class: "cv-busy" }),
    lost,
    doing,
    errors,
    h("div", { class: "cv-main" }, body, print),
  );
  /** @param {any} error */
  const showError = (error) => {
    errors.replaceChildren();
    if (!error?.message) return;
    const detail = error.detail
      ? h("details", {}, h("summary", {}, "Details"), h("pre", {}, error.detail))
      : null;
    errors.append(
      h(
        "div",
        { class: "cv-error" },
        h("p", {}, error.message, detail),
        clickable({ "aria-label": "Dismiss", onclick: () => errors.replaceChildren() }, "✕"),
      ),
    );
  };
  // Lab asks the element with the focus itself whether it keeps its keys: "a" would also insert a cell.
  root.addEventListener("focusin", (/** @type {On<FocusEvent>} */ event) =>
    /** @type {Element} */ (event.target).setAttribute("data-lm-suppress-shortcuts", "true"),
  );
  /** @param {string} words */
  const say = (words) => {
    doing.textContent = words;
    doing.hidden = !words;
  };
  return { root, body, lost, print, say, showError };
};

/** Busy bar and sign of life. @param {any} root @param {any} lost */
export const vitals = (root, lost) => {
  let slow = 0;
  let quiet = 0;
  let suspect = false;
  /** @param {boolean} is */
  const gone = (is) => {
    lost.hidden = !is;
    root.dataset.lost = String(is);
    root.closest(".cv-dashboard")?.setAttribute("data-lost", String(is));
  };
  /** @param {boolean} on */
  const busy = (on) => {
    clearTimeout(slow);
    root.setAttribute("aria-busy", String(on));
    if (on) slow = setTimeout(() => (root.dataset.busy = "true"), 150);
    else root.dataset.busy = "false";
  };
  return {
    busy,
    asked: () => {
      busy(true);
      clearTimeout(quiet);
      quiet = setTimeout(
        () => {
          busy(false);
          gone(true);
        },
        suspect ? SUSPECT : SILENCE,
      );
    },
    alive: () => {
      clearTimeout(quiet);
      suspect = false;
      gone(false);
    },
    suspected: () => (suspect = true),
    stop: () => {
      clearTimeout(slow);
      clearTimeout(quiet);
    },
  };
};

/**
 * What travels: requests up, views and errors down.
 * @param {Api} api
 * @param {ReturnType<typeof vitals>} life
 */
export const speak = (api, life) => {
  const { model } = api;
  let pending = {};
  /** @type {Record<string, any>} */
  const chosen = {}; // options applied here that Python has not confirmed
  const newest = () => model.get("request")?.seq ?? 0;
  const answered = () => (model.get("view")?.ack ?? 0) >= newest();
  const followed = new Set();
  /** @param {string} name */
  const follow = (name) => {
    if (followed.has(name)) return;
    followed.add(name);
    const changed = () => {
      delete chosen[name];
      api.redraw();
    };
    model.on(`change:${name}`, changed);
    api.cleanups.push(() => model.off(`change:${name}`, changed));
  };
  const options = (more = {}) => ({
    ...(answered() ? {} : model.get("request")?.options),
    ...chosen,
    ...more,
  });
  api.option = (name) => {
    follow(name);
    return name in chosen ? chosen[name] : model.get(name);
  };
  api.put = (wanted, tell = true) => {
    for (const name of Object.keys(wanted)) follow(name);
    Object.assign(chosen, wanted);
    if (!tell) return;
    if (!api.standalone) {
      model.set("request", { ...(model.get("request") ?? { seq: 0 }), options: options() });
      model.save_changes();
    }
    api.redraw();
  };
  api.ask = (changes = {}, { options: wanted, ...extra } = {}) => {
    // What a saved page draws by itself needs no answer.
    const told = api.standalone ? (wanted ?? {}) : options(wanted);
    pending = answered() ? { ...changes } : { ...pending, ...changes };
    model.set("request", {
      seq: newest() + 1,
      changes: pending,
      ...(Object.keys(told).length ? { options: told } : {}),
      ...extra,
    });
    model.save_changes();
    if (!api.standalone) return life.asked();
    const focused = focusedBy(api.root);
    if (focused?.matches("input")) focused.blur();
    api.redraw(); // nobody answers: the controls return to what is drawn
  };
  return newest;
};

/**
 * A menu that asks for the panel as a file, which the kernel draws; a saved page has no kernel.
 * @param {Api} api
 * @param {any} print
 */
export const offerFigures = (api, print) => {
  if (api.standalone || !api.printed) return;
  /** @param {boolean} is */
  const show = (is) => {
    menu.hidden = !is;
    opener.setAttribute("aria-expanded", String(is));
  };
  /** @param {string} kind */
  const ask = (kind) => {
    show(false);
    opener.focus();
    api.ask({}, { action: "figure", kind });
  };
  const opener = clickable(
    {
      class: "opener",
      "aria-haspopup": "menu",
      "aria-expanded": "false",
      "aria-label": "Download this panel as a figure",
      title: "Download this panel as a figure",
      onclick: () => {
        show(menu.hidden);
        if (!menu.hidden) menu.firstChild.focus();
      },
    },
    "⤓",
  );
  const menu = roving(
    h(
      "div",
      { class: "menu", role: "menu", "aria-label": "Format of the figure", hidden: true },
      ...["svg", "pdf", "png"].map((kind) =>
        clickable({ role: "menuitem", "data-kind": kind, onclick: () => ask(kind) }, kind.toUpperCase()),
      ),
    ),
  );
  print.append(opener, menu);
  print.addEventListener("focusout", (/** @type {On<FocusEvent>} */ event) => {
    if (!print.contains(event.relatedTarget)) show(false);
  });
  print.addEventListener("keydown", (/** @type {On<KeyboardEvent>} */ event) => {
    if (event.key !== "Escape" || menu.hidden) return;
    event.stopPropagation();
    show(false);
    opener.focus();
  });
  const save = (/** @type {any} */ message, /** @type {DataView[]} */ buffers) => {
    if (!message?.file) return;
    const url = URL.createObjectURL(new Blob([/** @type {any} */ (buffers[0])], { type: message.type }));
    h("a", { href: url, download: message.file }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
  };
  api.model.on("msg:custom", save);
  api.cleanups.push(() => api.model.off("msg:custom", save));
};

/**
 * In a saved page a panel without answers keeps the controls that the browser serves alone (within
 * data-local).
 * @param {Api} api
 */
export const withhold = ({ body, cleanups }) => {
  const deny = () =>
    body.querySelectorAll(":is(button, input, select):enabled").forEach((/** @type {any} */ control) => {
      if (!control.closest("[data-local]")) control.disabled = true;
    });
  const watcher = new MutationObserver(deny);
  watcher.observe(body, { childList: true, subtree: true, attributeFilter: ["disabled"] });
  cleanups.push(() => watcher.disconnect());
  deny();
};

/**
 * @param {any} context
 * @param {string} name
 * @param {(api: Api) => ((view: any, arrays: any) => void)} build
 */
export const mount = ({ model, el }, name, build) => {
  const { root, body, lost, print, say, showError } = frame(name);
  el.classList.add("cv-host");
  el.append(root);
  const life = vitals(root, lost);
  const nothing = () => {};
  /** @type {Api} */
  const api = {
    root,
    body,
    model,
    theme: themeNow(),
    view: {},
    arrays: {},
    cleanups: [],
    standalone: Boolean(model.standalone),
    printed: !model.live,
    ask: nothing,
    offers: (changes = {}, extra = {}) => !model.standalone || model.offers({ changes, ...extra }),
    put: nothing,
    option: nothing,
    showError,
    redraw: nothing,
  };
  const newest = speak(api, life);
  let draw = (/** @type {any} */ _view, /** @type {any} */ _arrays) => {};
  api.redraw = () => {
    if (!api.view.seq || api.view.waiting) return;
    draw(api.view, api.arrays);
    // A view that only has a message has no figure.
    print.hidden = api.standalone || !api.printed || Boolean(api.view.message);
    root.dataset.seq = api.view.seq;
    root.dataset.ready = "true";
  };
  const onView = () => {
    life.alive();
    const view = model.get("view");
    if (!view?.seq) return;
    if ((view.ack ?? 0) < newest() && !api.standalone) return; // a newer request is being processed
    life.busy(false);
    api.view = view;
    api.arrays = unpack(view.arrays, model.get("blob"), api.arrays);
    api.redraw();
  };
  const onError = () => {
    life.alive();
    life.busy(false);
    showError(model.get("error"));
  };
  const onDoing = () => {
    life.alive();
    say(model.get("doing") ?? "");
  };
  const heard = {
    "change:view": onView,
    "change:error": onError,
    "change:doing": onDoing,
    "change:heard": life.alive,
    comm_live_update: life.suspected,
  };
  const unfollow = followTheme(root, (theme) => {
    api.theme = theme;
    api.redraw();
  });
  draw = build(api) ?? draw;
  if (model.fixed) withhold(api);
  for (const [event, listener] of Object.entries(heard)) model.on(event, listener);
  onView();
  onError();
  onDoing();
  offerFigures(api, print);
  // The first message of a widget waits for the running cell; later ones do not. Send it now.
  if (!api.standalone && !newest()) {
    model.set("request", { seq: 1, changes: {}, action: "hello" });
    model.save_changes();
  }
  return () => {
    for (const [event, listener] of Object.entries(heard)) model.off(event, listener);
    unfollow();
    life.stop();
    api.cleanups.forEach((clean) => clean());
  };
};

/**
 * Tells Python whether the panel is on screen, so that a hidden one computes nothing.
 * @param {Api} api
 * @param {() => void} [shown]
 */
export const followVisibility = (api, shown = () => {}) => {
  /** @type {boolean | null} */
  let told = null; // what was sent to Python and is not confirmed
  /** @param {boolean} visible */
  const tell = (visible) => {
    if (api.standalone || visible === (told ?? api.model.get("visible"))) return;
    told = visible;
    api.ask({}, { options: { visible } });
  };
  const seen = new ResizeObserver(() => {
    const visible = api.root.clientWidth > 0;
    if (visible) shown();
    tell(visible);
  });
  // The event of a removed view may arrive only after this one was added.
  const confirmed = () => {
    told = null;
    if (api.root.clientWidth > 0) tell(true);
  };
  seen.observe(api.root);
  api.model.on("change:visible", confirmed);
  api.cleanups.push(() => {
    seen.disconnect();
    api.model.off("change:visible", confirmed);
  });
};

/**
 * How far the work behind the panel is: a thin bar, and `hint` in the kernel's words. Returns the bar and
 * tell().
 * @param {Api} api
 * @param {any} hint
 * @returns {[any, () => void]}
 */
export const readingMeter = (api, hint) => {
  const bar = h("i");
  const meter = h(
    "span",
    { class: "meter", role: "progressbar", "aria-label": "Work behind this panel", hidden: true },
    bar,
  );
  const tell = () => {
    const [read, all] = api.model.get("progress") ?? [0, 0];
    const reading = all > 0 && read < all;
    meter.hidden = !reading;
    bar.style.width = `${all ? (100 * read) / all : 0}%`;
    meter.setAttribute("aria-valuenow", read);
    meter.setAttribute("aria-valuemax", all);
    const known = api.view.n_read ?? 0;
    const unfinished =
      api.standalone && api.view.complete === false
        ? ", all that had been read when this page was saved"
        : "";
    hint.textContent = reading
      ? api.model.get("work")
      : known
        ? `from ${counted(known, "image")}${unfinished}`
        : "";
    api.root.dataset.read = read;
  };
  for (const name of ["change:progress", "change:work"]) {
    api.model.on(name, tell);
    api.cleanups.push(() => api.model.off(name, tell));
  }
  return [meter, tell];
};
