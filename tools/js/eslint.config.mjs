// Correctness: what is undefined, unused, shadowed or unreachable. Prettier lays the scripts out.
import globals from "globals";

const longest = 80; // lines of at most 110 characters
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
    files: ["**/*.js"],
    languageOptions: {
      ecmaVersion: 2022,
      sourceType: "module",
      globals: { ...globals.browser, ...globals.worker },
    },
    rules,
  },
];
