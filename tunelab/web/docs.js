// The page at /docs: /openapi.json, readable.

import { getJson } from "./api.js";
import { curlCalls } from "./curl.js";
import { byId, copies, el, withCode } from "./dom.js";
import { exampleOf, refName, schemaLink, schemaView, typeOf } from "./schema.js";
import { problemView } from "./track.js";

const METHODS = ["get", "post", "put", "patch", "delete", "head", "options", "trace"];

function operationsOf(spec) {
  return Object.entries(spec.paths).flatMap(([path, item]) =>
    METHODS.filter((method) => item[method]).map((method) => {
      const operation = item[method];
      return {
        method,
        path,
        operation,
        tag: operation.tags?.[0] ?? "other",
        id: `call-${method}${path.replace(/\W+/g, "-")}`,
      };
    }),
  );
}

function paragraphs(text) {
  return (text ?? "")
    .split(/\n\s*\n/)
    .filter((part) => part.trim())
    .map((part) => el("p", {}, withCode(part)));
}

function operationView(spec, { method, path, operation, id }) {
  const parameters = operation.parameters ?? [];
  return el(
    "article",
    { class: "call", id, "aria-labelledby": `${id}-title` },
    el(
      "h3",
      { id: `${id}-title` },
      el(
        "span",
        { class: "call-address" },
        el("span", { class: "verb" }, method.toUpperCase()),
        " ",
        el("code", {}, path),
      ),
      el("span", { class: "call-summary" }, operation.summary ?? ""),
    ),
    paragraphs(operation.description),
    securityView(spec, operation),
    parameters.length ? [el("h4", {}, "Parameters"), parametersView(spec, parameters)] : null,
    operation.requestBody ? bodyView(spec, operation.requestBody) : null,
    el("h4", {}, "Example"),
    curlCalls(window.location.origin, method, path, operation).map(exampleView),
    el("h4", {}, "Answers"),
    answersView(spec, Object.entries(operation.responses ?? {})),
  );
}

function securityView(spec, operation) {
  const names = (operation.security ?? []).flatMap((choice) => Object.keys(choice));
  if (!names.length) return el("p", { class: "hint" }, "Public: no key needed.");
  return names.map((name) => {
    const scheme = spec.components?.securitySchemes?.[name] ?? {};
    return el(
      "p",
      { class: "hint" },
      "Needs a key. ",
      withCode(scheme.description ?? `${scheme.type} ${scheme.scheme ?? ""}`),
    );
  });
}

function parametersView(spec, parameters) {
  return el(
    "ul",
    { class: "answers" },
    parameters.map((parameter) =>
      el(
        "li",
        {},
        el("code", {}, parameter.name),
        ` in ${parameter.in}${parameter.required ? "" : ", optional"}: `,
        typeOf(spec, parameter.schema ?? {}),
        parameter.description ? el("div", {}, withCode(parameter.description)) : null,
      ),
    ),
  );
}

function bodyView(spec, body) {
  return [
    el("h4", {}, body.required ? "Request body" : "Request body (optional)"),
    body.description ? el("p", {}, withCode(body.description)) : null,
    el(
      "ul",
      { class: "answers" },
      byKind(body.content).map(({ types, schema }) =>
        el("li", {}, listed(types), schema.properties ? schemaView(spec, schema) : [": ", typeOf(spec, schema)]),
      ),
    ),
  ];
}

/** Content types that have the same schema, together. */
function byKind(content) {
  const kinds = new Map();
  for (const [type, { schema = {} }] of Object.entries(content ?? {})) {
    const key = JSON.stringify(schema);
    if (!kinds.has(key)) kinds.set(key, { types: [], schema });
    kinds.get(key).types.push(type);
  }
  return [...kinds.values()];
}

function answersView(spec, answers) {
  // Errors have one shape, which is described once, at the end; answers that carry data are shown whole.
  const isShort = ([status]) => Number(status) >= 400;
  const short = answers.filter(isShort);
  const titles = ["Status", "Meaning", "Body", "Headers"].map((title) => el("th", { scope: "col" }, title));
  return [
    answers.filter((entry) => !isShort(entry)).map((entry) => answerView(spec, ...entry)),
    short.length
      ? el(
          "div",
          { class: "scroll", tabindex: 0, role: "region", "aria-label": "Errors" },
          el(
            "table",
            {},
            el("thead", {}, el("tr", {}, titles)),
            el(
              "tbody",
              {},
              short.map((entry) => errorRow(spec, ...entry)),
            ),
          ),
        )
      : null,
  ];
}

