// What a model card says about each score, and how it is shown.

import { el, svg } from "./dom.js";
import { estimate, whole } from "./format.js";

/** The card of a model, or null. */
export function cardOf(models, name) {
  return models?.models.find((card) => card.name === name) ?? null;
}

/** Facts about one score; what the card does not say is null. */
export function factsOf(card, head) {
  const found = card?.heads?.[head];
  return {
    known: Boolean(found),
    shipped: found?.shipped ?? null,
    meaning: found?.meaning ?? null,
    r: Number.isFinite(found?.pearson_r) ? found.pearson_r : null,
    interval: Array.isArray(found?.ci95) && found.ci95.every(Number.isFinite) ? found.ci95 : null,
    truth: found?.truth ?? null,
    n: Number.isFinite(found?.n) ? found.n : null,
  };
}

/** "r = 0.87 (95 % interval 0.75 to 0.93), teacher agreement (vibenet)", or that there is no figure. */
export function accuracyText(facts) {
  if (facts.r === null) return "no accuracy published";
  return `r = ${estimate(facts.r, facts.interval)}${facts.truth ? `, ${facts.truth}` : ""}`;
}

/** The same as a picture: r as a mark and its interval as a bar, on a line from 0 to 1. The text beside it says it all. */
export function accuracyPicture(facts) {
  if (facts.r === null) return null;
  const x = (value) => (2 + 96 * Math.min(1, Math.max(0, value))).toFixed(1);
  const parts = [svg("line", { class: "axis", x1: 2, x2: 98, y1: 6, y2: 6 })];
  for (const tick of [0, 0.5, 1]) parts.push(svg("line", { class: "axis", x1: x(tick), x2: x(tick), y1: 3, y2: 9 }));
  if (facts.interval) {
    const [low, high] = facts.interval.map(x);
    parts.push(svg("rect", { class: "interval", x: low, y: 4, width: Math.max(0, high - low).toFixed(1), height: 4 }));
  }
  parts.push(svg("rect", { class: "value", x: (x(facts.r) - 1).toFixed(1), y: 1, width: 2, height: 10 }));
  return svg("svg", { class: "whisker", viewBox: "0 0 100 12", "aria-hidden": "true", focusable: "false" }, ...parts);
}

/** The whole card, for the side of the page. */
export function cardView(card) {
  const heads = Object.keys(card.heads ?? {});
  return [
    el(
      "p",
      {},
      el("strong", {}, card.name),
      card.version ? ` ${card.version}` : "",
      card.summary ? `: ${card.summary}` : "",
    ),
    el(
      "p",
      { class: "hint" },
      "Pearson r between the score and its truth on tracks that the model never saw; 1 is perfect, 0 is chance.",
    ),
    el("ul", { class: "facts" }, ...heads.map((head) => headView(card, head))),
    listenersView(card),
    card.licence ? el("p", { class: "hint" }, `Licence of the model: ${card.licence}`) : null,
  ].filter(Boolean);
}

function headView(card, head) {
  const facts = factsOf(card, head);
  const note = facts.shipped === false ? "not shipped: " : "";
  const sample = facts.n === null ? "" : `, n = ${whole(facts.n)}`;
  return el(
    "li",
    { class: facts.shipped === false ? "withheld" : null },
    el("div", { class: "fact-head" }, el("b", {}, head), accuracyPicture(facts)),
    el("span", { class: "hint" }, `${note}${accuracyText(facts)}${sample}`),
  );
}

function listenersView(card) {
  const rows = (Array.isArray(card.listeners) ? card.listeners : []).filter((row) => Number.isFinite(row.value));
  if (!rows.length) return null;
  return el(
    "details",
    {},
    el("summary", {}, "Against what listeners said"),
    el(
      "ul",
      { class: "facts" },
      ...rows.map((row) => el("li", {}, el("b", {}, row.head), " ", el("span", { class: "hint" }, listenerText(row)))),
    ),
  );
}

function listenerText(row) {
  const sample = Number.isFinite(row.n) ? `, n = ${whole(row.n)}` : "";
  return `${row.measure}: ${estimate(row.value, row.ci95)}${sample}${row.source ? `, ${row.source}` : ""}`;
}
