// Types that many scripts share.

/** What an element can be built from. */
type Child = Node | string | number | null | undefined;

/** An event at an element of any kind. */
type On<E extends Event = Event> = E & { target: any };

/** An element's attributes; those named on… are listeners, `style` is an object. */
interface Attributes {
  onclick?: (event: On<MouseEvent>) => void;
  onchange?: (event: On) => void;
  oninput?: (event: On) => void;
  onkeydown?: (event: On<KeyboardEvent>) => void;
  onpointerdown?: (event: On<PointerEvent>) => void;
  onpointermove?: (event: On<PointerEvent>) => void;
  onpointerup?: (event: On<PointerEvent>) => void;
  [name: string]: any;
}

/** Paints a view and its arrays. */
type Draw<View = any, Arrays = any> = (view: View, arrays: Arrays) => void;

/** Red, green, blue. */
type Colour = number[];

/** A widget's traits, as anywidget, a saved page and a published page give them to a script. */
interface Model {
  get(name: string): any;
  set(name: string, value: any): void;
  on(event: string, listener: (...args: any[]) => void): void;
  off(event: string, listener: (...args: any[]) => void): void;
  save_changes(): void;
  send(content: any): void;
  /** Finds the widgets that this one refers to; a notebook has it. */
  widget_manager?: { get_model(id: string): Promise<Model> };
  /** A saved page: nobody answers but what is stored. */
  standalone?: boolean;
  /** A saved page holds one view of this panel. */
  fixed?: boolean;
  /** A saved page: whether it can answer a request. */
  offers?(request: Partial<PanelRequest>): boolean;
  /** A published page: a model that lives in the browser. */
  live?: boolean;
  /** A published page: the desks that it has. */
  desks?: string[];
}

/** What a browser asks of a panel: see clipviz/panels/requests.py. */
interface PanelRequest {
  seq: number;
  changes: Record<string, any>;
  options: Record<string, any>;
  action: string;
  [more: string]: any;
}

/** Where the points of a plane are on the screen. */
type Camera = import("./plane.js").PlaneCamera;

/** What is painted of a plane's points: a byte for each, the bytes that occur, and their colours. */
interface Scene {
  colours: Uint8Array;
  bytes: number[];
  shade(byte: number): string;
  ringed: boolean;
  ink: string;
  key: string;
}

/** Where a script draws, and the traits that it draws. */
interface Context {
  model: Model;
  el: HTMLElement;
  /** Draws other widgets; a notebook has it. */
  host?: Host;
  /** Ends what is drawn; a notebook has it. */
  signal?: AbortSignal;
}

/** Finds another widget, by a reference that Python wrote, to be drawn in an element. */
interface Host {
  getWidget(reference: string): Promise<{
    render(where: { el: HTMLElement; signal: AbortSignal }): Promise<void>;
  }>;
}

/** What a panel's script draws with: the panel, what Python sent, and the ways to ask. */
interface Api<View = any, Arrays = any, Options extends Record<string, any> = any> {
  root: HTMLElement;
  body: HTMLElement;
  /** The widget's traits. */
  model: Model;
  theme: "light" | "dark";
  /** What is drawn, as Python sent it. */
  view: View;
  /** The view's arrays. */
  arrays: Arrays;
  /** Called when the panel goes. */
  cleanups: (() => void)[];
  /** A saved page: nobody answers. */
  standalone: boolean;
  /** Whether the panel can be downloaded as a figure. */
  printed: boolean;
  /** Whether that would be answered: always, but in a saved page. */
  offers(changes?: object, extra?: Record<string, any>): boolean;
  /** Change the selection or options, or act. */
  ask(changes?: object, extra?: Record<string, any>): void;
  /** Set options that are drawn here; tell Python. */
  put(options: Partial<Options>, tell?: boolean): void;
  /** An option as it is drawn. */
  option<Name extends keyof Options & string>(name: Name): Options[Name];
  showError(error: any): void;
  redraw(): void;
}
