// Written by tools/js/views.py from clipviz/panels/*/sent.py and the options; not to be edited.

/** Heads to remove together. */
interface PresetShown {
  kind: string;
  name: string;
  heads: [number, number][];
}

/** Accuracy of a group before and after, with random heads removed instead, and the change's interval. */
interface OutcomeRow {
  name: string;
  n_images: number;
  before: number;
  after: number;
  random: number[];
  change: [number, number];
  differs: boolean;
}

/** Accuracy over the collection. */
interface OutcomeShown {
  everything: OutcomeRow;
  worst: OutcomeRow | null;
  groups: OutcomeRow[];
  removed: boolean;
  by: string;
  n_heads: number;
  drawn_from: number[];
  chance: number;
}

/** One image's sums, which are in the panel's `desk`. rows: the classes shown; label: index of the true one among them, or -1; key: changes with the sums. */
interface DeskShown {
  arrays: Record<string, Place>;
  names: string[];
  prompts: string[];
  rows: number[];
  n_classes: number;
  apart: boolean;
  token: boolean;
  heads: [number, number][];
  scale: number;
  bias: number | null;
  link: string;
  label: number;
  n_means: number;
  key: number;
}

/** What only this desk removes. */
interface Apart {
  mlps: number[];
  token: boolean;
}

/** The desk's view. tasks: [name, note]; rest: everything except the late heads. */
interface AblateView extends Shown {
  n_layers?: number;
  n_heads?: number;
  n_mlps?: number;
  has_token?: boolean;
  kept?: number[];
  rest?: AblationShown;
  tasks?: [string, string][];
  note?: string;
  task?: string;
  classes?: string;
  apart?: Apart;
  n_read?: number;
  n_images?: number;
  complete?: boolean;
  desk?: DeskShown | null;
  outcome?: OutcomeShown | null;
  presets?: PresetShown[];
  message?: string;
}

interface AblateArrays {
}

/** ends: texts of the axes' ends; regions: [text, x, y, points]; tiles: the points that have a picture, names: theirs. */
interface AtlasView extends Shown {
  message?: string;
  by?: string;
  ends?: string[][];
  regions?: [string, number, number, number][];
  n_points?: number;
  n_images?: number;
  share?: number;
  columns?: string[];
  column?: string;
  groups?: [number, string, number, string][];
  tiles?: number[];
  tile_columns?: number;
  names?: string[];
  ringed?: boolean;
  plane?: string;
}

/** ids: [point]; places: [point, 2]; colours: a byte for each point; sprite: the tiles' pictures. */
interface AtlasArrays {
  ids?: Int32Array;
  places?: Float32Array;
  colours?: Uint8Array;
  sprite?: Uint8Array;
}

/** How far the class is with a question. n: the number of answers. */
interface ClassroomProgress {
  n: number;
  revealed: boolean;
}

/** The share of right answers with its interval, and that of guessing; said: both in a sentence. */
interface ClassroomScore {
  right: number;
  low: number;
  high: number;
  chance: number;
  said: string;
}

/** What is shown once a question has been revealed. right: which counts are those of right answers; told: the answer with its explanation; score: None before there are answers. */
interface ClassroomTruth {
  right: boolean[];
  told: string;
  truth: string;
  score: ClassroomScore | null;
  mask?: number[];
  measured?: string;
  exact?: number;
  band?: number[];
  box?: number[];
}

/** The view of a class. students: how many have answered; joined: how many share their answers; unread: the number of files that cannot be read; score: of all revealed questions; at: the question on show; counts: how many gave each answer, empty where that would tell what is right; labels: what is counted, where the question does not say it; saved: in a saved page the views of all questions, whose arrays have the question's number behind their names. */
interface ClassroomView extends Shown {
  students: number;
  joined: number;
  unread: number;
  trouble: string;
  progress: ClassroomProgress[];
  score: ClassroomScore | null;
  at: number;
  words: string;
  kind: "choice" | "number" | "place" | "piles";
  tiles: number[];
  names: string[];
  columns: number;
  counts: number[];
  labels: string[];
  size: "normal" | "lecture";
  options?: QuizOption[];
  map?: number[];
  steps?: string[];
  name?: string;
  piles?: string[];
  revealed?: ClassroomTruth;
  saved?: ClassroomView[];
}

