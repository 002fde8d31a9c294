// The board: a grid, and a panel in each of its places.

import { boardFrame, boardPlace, drawWidget } from "../kit/board.js";
import { followTheme } from "../kit/protocol.js";

/** @param {Context} context */
const render = async ({ model, el, host, signal }) => {
  const { root, grid, desks } = boardFrame(model.get("size") === "lecture");
  const shown = Object.entries(model.get("shown")).map(([name, reference]) => {
    const place = name === "desks" ? desks : boardPlace(name);
    grid.append(place);
    return drawWidget(host, reference, place, signal);
  });
  el.classList.add("cv-host");
  el.append(root);
  const unfollow = followTheme(root);
  await Promise.all(shown);
  return unfollow;
};

export default { render };
