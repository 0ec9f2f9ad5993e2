// One row of the results: a file, how far it is, and its scores.

import { accuracyPicture, accuracyText, cardOf, factsOf } from "./accuracy.js";
import { el } from "./dom.js";
import { bytes, milliseconds, whole } from "./format.js";

const ACTIONS = {
  waiting: "Cancel",
  sending: "Cancel",
  analysing: "Cancel",
  done: "Remove",
  failed: "Try again",
  cancelled: "Try again",
  refused: "Remove",
};

/** The row of a track. `act(label)` is called when its button is pressed. */
export class TrackView {
  #track;
  #shown = [];

  constructor(track, act) {
    this.#track = track;
    this.title = el("h3", {}, track.file.name);
    this.state = el("p", { class: "track-state" });
    this.button = el("button", { type: "button", class: "quiet" });
    this.button.addEventListener("click", () => act(this.button.textContent));
    this.progress = el("progress", { max: 1, "aria-label": `Sent of ${track.file.name}` });
    this.body = el("div", { class: "track-body" });
    this.node = el(
      "li",
      { class: "track" },
      el("div", { class: "track-head" }, el("div", {}, this.title, this.state), this.button),
      this.progress,
      this.body,
    );
    // A new label and no new button, so that the keyboard stays where it was.
    this.button.setAttribute("aria-describedby", (this.title.id = `track-${++TrackView.count}`));
  }

  /** Show the track as it is now. `open` says whether its scores are shown at once. */
  update(models, open) {
    const track = this.#track;
    this.node.dataset.state = track.state;
    this.state.textContent = stateText(track);
    this.button.textContent = ACTIONS[track.state];
    this.progress.hidden = track.state !== "sending";
    this.progress.value = track.sent;
    const shown = [track.answer ?? track.problem, models];
    if (shown.every((part, index) => part === this.#shown[index])) return;
    this.#shown = shown;
    if (track.answer) this.body.replaceChildren(answerView(track, models, open));
    else this.body.replaceChildren(...(track.problem ? [problemView(track.problem)] : []));
  }
}
TrackView.count = 0;

/** A refusal in the words of the service. */
export function problemView(problem) {
  return el(
    "div",
    { class: "problem" },
    el("p", {}, problem.detail),
    el(
      "p",
      { class: "hint" },
      "code ",
      el("code", {}, problem.code),
      problem.traceId ? [", trace id ", el("code", {}, problem.traceId)] : null,
      problem.retryAfterS ? `; another try makes sense after ${problem.retryAfterS} s` : null,
    ),
  );
}

/** The scores in one line, for the closed row and for screen readers. */
export function scoresText(answer) {
  const scores = Object.entries(answer).filter(([head]) => head !== "_meta");
  return scores.map(([head, value]) => `${head} ${value}`).join(", ");
}

function stateText(track) {
  const size = bytes(track.file.size);
  switch (track.state) {
    case "sending":
      return `${size}, sending: ${Math.floor(100 * track.sent)} %`;
    case "done": {
      const charged = track.answer._meta.credits_used;
      return `${size}, ${charged ? `${whole(charged)} credits` : "free: analysed before"}`;
    }
    default:
      return `${size}, ${track.state}`;
  }
}

function answerView(track, models, open) {
  const { _meta: meta, ...scores } = track.answer;
  const card = cardOf(models, meta.model);
  const heads = [...new Set([...Object.keys(card?.heads ?? {}), ...Object.keys(scores)])];
  return el(
    "details",
    { open },
    el("summary", {}, scoresText(track.answer)),
    el("ul", { class: "scores" }, ...heads.map((head) => scoreView(head, scores[head], factsOf(card, head)))),
    el(
      "dl",
      { class: "meta" },
      pair("time in the service", milliseconds(meta.latency_ms)),
      pair("sent to answered", milliseconds(track.tookMs)),
      pair("credits left", whole(meta.credits_remaining)),
      pair("model", meta.model),
      pair("trace id", el("code", {}, meta.trace_id)),
      pair("id", el("code", {}, meta.id), "wide"),
    ),
  );
}

function scoreView(head, value, facts) {
  const meaning = facts.meaning ? el("p", { class: "meaning" }, facts.meaning) : null;
  if (value === undefined) {
    const why = facts.r === null ? "no score in this answer" : `not shipped: ${accuracyText(facts)}`;
    return el(
      "li",
      { class: "score withheld" },
      el("b", { class: "score-name" }, head),
      el("span", { class: "score-value", "aria-hidden": "true" }, "–"),
      el("div", { class: "score-bar" }),
      meaning,
      accuracyPicture(facts),
      el("p", { class: "score-accuracy" }, why),
    );
  }
  const bar = el("div", {
    class: "score-bar",
    role: "meter",
    "aria-label": head,
    "aria-valuemin": 0,
    "aria-valuemax": 100,
    "aria-valuenow": value,
  });
  // Through the object model: the policy of the page forbids style attributes.
  bar.style.setProperty("--value", value);
  return el(
    "li",
    { class: "score" },
    el("b", { class: "score-name" }, head),
    el("span", { class: "score-value" }, String(value)),
    bar,
    meaning,
    accuracyPicture(facts),
    el("p", { class: "score-accuracy" }, accuracyText(facts)),
  );
}

function pair(term, value, kind = null) {
  return el("div", { class: kind }, el("dt", {}, term), el("dd", {}, value));
}