/** The arrays of the question on show, as in the quiz. */
interface ClassroomArrays {
  sprite?: Uint8Array;
  picture?: Uint8Array;
  maps?: Float32Array;
  outline?: Uint8Array;
  result?: Uint8Array;
}

/** What is removed. */
interface AblationShown {
  heads: [number, number][];
  layers: number[];
  mlps: number[];
  tokens: number[];
  how: "mean" | "zero";
}

/** What is selected. */
interface SelectionShown {
  image: number | null;
  images: number[];
  text: string;
  text_b: string;
  layer: number | null;
  head: number | null;
  token: number | null;
  neuron: number | null;
  dictionary: string;
  concept: number | null;
  ablation: AblationShown;
}

/** The position of an array in the view's buffer. */
interface Place {
  dtype: "float32" | "int32" | "uint8";
  shape: number[];
  offset: number;
  size: number;
}

/** The fields added to every view. ack: the request that it answers. waiting, asSaved: set by pages only. */
interface Shown {
  seq?: number;
  ack?: number;
  selection?: SelectionShown;
  removed?: string;
  arrays?: Record<string, Place>;
  message?: string;
  waiting?: boolean;
  asSaved?: boolean;
}

/** The possible numbers of texts in a neuron's code, whether each is possible, and the one shown. */
interface CodeSizes {
  sizes?: [number, boolean][];
  m?: number;
}

/** The units that are shown. dictionary: the name of the dictionary whose features are shown, "" for the neurons of `layer`; dictionaries: the names of all in use; reconstruction: how well the one shown reconstructs its point, in words. */
interface UnitsShown {
  sizes?: [number, boolean][];
  m?: number;
  layer?: number | null;
  n_layers?: number;
  dictionary?: string;
  dictionaries?: string[];
  reconstruction?: string;
  message?: string;
}

/** A text with its score. */
interface Scored {
  text: string;
  score: number;
}

/** A neuron behind a word: part = weight of the text in its code × its direction along the pair. */
interface NeuronBehind {
  layer: number;
  neuron: number;
  weight: number;
  along: number;
  part: number;
}

/** A word that pulls pictures towards the other class; null: the largest score of its rank in random rotations. */
interface CueShown {
  text: string;
  score: number;
  neurons: NeuronBehind[];
  null: number;
  differs: boolean;
  drawable: boolean;
}

/** Pictures with some words: how many mislead the model, their margins, and the first one's place in the sheet. */
interface AttemptShown {
  method: string;
  words: string[];
  fooled: number;
  interval: [number, number];
  mean: number;
  sentences: string[];
  margins: number[];
  first: number;
}

/** A method without pictures, and the reason. */
interface LeftOut {
  method: string;
  reason: string;
}

/** One enlarged picture. */
interface LookShown {
  method: string;
  place: number;
  sentence: string;
  margin: number;
  grid: number[];
}

interface CuesView extends Shown {
  sizes?: [number, boolean][];
  m?: number;
  layers?: number[];
  n_layers?: number;
  message?: string;
  classes?: string[];
  draws?: boolean;
  drawn?: string;
  mistaken?: string;
  words?: CueShown[];
  attempts?: AttemptShown[];
  note?: string;
  look?: LookShown | null;
  n_read?: number;
  n_texts?: number;
  complete?: boolean;
  drawing?: boolean;
  columns?: number;
  left_out?: LeftOut[];
  n_tiles?: number;
  verdict?: string;
}

/** The desk's arrays. sprite: all pictures; picture, map: the enlarged one. */
interface CuesArrays {
  sprite?: Uint8Array;
  picture?: Uint8Array;
  map?: Float32Array;
}

