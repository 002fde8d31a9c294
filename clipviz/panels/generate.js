// The picture under the hand: a drag or a wheel moves the concept's map, and the frames that Python finds follow.
const STEP = 1 / 16;
const ZOOM = 1.06;
const clampZoom = (zoom) => Math.max(0.4, Math.min(2.5, zoom));

/** Random, a class, the selected image. @param {Api} api */
const starts = (api) => {
  const begin = (source, more = {}) => api.ask({}, { action: "begin", source, ...more });
  const random = link("Random picture", () => begin("random"), { title: "A new latent from the prior" });
  const classes = h("select", { "aria-label": "Class", onchange: () => classes.value && begin("class", { label: classes.value }) });
  const image = link("From the selected image", () => begin("image"), { title: "Search the latent whose shared units see the same as in the image (Eq. 4.7)" });
  let known = "";
  const set = (view) => {
    const key = view.classes.join("\n");
    if (key !== known) {
      known = key;
      classes.replaceChildren(h("option", { value: "" }, "Random…"), ...view.classes.map((name) => h("option", { value: name }, name)));
    }
    classes.value = view.label;
    classes.hidden = !view.classes.length;
    image.disabled = view.image === null;
  };
  return [h("div", { class: "starts" }, random, h("label", {}, "Class ", classes), image), set];
};

/** The hand: pointer, wheel and keys become option `move` = [grip, right, down, zoom]. @param {Api} api @param {any} stage */
const hand = (api, stage) => {
  let grip = 0, from = null, at = [0, 0, 1], waiting = 0;
  const tell = () => {
    if (waiting) return;
    waiting = requestAnimationFrame(() => { waiting = 0; api.put({ move: [grip, ...at] }); });
  };
  const take = () => { grip = Math.max(grip, api.option("move")?.[0] ?? 0) + 1; at = [0, 0, 1]; };
  const go = (right, down, zoom) => { at = [right, down, clampZoom(zoom)]; stage.dataset.move = at.map((value) => value.toFixed(3)).join(" "); tell(); };
  stage.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    stage.setPointerCapture(event.pointerId);
    take();
    from = [event.clientX, event.clientY];
    stage.dataset.held = "true";
  });
  stage.addEventListener("pointermove", (event) => {
    if (!from) return;
    const side = stage.getBoundingClientRect().width;
    go((event.clientX - from[0]) / side, (event.clientY - from[1]) / side, at[2]);
  });
  const drop = () => { from = null; stage.dataset.held = "false"; };
  stage.addEventListener("pointerup", drop);
  stage.addEventListener("pointercancel", drop);
  let wheeled = 0;
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    if (!from && event.timeStamp - wheeled > 900) take();
    wheeled = event.timeStamp;
    go(at[0], at[1], at[2] * (event.deltaY < 0 ? ZOOM : 1 / ZOOM));
  }, { passive: false });
  stage.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: [-STEP, 0, 1], ArrowRight: [STEP, 0, 1], ArrowUp: [0, -STEP, 1], ArrowDown: [0, STEP, 1], "+": [0, 0, ZOOM ** 2], "=": [0, 0, ZOOM ** 2], "-": [0, 0, ZOOM ** -2] }[event.key];
    if (!move) return;
    event.preventDefault();
    take();
    go(...move);
  });
  return () => { if (!from) delete stage.dataset.move; };
};

/** The address of a picture that stays while its bytes do: nothing that is still loading is taken away. @param {Api} api */
const steadyUrl = (api) => {
  const address = pictureUrl(api);
  let known = new Uint8Array(), url = "";
  return (bytes) => {
    if (bytes.length !== known.length || bytes.some((byte, i) => byte !== known[i])) { known = bytes; url = address(bytes); }
    return url;
  };
};

/** What the model says before and after. @param {any} view */
const verdicts = (view) => view.before.map((before, i) => {
  const after = view.after[i] ?? before, same = before.answer === after.answer;
  const cell = (said, other) => h("td", { class: other && !same ? "changed" : null }, said.answer, " ", h("span", { class: "num" }, percent(said.probability)));
  return h("tr", {}, h("th", { scope: "row" }, before.question), cell(before), cell(after, true));
});

