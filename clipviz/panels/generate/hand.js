// The hand: pointer, wheel and keys over the picture.

// The picture under the hand: a drag or a wheel moves the concept's map, and the frames that Python finds
// follow.

const STEP = 1 / 16;

const ZOOM = 1.06;

const APART = 50; // ms between two moves sent to Python; the map follows every move

/** @param {number} zoom */
const clampZoom = (zoom) => Math.max(0.4, Math.min(2.5, zoom));

/**
 * The hand: pointer, wheel and keys become option `move` = [grip, right, down, zoom]; `moved` is called at
 * once, so that the map follows before Python has heard. @param {GenerateApi} api @param {any} stage @param {() =>
 * void} moved
 */
export const hand = (api, stage, moved) => {
  let grip = 0;
  /** @type {number[] | null} */
  let from = null;
  /** @type {[number, number, number]} */
  let at = [0, 0, 1];
  let shown = [0, 0, 1];
  let waiting = 0;
  let told = 0;
  let wheeled = 0;
  const tell = () => {
    waiting ||= setTimeout(
      () => {
        [waiting, told] = [0, performance.now()];
        api.put({ move: [grip, ...at] });
      },
      Math.max(0, told + APART - performance.now()),
    );
  };
  const take = () => {
    grip = Math.max(grip, api.option("move")?.[0] ?? 0) + 1;
    at = [0, 0, 1];
    shown = at;
  };
  /** @param {number} right @param {number} down @param {number} zoom */
  const go = (right, down, zoom) => {
    at = [right, down, clampZoom(zoom)];
    moved();
    tell();
  };
  const drop = () => {
    from = null;
    stage.dataset.held = "false";
  };
  const heard = {
    /** @param {On<PointerEvent>} event */
    pointerdown: (event) => {
      if (event.button) return;
      stage.setPointerCapture(event.pointerId);
      take();
      from = [event.clientX, event.clientY];
      stage.dataset.held = "true";
    },
    /** @param {On<PointerEvent>} event */
    pointermove: (event) => {
      if (!from) return;
      const side = stage.getBoundingClientRect().width;
      go((event.clientX - from[0]) / side, (event.clientY - from[1]) / side, at[2]);
    },
    pointerup: drop,
    pointercancel: drop,
    /** @param {On<KeyboardEvent>} event */
    keydown: (event) => {
      const move = {
        ArrowLeft: [-STEP, 0, 1],
        ArrowRight: [STEP, 0, 1],
        ArrowUp: [0, -STEP, 1],
        ArrowDown: [0, STEP, 1],
        "+": [0, 0, ZOOM ** 2],
        "=": [0, 0, ZOOM ** 2],
        "-": [0, 0, ZOOM ** -2],
      }[event.key];
      if (!move) return;
      event.preventDefault();
      take();
      go(move[0], move[1], move[2]);
    },
  };
  for (const [event, listener] of Object.entries(heard)) stage.addEventListener(event, listener);
  stage.addEventListener(
    "wheel",
    (/** @type {On<WheelEvent>} */ event) => {
      event.preventDefault();
      if (!from && event.timeStamp - wheeled > 900) take();
      wheeled = event.timeStamp;
      go(at[0], at[1], at[2] * (event.deltaY < 0 ? ZOOM : 1 / ZOOM));
    },
    { passive: false },
  );
  return {
    /** The map on show was made when the hand was here. @param {number[]} given */
    settle: ([held, ...place]) => {
      shown = held === grip ? place : at;
    },
    /** How far the map on show lags behind the hand: right, down, zoom. */
    ahead: () => [at[0] - shown[0], at[1] - shown[1], at[2] / shown[2]],
  };
};