/** The model's answers about a picture. */
interface SaidShown {
  question: string;
  answer: string;
  probability: number | null;
}

/** Units of the generator that are active together. */
interface ConceptListed {
  place: number;
  name: string;
  similarity: number;
  units: [string, number][];
  readers: string[];
}

/** The desk's view. settled: whether the picture is at rest; step, of: steps of a search; asked, distance: distances of the maps from the requested ones, before and now. */
interface GenerateView extends Shown {
  message?: string;
  settled?: boolean;
  step?: number;
  of?: number;
  work?: string;
  asked?: number | null;
  distance?: number | null;
  done?: boolean | null;
  verdict?: string;
  reached?: number;
  scene?: Record<string, string> | null;
  side?: number;
  classes?: string[];
  label?: string | null;
  link?: string;
  before?: SaidShown[];
  after?: SaidShown[];
  n_units?: number;
  concepts?: ConceptListed[];
  n_concepts?: number;
  n_kept?: number;
  image?: number | null;
  moved?: number[];
}

/** The arrays. map, tiles: deviations of the concepts' units as bytes; pixels: an intermediate picture's. */
interface GenerateArrays {
  picture?: Uint8Array;
  first?: Uint8Array;
  map?: Uint8Array;
  tiles?: Uint8Array;
  kept?: Uint8Array;
  pixels?: Uint8Array;
}

/** A head's label with its p-value, its first texts, and the role that a person gave it. */
interface HeadSummary {
  label: string;
  p: number;
  texts: string[];
  role: string;
}

/** A head that varies along the typed text. */
interface HeadFound {
  layer: number;
  head: number;
  share: number;
  above: number;
}

/** The grid's view. summaries: by "layer,head", None until the heads are labelled. */
interface HeadsView extends Shown {
  n_layers: number;
  n_heads: number;
  has_tail: boolean;
  kept: number[];
  cosine: number | null;
  cosine_before: number | null;
  summaries: Record<string, HeadSummary> | null;
  waits: string;
  found: HeadFound[];
}

/** The arrays. heads: [layer, head]; mlps: input term, each layer's, the pool's; variance: [kept layer, head]. */
interface HeadsArrays {
  heads: Float32Array;
  mlps: Float32Array;
  variance?: Float32Array;
}

/** Why an image differs from what the model was trained on. */
interface Far {
  known: boolean;
  why: string;
  cosine: number;
  share: number;
  n_images: number;
}

/** The image's rank among the pool's texts and among the images. */
interface PercentilesShown {
  cosine: number;
  rank: number | null;
  n_texts: number;
  share: number;
  n_images: number;
}

/** What the cosine is compared with. true: for each of the nearest texts whether it is true, if known. */
interface ContextShown {
  nearest: [string, number][];
  true: (boolean | null)[] | null;
  far: Far | null;
  percentiles: PercentilesShown | null;
}

/** The texts of the head that agree most and least with the image. */
interface JointShown {
  message: string;
  texts: string[];
  values: number[];
  n_texts: number;
}

/** The view. mask_size: rows and columns of the true mask; fits: whether the text names an object of the image. */
interface HeatmapView extends Shown {
  message?: string;
  rows?: number;
  cols?: number;
  mask_size?: number[] | null;
  n_layers?: number;
  n_heads?: number;
  n_late?: number;
  pools?: boolean;
  baselines?: string[];
  ignoring?: string[];
  neuron_layers?: number[];
  neuron_threshold?: number;
  cosine?: number | null;
  cosine_before?: number | null;
  fits?: boolean | null;
  context?: ContextShown | null;
  title?: string;
  picture?: [number, string];
  joint?: JointShown | null;
}

interface BaselineArrays {
  LRP?: Float32Array;
  "partial LRP"?: Float32Array;
  rollout?: Float32Array;
  "raw attention"?: Float32Array;
  "Grad-CAM"?: Float32Array;
  "Chefer et al."?: Float32Array;
  "Chefer et al. (generic)"?: Float32Array;
}

