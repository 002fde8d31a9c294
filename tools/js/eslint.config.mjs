// Correctness: what is undefined, unused, shadowed or unreachable. Prettier lays the scripts out.
import globals from "globals";
import { fileURLToPath } from "node:url";
import { readFileSync, readdirSync } from "node:fs";
import path from "node:path";

const here = path.dirname(fileURLToPath(import.meta.url));
const panels = path.resolve(here, "../../clipviz/panels");
// The kit stands before every panel's script, so its names are the panels' globals.
const kit = {};
for (const file of readdirSync(path.join(panels, "kit")))
  for (const [, name] of readFileSync(path.join(panels, "kit", file), "utf8").matchAll(/^const (\w+)/gm))
    kit[name] = "readonly";
const longest = 200; // lines of at most 110 characters
const rules = {
  "no-undef": "error",
  "no-unused-vars": ["error", { argsIgnorePattern: "^_", varsIgnorePattern: "^_" }],
  "no-const-assign": "error",
  "no-dupe-keys": "error",
  "no-unreachable": "error",
  "no-cond-assign": ["error", "except-parens"],
  "no-self-assign": "error",
  "no-shadow": "error",
  eqeqeq: "error",
  "no-eval": "error",
  "no-implied-eval": "error",
  "use-isnan": "error",
  "valid-typeof": "error",
  "no-fallthrough": "error",
  "no-loss-of-precision": "error",
  "no-var": "error",
  "one-var": ["error", "never"],
  "prefer-const": ["error", { destructuring: "all" }],
  "no-restricted-properties": [
    "error",
    ...["innerHTML", "outerHTML"].map((property) => ({
      property,
      message: "Texts come from files and users: build elements from text nodes.",
    })),
  ],
  "no-restricted-syntax": [
    "error",
    {
      selector: "MemberExpression[property.name=/^(innerHTML|outerHTML|insertAdjacentHTML)$/]",
      message: "Texts come from files and users: build elements from text nodes.",
    },
  ],
  "max-lines-per-function": ["error", { max: longest, skipComments: true, skipBlankLines: true }],
};

export default [
  { ignores: ["vendor/**"] },
  {
    files: ["kit/*.js"],
    languageOptions: { ecmaVersion: 2022, sourceType: "script", globals: { ...globals.browser, ...kit } },
    rules: {
      ...rules,
      "no-redeclare": "off",
      "no-unused-vars": ["error", { vars: "local", argsIgnorePattern: "^_" }],
    },
  },
  {
    files: ["standalone.js"],
    languageOptions: { ecmaVersion: 2022, sourceType: "script", globals: { ...globals.browser, ...kit } },
    rules,
  },
  {
    files: ["*.js"],
    ignores: ["standalone.js"],
    languageOptions: { ecmaVersion: 2022, sourceType: "module", globals: { ...globals.browser, ...kit } },
    rules,
  },
];