/** The strongest concepts; one or all of them are under the hand. @param {Api} api */
const concepts = (api) => {
  const list = h("div", { class: "concepts", role: "listbox", "aria-label": "Concepts" });
  const choose = (place) => api.ask({}, { options: { concept: place } });
  walk(list, () => [...list.children], { columns: perRow });
  const set = (view, arrays, url) => {
    const chosen = api.option("concept"), size = view.side * view.side;
    const tile = (place, title, hint, map) => h("button", { type: "button", class: "one", role: "option", title: hint, "data-place": place, onclick: () => choose(place) },
      h("span", { class: "tile", style: { backgroundImage: `url(${url})`, backgroundSize: "cover" } }, map), h("span", { class: "name" }, title));
    const maps = view.concepts.map((_, i) => glow(arrays.tiles.subarray(i * size, (i + 1) * size), view.side, view.side, 255));
    list.replaceChildren(tile(-1, "All concepts", `All ${view.n_concepts} units that other models share`, null),
      ...view.concepts.map((one, i) => tile(one.place, one.title, `${one.title}, shared with ${one.readers.join(" and ")}`, maps[i])));
    markSelected([...list.children], (item) => Number(item.dataset.place) === chosen);
  };
  return [list, set];
};

/** Copy, remove, amplify; reset, keep, add. @param {Api} api */
const tools = (api) => {
  const change = (name, text, hint) => link(text, () => api.ask({}, { action: "change", change: name }), { title: hint, "data-change": name });
  const act = (name, text, hint) => link(text, () => api.ask({}, { action: name }), { title: hint, "data-action": name });
  return h("div", { class: "tools", role: "toolbar", "aria-label": "Changes" },
    change("copy", "Copy", "Everything twice: once left, once right"), change("remove", "Remove", "Each map at its own minimum"), change("amplify", "Amplify", "Each map 1.6 times as high"),
    h("span", { class: "gap" }), act("reset", "Reset", "Back to the picture before"), act("keep", "Keep", "Put this picture aside"), act("add", "Add to images", "Every other panel can show it then"));
};

function build(api) {
  const [begins, setBegins] = starts(api), [list, setConcepts] = concepts(api);
  const canvas = h("canvas", { class: "picture" });
  const stage = h("div", { class: "stage", tabindex: 0, role: "application", "aria-label": "Generated picture. Drag to move the concept, wheel to zoom; arrow keys and plus and minus do the same." }, canvas);
  const settle = hand(api, stage), table = h("tbody", {}), first = h("img", { class: "first", alt: "The picture before" });
  const status = h("p", { class: "status", role: "status" }), kept = h("div", { class: "kept", "aria-label": "Kept pictures" });
  const opacity = h("input", { type: "range", min: 0, max: 1, step: 0.05, "aria-label": "Opacity of the map", oninput: () => api.put({ opacity: Number(opacity.value) }) });
  const side = h("div", { class: "side" }, h("div", { class: "beside" }, h("figure", {}, first, h("figcaption", {}, "Before")),
    h("table", {}, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "CLIP says"), h("th", { scope: "col" }, "before"), h("th", { scope: "col" }, "now"))), table)), status, tools(api), kept);
  const bench = h("div", { class: "bench" }, h("div", { class: "hold" }, stage, h("label", { class: "opacity" }, "Map ", opacity), h("p", { class: "hint" }, "Drag to move · wheel to zoom")), side, list);
  const [message, says] = messageInstead(bench, begins);
  api.body.append(h("h3", {}, "Generate", h("small", {}, "the map moves, the generator follows")), begins, message, bench);
  followVisibility(api);
  const load = pictureLoader(api), addresses = ["first", "kept", "tiles"].map(() => steadyUrl(api));
  return (view, arrays) => {
    if (says(view)) return void (api.root.dataset.state = "message");
    setBegins(view);
    opacity.value = api.option("opacity");
    load(arrays.picture, (picture) => {
      const layer = mapLayer(arrays.map, view.side, view.side, 255, "glow");
      drawMap(canvas, picture, layer, api.option("opacity"), stage.clientWidth || 288);
      if (view.settled) setConcepts(view, arrays, addresses[2](arrays.picture));
      Object.assign(api.root.dataset, { state: view.settled ? "settled" : "moving", step: view.step, distance: view.distance.toFixed(4), label: view.label, concept: api.option("concept"), kept: view.n_kept });
    });
    status.textContent = view.settled ? (view.asked ? `Distance of the maps from what was asked: ${view.asked.toFixed(3)} at first, ${view.distance.toFixed(3)} now` : "Nothing has been changed yet") : `Searching: step ${view.step} of ${view.of}, distance ${view.distance.toFixed(3)}`;
    if (!view.settled) return;
    settle();
    first.src = addresses[0](arrays.first);
    table.replaceChildren(...verdicts(view));
    const sheet = arrays.kept ? addresses[1](arrays.kept) : "";
    kept.replaceChildren(...Array.from({ length: view.n_kept }, (_, i) => h("button", { type: "button", class: "tile", "aria-label": `Kept picture ${i + 1}`, style: tileStyle(sheet, i, view.n_kept, view.n_kept), onclick: () => api.ask({}, { action: "back", place: i }) })));
  };
}

export default { render: (context) => mount(context, "generate", build) };