/** The heatmap's arrays. attention, scores, shared: [layer, head, token]; joint_maps: [text, token]; the other methods' maps, named as in view.baselines: [row, column]. */
interface HeatmapArrays {
  LRP?: Float32Array;
  "partial LRP"?: Float32Array;
  rollout?: Float32Array;
  "raw attention"?: Float32Array;
  "Grad-CAM"?: Float32Array;
  "Chefer et al."?: Float32Array;
  "Chefer et al. (generic)"?: Float32Array;
  attention?: Float32Array;
  scores?: Float32Array;
  shared?: Float32Array;
  pool?: Float32Array;
  mask?: Uint8Array;
  neurons?: Float32Array;
  neuron?: Float32Array;
  joint_maps?: Float32Array;
}

/** One list of the gallery. */
interface ImageList {
  title: string;
  count: number;
}

/** The gallery's view. n_subset: number of images with the chosen attribute, None without a choice; attributes: images per word. places, n_tiles: used if a page keeps one sheet for all its answers. */
interface ImagesView extends Shown {
  order: string;
  by: string;
  lists: ImageList[];
  ids: number[];
  scores: (number | null)[];
  names: string[];
  columns: number;
  page: number;
  pages: number;
  attributes?: Record<string, Record<string, number>>;
  column?: string;
  value?: string;
  n_subset?: number | null;
  n_images?: number;
  n_read?: number;
  skipped?: [string, string][];
  n_skipped?: number;
  complete?: boolean;
  waits?: string;
  places?: number[];
  n_tiles?: number;
}

interface ImagesArrays {
  sprite: Uint8Array;
}

/** A neuron of the list: its score, and its first words with their weights. */
interface NeuronRow {
  neuron: number;
  score: number;
  note: string;
  words: [string, number][];
}

/** The neuron that is shown. code_share, random_share: the share of its direction, and of random directions, that its words reconstruct. */
interface NeuronShown {
  number: number;
  words: [string, number][];
  code_share: number;
  random_share: number;
  differs: boolean;
  rank_one: number;
  strength: number;
}

/** Images of the gallery that are similar, and the texts near them. */
interface GroupShown {
  places: number[];
  texts: string[];
  along: number;
}

/** The neuron's images. limit: the scale of maps and bars; separation, one_group: how well the groups are separated, and how well images without groups would be; strips: images of every interval. */
interface GalleryShown {
  how: string;
  ids: number[];
  names: string[];
  norms: number[];
  along: number[];
  columns: number;
  limit: number;
  groups: GroupShown[];
  separation: number;
  one_group: number;
  strips: number[];
}

/** Magnitude and part in the cosine of every kind of effect. */
interface EffectsShown {
  rows: Record<string, [number, number | null]>;
  cosine: number;
  n_images: number;
}

/** The neuron on the selected image. */
interface CurrentShown {
  image: number;
  name: string;
  norm: number;
  along: number;
  rank: number;
  effects: EffectsShown | null;
}

interface NeuronsView extends Shown {
  sizes?: [number, boolean][];
  m?: number;
  layer?: number | null;
  n_layers?: number;
  dictionary?: string;
  dictionaries?: string[];
  reconstruction?: string;
  message?: string;
  n_neurons?: number;
  n_read?: number;
  complete?: boolean;
  grid?: number[];
  found_by?: string;
  unit?: string;
  list?: NeuronRow[];
  neuron?: NeuronShown;
  pinned?: boolean;
  gallery?: GalleryShown;
  current?: CurrentShown | null;
  texts?: string;
}

/** The desk's arrays. edges, counts: the histogram of effects; maps: those of the gallery's images; map: that of the selected one. */
interface NeuronsArrays {
  edges?: Float32Array;
  counts?: Int32Array;
  sprite?: Uint8Array;
  maps?: Float32Array;
  picture?: Uint8Array;
  map?: Float32Array;
}

