// A row of toggles: pressing one opens its desk below, pressing it again closes it.
const render = ({ model, el }) => {
  const root = h("section", { class: "cv cv-desks-bar", "data-panel": "desks", "data-lm-suppress-shortcuts": "true" });
  const buttons = new Map();
  const choose = (name) => {
    model.set("shown", model.get("shown") === name ? "" : name);
    model.save_changes();
  };
  const row = h("div", { class: "row", role: "toolbar", "aria-label": "Further lenses" });
  for (const [name, title, question] of model.get("desks")) {
    const button = h("button", { type: "button", class: "desk", "data-name": name, "aria-expanded": "false", onclick: () => choose(name) }, h("b", {}, title), h("span", {}, question));
    buttons.set(name, button);
    row.append(button);
  }
  root.append(row);
  el.append(root);
  const update = () => {
    const open = model.get("shown");
    root.dataset.open = open;
    buttons.forEach((button, name) => button.setAttribute("aria-expanded", String(name === open)));
  };
  const theme = () => (root.dataset.theme = themeNow());
  const watcher = new MutationObserver(theme);
  watcher.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-jp-theme-name"] });
  row.addEventListener("keydown", (event) => {
    const all = [...buttons.values()];
    const to = gridKeys(event, 0, all.indexOf(document.activeElement), 1, all.length);
    if (to) { event.preventDefault(); all[to[1]].focus(); }
  });
  model.on("change:shown", update);
  theme();
  update();
  return () => { model.off("change:shown", update); watcher.disconnect(); };
};

export default { render };
