// What a kind of question is, as types.

/**
 * A question on show. @typedef {{ root: any, view: QuizView, arrays: QuizArrays }} Asked
 *
 * What a kind gets from the panel: choose(answer) is called with every change of the answer, url(name) is the address
 * of a picture among the arrays, and load decodes one.
 * @typedef {{
 *   choose: (answer: number[]) => void,
 *   commit: () => void,
 *   url: (name: "sprite" | "picture" | "result") => string,
 *   load: (bytes: Uint8Array, then: (picture: HTMLImageElement) => void) => void,
 * }} Tools
 *
 * How a kind of question is answered: the role and the class of what holds its parts, and the parts.
 * @typedef {{
 *   role: string,
 *   look: (view: QuizView) => string,
 *   parts: (asked: Asked, tools: Tools) => Node[],
 * }} Kind
 */

export {};