interface QueryView extends Shown {
  can_undo: boolean;
  can_redo: boolean;
  model: string;
  size: string;
  device: string;
  n_images: number;
  code: string;
  token: string;
  examples: string[];
}

interface QueryArrays {
}

/** An option; tiles: positions of its pictures in the sheet. */
interface QuizOption {
  words: string;
  tiles: number[];
}

/** What the kinds of questions show before the answer. options, map: of a choice, with the rows and columns of the options' maps; steps: the numbers of a slider as they are written; name: what a picture to draw on shows; piles: the names of two piles, into which the pictures of the sheet are sorted. */
interface QuizAsked {
  options?: QuizOption[];
  map?: number[];
  steps?: string[];
  name?: string;
  piles?: string[];
}

/** What the kinds of questions show after the answer. mask: rows and columns of the outline; measured: the number, exact: its place on the slider and band: the ends of what counts as right, in shares of it; box: the true one, in percent of the picture's sides. */
interface QuizTold {
  mask?: number[];
  measured?: string;
  exact?: number;
  band?: number[];
  box?: number[];
}

/** What is shown after a question has been answered. best: the right answer; guess: how often a guess is right. */
interface QuizAnswer {
  chosen: number[];
  fits: boolean;
  best: number[];
  verdict: string;
  guess: string;
  because: string;
  truth: string;
  mask?: number[];
  measured?: string;
  exact?: number;
  band?: number[];
  box?: number[];
}

/** The quiz's view. names: those of the pictures in the sheet; rule: what counts as right; answer: absent before the answer; saved: in a saved page the views of all questions, whose arrays have the question's number behind their names. */
interface QuizView extends Shown {
  at: number;
  states: ("open" | "right" | "wrong")[];
  words: string;
  kind: "choice" | "number" | "place" | "piles";
  rule: string;
  tiles: number[];
  names: string[];
  columns: number;
  score: string;
  code: string;
  shared: boolean;
  size: "normal" | "lecture";
  options?: QuizOption[];
  map?: number[];
  steps?: string[];
  name?: string;
  piles?: string[];
  answer?: QuizAnswer;
  saved?: QuizView[];
}

/** The quiz's arrays. maps: [option, rows, cols], drawn over the picture. Absent before the answer are outline, the true place, and result, the picture on which it is shown. */
interface QuizArrays {
  sprite?: Uint8Array;
  picture?: Uint8Array;
  maps?: Float32Array;
  outline?: Uint8Array;
  result?: Uint8Array;
}

/** The cosine with the text, and the late heads' part of it. */
interface Share {
  cosine: number;
  late: number;
}

/** What adds up to the cosine, after the removal and before it. */
interface Shares {
  share: Share | null;
  before: Share | null;
}

/** The receipts' view. stand_ins: number of files that are missing or replaced, and of files checked. */
interface ReceiptsView extends Shown {
  share: Share | null;
  before: Share | null;
  sum_check: number;
  readout: string;
  model: string;
  images: string;
  texts: string;
  index: string;
  index_bytes: number;
  stand_ins: [number, number];
  device: string;
  notes: string[];
  milliseconds: number;
  code: string;
  n_heads: number;
}

/** Direct effects [layer, head] with the removal, and without it. */
interface ReceiptsArrays {
  heads?: Float32Array;
  heads_before?: Float32Array;
}

/** A model of the dictionary. at_hand: whether it is loaded; paints: whether it generates its own pictures. */
interface ColumnShown {
  name: string;
  loss: string;
  n_units: number;
  n_rows: number;
  n_pairs: number;
  n_chance: number;
  threshold: number;
  heldout: number;
  at_hand: boolean;
  paints: boolean;
}

/** A model's unit of a concept, and its correlation with the pivot's unit. */
interface CellShown {
  layer: string;
  unit: number;
  correlation: number;
  heldout: number;
}

