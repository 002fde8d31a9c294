// A saved page: each panel's own script on a stand-in model that holds its traits and has no kernel behind it.
const bytes = (text) => {
  const raw = atob(text), array = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) array[i] = raw.charCodeAt(i);
  return new DataView(array.buffer);
};
const unpacked = (value) => (value && typeof value === "object" && typeof value.base64 === "string" ? bytes(value.base64) : value);

// What a script sets and saves stays; what it sets for a request that nobody answers is put back.
const standIn = (traits, asked) => {
  const unsaved = new Map();
  const values = Object.fromEntries(Object.entries(traits).map(([name, value]) => [name, unpacked(value)]));
  const listeners = {};
  return {
    standalone: true,
    get: (name) => values[name],
    set: (name, value) => {
      if (name === "request") {
        for (const [other, before] of unsaved) values[other] = before;
        unsaved.clear();
        asked();
      } else if (values[name] === value) return;
      else if (!unsaved.has(name)) unsaved.set(name, values[name]);
      values[name] = value;
      for (const listener of [...(listeners[`change:${name}`] ?? [])]) listener();
    },
    save_changes: () => unsaved.clear(),
    on: (event, listener) => (listeners[event] ??= []).push(listener),
    off: (event, listener) => (listeners[event] = (listeners[event] ?? []).filter((other) => other !== listener)),
  };
};

const follow = () => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const set = () => (document.body.dataset.jpThemeLight = String(!dark.matches));
  dark.addEventListener("change", set);
  set();
};

const element = (tag, name, ...children) => {
  const made = document.createElement(tag);
  made.className = name;
  made.append(...children);
  return made;
};

const start = async () => {
  follow();
  const panels = JSON.parse(document.getElementById("panels").textContent);
  const single = panels.length === 1;
  const board = element("div", "cv-board jupyter-widgets");
  const desks = element("div", "cv-desks jupyter-widgets");
  const note = element("p", "cv-note", "Saved view: it reads no network and has no model behind it. Hovering, scales and sums over heads work; other images, texts and units need the notebook.");
  note.setAttribute("role", "status");
  let quiet = null;
  const asked = () => {
    clearTimeout(quiet);
    note.dataset.asked = "true";
    quiet = setTimeout(() => delete note.dataset.asked, 2500);
  };
  document.querySelector("main").append(element("div", "cv-dashboard jupyter-widgets", board), note);
  for (const { name, script, traits, below } of panels) {
    const el = element("div", `cv-at-${single || below ? "desk" : name}`);
    (below ? desks : board).append(el);
    const url = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
    const { default: panel } = await import(url);
    URL.revokeObjectURL(url);
    panel.render({ model: standIn(traits, asked), el });
  }
  if (desks.children.length) board.insertBefore(desks, board.querySelector(":scope > .cv-at-receipts"));
  document.body.dataset.ready = "true";
};

start();
