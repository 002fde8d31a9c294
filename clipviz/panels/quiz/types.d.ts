// What a kind of question is drawn with.

/** A question on show. */
interface QuestionShown {
  root: any;
  view: QuizView;
  arrays: QuizArrays;
}

/** What a kind gets from the panel. */
interface QuestionTools {
  /** Called with every change of the answer. */
  choose(answer: number[]): void;
  commit(): void;
  /** The address of a picture among the arrays. */
  url(name: "sprite" | "picture" | "result"): string;
  /** Decodes a picture. */
  load(bytes: Uint8Array, then: (picture: HTMLImageElement) => void): void;
}

/** How a kind of question is answered: the role and the class of what holds its parts, and the parts. */
interface QuestionKind {
  role: string;
  look(view: QuizView): string;
  parts(asked: QuestionShown, tools: QuestionTools): Node[];
}