/** A concept. hint: a text that fits its images, hint_share: the share of them; size: number of units that share the concept. */
interface ConceptShown {
  concept: number;
  name: string;
  label: string;
  hint: string;
  hint_share: number;
  neuron: [number | string, number] | null;
  size: number;
  unit: string;
}

interface ConceptRow {
  concept: number;
  name: string;
  label: string;
  hint: string;
  hint_share: number;
  neuron: [number | string, number] | null;
  size: number;
  unit: string;
  cells: (CellShown | null)[];
  tiles: number[];
}

interface ConceptTile {
  concept: number;
  name: string;
  label: string;
  hint: string;
  hint_share: number;
  neuron: [number | string, number] | null;
  size: number;
  unit: string;
  strength: number;
}

/** The concept on the selected image, in every model. */
interface ConceptDetail {
  concept: number;
  name: string;
  label: string;
  hint: string;
  hint_share: number;
  neuron: [number | string, number] | null;
  size: number;
  unit: string;
  cells: (CellShown | null)[];
  image?: number;
  caption?: string;
  strength?: number[];
  shows?: boolean[];
}

interface RosettaView extends Shown {
  message?: string;
  advice?: string;
  columns?: ColumnShown[];
  n_found?: number;
  n_concepts?: number;
  n_units?: number;
  n_untrained?: number | null;
  linked?: boolean;
  pivots?: string[];
  pivot?: string;
  show?: string;
  sort?: string;
  models?: string[];
  every_unit?: boolean;
  other?: string;
  whose?: string;
  missed?: string;
  page?: number;
  n_pages?: number;
  at?: number[];
  rows?: ConceptRow[];
  sprite_columns?: number;
  n_pictures?: number;
  captions?: string[];
  pictures?: number[];
  side?: number;
  tiles?: ConceptTile[];
  concept?: number | null;
  detail?: ConceptDetail | null;
  chosen?: boolean;
}

/** The arrays. maps: [row, model, example, side, side]; here: [tile, side, side]; now: [model, side, side]. */
interface RosettaArrays {
  sprite?: Uint8Array;
  maps?: Uint8Array;
  here?: Uint8Array;
  picture?: Uint8Array;
  now?: Uint8Array;
}

/** A text, the share of the variance that it explains, and the share under random rotations. */
interface TextRow {
  text: string;
  family: string;
  gain: number;
  null: number;
  null_high: number;
}

/** The images of every row, and their positions in the sprite of n tiles. */
interface RowImages {
  ids: number[][];
  places: number[][];
  columns: number;
  n: number;
}

/** The head's computed role, and the first texts on which it is based. */
interface LabelShown {
  name: string;
  p_value: number;
  why: string;
  texts: string[];
}

/** The panel's view. role: the one that a person gave the head; roles: those to choose from. */
interface TextSpanView extends Shown {
  rows?: TextRow[];
  message?: string;
  role?: string | null;
  roles?: string[];
  explained?: number;
  null_explained?: number;
  n_draws?: number;
  n_used_up?: number;
  n_read?: number;
  n_images?: number;
  complete?: boolean;
  label?: LabelShown;
  pool?: string;
  thumbnails?: RowImages;
}

interface TextSpanArrays {
  sprite: Uint8Array;
}

/** A step, explained inside a panel. */
interface StepShown {
  title: string;
  text: string;
  panel: string;
}

/** The tour's view. at: the current step, from 1; 0 for none. */
interface TourView extends Shown {
  steps: StepShown[];
  at: number;
}

interface TourArrays {
}

/** A list of texts; most: the score whose bar fills its track. */
interface TextColumn {
  title: string;
  unit: string;
  rows: Scored[];
  most: number;
}

interface WordsView extends Shown {
  sizes?: [number, boolean][];
  m?: number;
  layer?: number | null;
  n_layers?: number;
  dictionary?: string;
  dictionaries?: string[];
  reconstruction?: string;
  message?: string;
  columns?: TextColumn[];
  complete?: boolean;
}