function answerView(spec, status, response) {
  return el(
    "div",
    { class: "answer" },
    el("p", {}, el("b", {}, status), " ", withCode(response.description ?? "")),
    byKind(response.content).map(({ types, schema }) => {
      const name = refName(schema);
      const example = exampleOf(spec, schema);
      return [
        el("p", { class: "hint" }, listed(types), name ? [": ", schemaLink(name)] : null),
        schemaView(spec, schema),
        example
          ? el(
              "details",
              {},
              el("summary", {}, "Example"),
              el("pre", { tabindex: 0, role: "region", "aria-label": "Example answer" }, el("code", {}, example)),
            )
          : null,
      ];
    }),
    el("p", { class: "hint" }, "Headers: ", listed(Object.keys(response.headers ?? {}))),
  );
}

function errorRow(spec, status, response) {
  return el(
    "tr",
    {},
    el("th", { scope: "row" }, status),
    el("td", {}, withCode(response.description ?? "")),
    el(
      "td",
      {},
      byKind(response.content).map(({ types, schema }) => [
        el("div", {}, listed(types)),
        el("div", {}, typeOf(spec, schema)),
      ]),
    ),
    el("td", {}, listed(Object.keys(response.headers ?? {}))),
  );
}

function listed(names) {
  return names.map((name, index) => [index ? ", " : "", el("code", {}, name)]);
}

function exampleView({ what, command }) {
  const button = el("button", { type: "button", class: "quiet", hidden: true }, "Copy");
  copies(button, () => command);
  return el(
    "div",
    { class: "example" },
    el("div", { class: "example-head" }, el("span", { class: "hint" }, what ?? ""), button),
    el("pre", { tabindex: 0, role: "region", "aria-label": "Example call" }, el("code", {}, command)),
  );
}

function schemasView(spec) {
  const schemas = Object.entries(spec.components?.schemas ?? {});
  return el(
    "section",
    { "aria-labelledby": "schemas" },
    el("h2", { id: "schemas" }, "Schemas"),
    schemas.map(([name, schema]) =>
      el(
        "article",
        { class: "call", id: `schema-${name}` },
        el("h3", {}, el("code", {}, name)),
        paragraphs(schema.description),
        schemaView(spec, { $ref: `#/components/schemas/${name}` }),
      ),
    ),
  );
}

function contentsView(groups) {
  return [
    ...[...groups].map(([tag, calls]) => [
      el("p", { class: "contents-title" }, tag),
      el(
        "ul",
        {},
        calls.map((call) =>
          el(
            "li",
            {},
            el("a", { href: `#${call.id}` }, el("span", { class: "verb" }, call.method.toUpperCase()), " ", call.path),
          ),
        ),
      ),
    ]),
    el("p", { class: "contents-title" }, el("a", { href: "#schemas" }, "Schemas")),
  ].flat();
}

async function show() {
  let spec;
  try {
    spec = await getJson("/openapi.json");
  } catch (problem) {
    byId("about").replaceChildren(problemView(problem));
    return;
  }
  const groups = new Map();
  for (const call of operationsOf(spec)) {
    if (!groups.has(call.tag)) groups.set(call.tag, []);
    groups.get(call.tag).push(call);
  }
  byId("about").replaceChildren(
    el("p", { class: "hint" }, `${spec.info.title} ${spec.info.version}, OpenAPI ${spec.openapi}`),
    ...paragraphs(spec.info.description),
    el(
      "p",
      { class: "hint" },
      withCode(
        "In the examples `$TUNELAB_KEY` is a shell variable with your key; names like `$ID` stand for parameters.",
      ),
    ),
  );
  byId("contents").replaceChildren(...contentsView(groups));
  byId("operations").replaceChildren(
    ...[...groups].map(([tag, calls]) =>
      el(
        "section",
        { "aria-labelledby": `group-${tag}` },
        el("h2", { id: `group-${tag}` }, tag),
        calls.map((call) => operationView(spec, call)),
      ),
    ),
    schemasView(spec),
  );
  // The place that the address names did not exist when the browser looked for it.
  if (window.location.hash) byId(decodeURIComponent(window.location.hash.slice(1)))?.scrollIntoView();
}

show();
