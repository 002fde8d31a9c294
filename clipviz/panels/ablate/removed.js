// What is removed: shown here at once, told to the kernel once the hand rests.

import { headKey, headOf } from "../kit/grid.js";

const SETTLE = 140;

/**
 * The removed heads: shown here at once, and sent to the kernel after the last click.
 * @param {AblateApi} api
 * @param {() => void} paint
 */
export const removedSet = (api, paint) => {
  const self = {
    /** @type {Set<string>} */
    heads: new Set(),
    /** @type {Set<number>} */
    mlps: new Set(),
    token: false,
    rest: false,
    how: "mean",
  };
  let waits = false;
  let timer = 0;
  /** @type {number | null} */
  let adopted = null;
  const toDict = () => ({
    heads: [...self.heads].map(headOf).sort((a, b) => a[0] - b[0] || a[1] - b[1]),
    layers: self.rest ? api.view.rest.layers : [],
    mlps: self.rest ? api.view.rest.mlps : [],
    tokens: /** @type {number[]} */ ([]),
    how: self.how,
  });
  const changed = () => {
    paint();
    clearTimeout(timer);
    if (api.standalone) return;
    waits = true;
    timer = setTimeout(() => {
      waits = false;
      const mlps = [...self.mlps].sort((a, b) => a - b);
      api.ask({ ablation: toDict() }, { options: { mlps, class_token: self.token } });
    }, SETTLE);
  };
  /** @param {string} at */
  const toggle = (at) => {
    if (!self.heads.delete(at)) self.heads.add(at);
    changed();
  };
  /** @param {string[]} keys */
  const toggleAll = (keys) => {
    const out = keys.every((at) => self.heads.has(at));
    keys.forEach((at) => (out ? self.heads.delete(at) : self.heads.add(at)));
    changed();
  };
  /** @param {number} mlp */
  const toggleMlp = (mlp) => {
    if (!self.mlps.delete(mlp)) self.mlps.add(mlp);
    changed();
  };
  const clear = () => {
    self.heads.clear();
    self.mlps.clear();
    self.rest = self.token = false;
    changed();
  };
  /** @param {AblateView} view */
  const adopt = (view) => {
    if (waits || adopted === view.seq) return;
    adopted = view.seq;
    const { heads, layers, mlps, how } = view.selection.ablation;
    self.heads = new Set(heads.map(([layer, head]) => headKey(layer, head)));
    for (const layer of layers.filter((one) => view.kept.includes(one)))
      for (let head = 0; head < view.n_heads; head++) self.heads.add(headKey(layer, head));
    self.rest = mlps.length > 0 && mlps.length === view.rest.mlps.length;
    self.how = how;
    self.mlps = new Set(view.apart.mlps);
    self.token = view.apart.token;
  };
  const told = () => isTold(api.view, self);
  api.cleanups.push(() => clearTimeout(timer));
  return Object.assign(self, { changed, toggle, toggleAll, toggleMlp, clear, adopt, told });
};

/** Whether a view is of what is removed here. @param {AblateView} view @param {Partial<Removed>} removed */
const isTold = ({ apart, selection: { ablation } }, { heads, mlps, token, rest, how }) => {
  if (apart.token !== token || apart.mlps.length !== mlps.size || apart.mlps.some((mlp) => !mlps.has(mlp)))
    return false;
  const told = ablation.heads.map(([layer, head]) => headKey(layer, head));
  return (
    ablation.layers.length > 0 ||
    (told.length === heads.size &&
      told.every((at) => heads.has(at)) &&
      ablation.how === how &&
      ablation.mlps.length > 0 === rest)
  );
};

/** @typedef {ReturnType<typeof removedSet>} Removed */