interface WordsArrays {
}

interface AblateOptions {
  class_token: boolean;
  classes: string;
  mlps: number[];
  shortcut: string;
  shortcut_b: string;
  task: string;
  visible: boolean;
}

interface AtlasOptions {
  by: "head" | "model";
  column: string;
  drag: "pan" | "choose";
  engine: "auto" | "webgl" | "canvas";
  labels: boolean;
  pictures: boolean;
  visible: boolean;
}

interface ClassroomOptions {
  at: number;
  looks: number;
}

interface CuesOptions {
  drawn: string;
  layers: number[];
  m: 4 | 8 | 16 | 32 | 64 | 128 | null;
  mistaken: string;
  visible: boolean;
}

interface GenerateOptions {
  concept: number;
  move: [number, number, number, number];
  opacity: number;
  visible: boolean;
}

interface HeadsOptions {
  find: string;
  quantity: "effect" | "variance" | "property";
}

interface HeatmapOptions {
  joint_texts: 10 | 60;
  opacity: number;
  outline: boolean;
  scale: number | null;
  scope: "all" | "late" | "layer" | "head";
  show: "effect" | "centred" | "pool" | "attention" | "neurons" | "neuron" | "LRP" | "partial LRP" | "rollout" | "raw attention" | "Grad-CAM" | "Chefer et al." | "Chefer et al. (generic)";
}

interface ImagesOptions {
  by: "cosine" | "product";
  column: string;
  order: "text" | "near" | "chosen" | "all";
  page: number;
  value: string;
}

interface NeuronsOptions {
  find: "text" | "image" | "strength";
  indirect: boolean;
  layer: number | string | null;
  m: 4 | 8 | 16 | 32 | 64 | 128 | null;
  opacity: number;
  show: "top" | "groups" | "intervals" | "quantiles" | "random";
  visible: boolean;
}

interface QueryOptions {
}

interface QuizOptions {
  at: number;
}

interface ReceiptsOptions {
}

interface RosettaOptions {
  every_unit: boolean;
  models: string[];
  other: string;
  page: number;
  pivot: "clip" | "generator";
  show: "grid" | "image" | "pair";
  sort: "named" | "heldout" | "correlation" | "size" | "layer";
  visible: boolean;
  whose: string;
  words: string;
}

interface TextSpanOptions {
}

interface TourOptions {
}

interface WordsOptions {
  layer: number | string | null;
  m: 4 | 8 | 16 | 32 | 64 | 128 | null;
  visible: boolean;
}

type AblateApi = Api<AblateView, AblateArrays, AblateOptions>;
type AtlasApi = Api<AtlasView, AtlasArrays, AtlasOptions>;
type ClassroomApi = Api<ClassroomView, ClassroomArrays, ClassroomOptions>;
type CuesApi = Api<CuesView, CuesArrays, CuesOptions>;
type GenerateApi = Api<GenerateView, GenerateArrays, GenerateOptions>;
type HeadsApi = Api<HeadsView, HeadsArrays, HeadsOptions>;
type HeatmapApi = Api<HeatmapView, HeatmapArrays, HeatmapOptions>;
type ImagesApi = Api<ImagesView, ImagesArrays, ImagesOptions>;
type NeuronsApi = Api<NeuronsView, NeuronsArrays, NeuronsOptions>;
type QueryApi = Api<QueryView, QueryArrays, QueryOptions>;
type QuizApi = Api<QuizView, QuizArrays, QuizOptions>;
type ReceiptsApi = Api<ReceiptsView, ReceiptsArrays, ReceiptsOptions>;
type RosettaApi = Api<RosettaView, RosettaArrays, RosettaOptions>;
type TextSpanApi = Api<TextSpanView, TextSpanArrays, TextSpanOptions>;
type TourApi = Api<TourView, TourArrays, TourOptions>;
type WordsApi = Api<WordsView, WordsArrays, WordsOptions>;
