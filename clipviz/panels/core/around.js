// The theme of a page of its own: the one that its address names, else that of the page around it, else the system's.

import { followPage, themeNow } from "../kit/protocol.js";

/** The element that shows this page within another page of the same origin. @returns {HTMLElement | null} */
export const ownFrame = () => {
  try {
    return /** @type {HTMLElement | null} */ (window.frameElement);
  } catch {
    return null; // another site's
  }
};

/** Keeps the page in its theme. */
export const followAround = () => {
  const told = new URLSearchParams(location.search).get("theme");
  const around = ownFrame()?.ownerDocument;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const set = () => {
    const now = around ? themeNow(around) : dark.matches ? "dark" : "light";
    const theme = told === "light" || told === "dark" ? told : now;
    document.body.dataset.jpThemeLight = String(theme === "light");
    document.documentElement.style.colorScheme = theme;
  };
  if (around) followPage(around, set);
  else {
    dark.addEventListener("change", set);
    set();
  }
};
