// The frame around every panel's script: it gets the kit, which a page loads once for each version of it.

/** A script once it has the kit. @typedef {{ render: (context: Context) => void | (() => void) }} Script */

const page = /** @type {any} */ (globalThis);
/** @type {Map<string, Promise<any>>} the kits by their keys; a page that brings its own kit puts it here */
const kits = (page[Symbol.for("clipviz.kits")] ??= new Map());

/** The widget that holds the kit, which may be restored after the panels that refer to it. @param {Model} model */
const kitModel = async (model) => {
  const id = model.get("kit").replace("IPY_MODEL_", "");
  for (let tries = 0; ; tries++) {
    try {
      return await model.widget_manager.get_model(id);
    } catch (error) {
      if (tries === 30) throw error;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
};

/** @param {Model} model */
const loadKit = async (model) => {
  const kit = await kitModel(model);
  const url = URL.createObjectURL(new Blob([kit.get("script")], { type: "text/javascript" }));
  try {
    return await import(url);
  } finally {
    URL.revokeObjectURL(url);
  }
};

/**
 * Adds the shared style sheet to what surrounds a panel, the page or a shadow root, before the panels' own sheets,
 * which change it.
 * @param {HTMLElement} el
 * @param {string} key
 * @param {string | undefined} sheet a page that brings its own kit has the sheet too
 */
const dress = (el, key, sheet) => {
  const root = el.getRootNode();
  const place = root instanceof ShadowRoot ? root : document.head;
  if (!sheet || place.querySelector(`style[data-clipviz="${key}"]`)) return;
  const style = document.createElement("style");
  style.dataset.clipviz = key;
  style.textContent = sheet;
  place.insertBefore(style, place === root ? place.firstChild : place.querySelector('style[id^="clipviz."]'));
};

/**
 * What anywidget calls. If a kit could not be loaded, the next panel requests it again.
 * @param {string} key the kit's version
 * @param {(kit: any) => Script} made
 */
export const withKit = (key, made) => ({
  /** @param {Context} context */
  render: async (context) => {
    if (!kits.has(key)) kits.set(key, loadKit(context.model));
    const kit = await kits.get(key).catch((error) => {
      kits.delete(key);
      context.el.append("This panel could not be loaded. Run the cell again to show it.");
      throw error;
    });
    dress(context.el, key, kit.kitSheet);
    return made(kit).render(context);
  },
});
