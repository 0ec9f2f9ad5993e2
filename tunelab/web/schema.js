// JSON Schema as text: what a value is, and the table of an object's fields.

import { el, withCode } from "./dom.js";

const LOCAL = "#/components/schemas/";

/** Name of the schema that `{"$ref": ...}` points to, or null. */
export function refName(schema) {
  return schema?.$ref?.startsWith(LOCAL) ? schema.$ref.slice(LOCAL.length) : null;
}

/** The schema itself, with references followed. */
export function resolve(document, schema) {
  let found = schema ?? {};
  for (let hops = 0; refName(found) && hops < 20; hops++) {
    found = document.components?.schemas?.[refName(found)] ?? {};
  }
  return found;
}

/** A link to where a named schema is described on the page. */
export function schemaLink(name) {
  return el("a", { href: `#schema-${name}` }, el("code", {}, name));
}

/** What a value is, as text and links. */
export function typeOf(document, schema) {
  const name = refName(schema);
  if (name) return [schemaLink(name)];
  const alternatives = schema.anyOf ?? schema.oneOf;
  if (alternatives) return alternatives.flatMap((one, index) => [index ? " or " : "", ...typeOf(document, one)]);
  if (schema.const !== undefined) return ["always ", el("code", {}, JSON.stringify(schema.const))];
  if (schema.enum) return listed(schema.enum);
  if (schema.type === "array") return ["array of ", ...typeOf(document, schema.items ?? {}), limitsOf(schema)];
  if (schema.format === "binary") return ["bytes"];
  if (schema.type === "object" && typeof schema.additionalProperties === "object") {
    return ["object of ", ...typeOf(document, schema.additionalProperties)];
  }
  const kind = Array.isArray(schema.type) ? schema.type.join(" or ") : (schema.type ?? "anything");
  return [kind, schema.format ? ` (${schema.format})` : "", limitsOf(schema)];
}

/** An object's fields as a table, those of the objects inside it too; of anything else, what it is. */
export function schemaView(document, schema) {
  const found = resolve(document, schema);
  if (!found.properties) return el("p", {}, typeOf(document, found));
  const titles = ["Field", "Type", "Meaning"].map((title) => el("th", { scope: "col" }, title));
  return el(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": `Fields of ${found.title ?? "the object"}` },
    el(
      "table",
      {},
      el("thead", {}, el("tr", {}, titles)),
      el("tbody", {}, rowsOf(document, found, "", [refName(schema)])),
    ),
  );
}

function rowsOf(document, found, prefix, seen) {
  const required = new Set(found.required ?? []);
  return Object.entries(found.properties).flatMap(([field, value]) => {
    const { inner, suffix } = inside(value);
    const name = refName(inner);
    const nested = resolve(document, inner);
    const row = el(
      "tr",
      {},
      el(
        "th",
        { scope: "row" },
        el("code", {}, prefix + field),
        required.has(field) ? null : el("span", { class: "hint" }, " optional"),
      ),
      el("td", {}, typeOf(document, value)),
      el("td", {}, withCode(value.description ?? "")),
    );
    // A schema inside itself is named and not entered again.
    if (!nested.properties || (name && seen.includes(name))) return [row];
    return [row, ...rowsOf(document, nested, `${prefix}${field}${suffix}.`, [...seen, name])];
  });
}

/** The first example of a schema, as JSON text, or null. */
export function exampleOf(document, schema) {
  const found = resolve(document, schema);
  const example = found.examples?.[0] ?? found.example;
  return example === undefined ? null : JSON.stringify(example, null, 2);
}

function inside(schema) {
  if (schema.type === "array") return { inner: schema.items ?? {}, suffix: "[]" };
  if (typeof schema.additionalProperties === "object") return { inner: schema.additionalProperties, suffix: ".*" };
  return { inner: schema, suffix: "" };
}

function listed(values) {
  return values.flatMap((value, index) => [index ? ", " : "one of ", el("code", {}, JSON.stringify(value))]);
}

function limitsOf(schema) {
  const { minimum, maximum, minItems, maxItems, minLength, maxLength, pattern } = schema;
  const parts = [];
  if (minimum !== undefined || maximum !== undefined) parts.push(span(minimum, maximum));
  if (minItems !== undefined || maxItems !== undefined) parts.push(`${span(minItems, maxItems)} items`);
  if (minLength !== undefined || maxLength !== undefined) parts.push(`${span(minLength, maxLength)} characters`);
  const text = parts.length ? `, ${parts.join(", ")}` : "";
  return pattern ? [text, ", matching ", el("code", {}, pattern)] : [text];
}

function span(low, high) {
  if (low === high) return String(low);
  if (high === undefined) return `at least ${low}`;
  return low === undefined ? `at most ${high}` : `${low} to ${high}`;
}
