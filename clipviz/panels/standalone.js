// A saved page: each panel's own script on a stand-in model that holds its traits and has no kernel behind it.
{
  const bytes = (text) => {
    const raw = atob(text), array = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) array[i] = raw.charCodeAt(i);
    return new DataView(array.buffer);
  };
  const unpacked = (value) => (value && typeof value === "object" && typeof value.base64 === "string" ? bytes(value.base64) : value);

  // Nobody answers a request; panels keep what they draw by themselves.
  const standIn = (traits, asked) => {
    const values = Object.fromEntries(Object.entries(traits).map(([name, value]) => [name, unpacked(value)]));
    const nothing = () => {};
    return {
      standalone: true,
      get: (name) => values[name],
      set: (name, value) => {
        values[name] = value;
        if (name === "request") asked();
      },
      save_changes: nothing, on: nothing, off: nothing,
    };
  };

  const follow = () => {
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const set = () => (document.body.dataset.jpThemeLight = String(!dark.matches));
    dark.addEventListener("change", set);
    set();
  };

  const start = async () => {
    follow();
    const panels = JSON.parse(document.getElementById("panels").textContent);
    const single = panels.length === 1;
    const board = h("div", { class: "cv-board jupyter-widgets" }), desks = h("div", { class: "cv-desks jupyter-widgets" });
    const note = h("p", { class: "cv-note", role: "status" }, "Saved view: works offline, without the model. Hovering, scales, sums over heads and removing heads work; other images, texts and units need the notebook.");
    let quiet = 0;
    const asked = () => {
      clearTimeout(quiet);
      note.dataset.asked = "true";
      quiet = setTimeout(() => delete note.dataset.asked, 2500);
    };
    document.querySelector("main").append(h("div", { class: "cv-dashboard jupyter-widgets" }, board), note);
    for (const { name, script, traits, below } of panels) {
      const el = h("div", { class: `cv-at-${single || below ? "desk" : name}` });
      (single || below ? desks : board).append(el);
      const url = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
      const { default: panel } = await import(url);
      URL.revokeObjectURL(url);
      panel.render({ model: standIn(traits, asked), el });
    }
    if (desks.children.length) board.insertBefore(desks, board.querySelector(":scope > .cv-at-receipts"));
    document.body.dataset.ready = "true";
  };

  start();
}
