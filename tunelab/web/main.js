// The page at /: puts the key, the queue and the model card together.

import { cardOf, cardView } from "./accuracy.js";
import { analyze, contentTypeOf, getJson, Problem } from "./api.js";
import { byId, copies, el } from "./dom.js";
import { bytes, seconds, whole } from "./format.js";
import { KeyBox } from "./key.js";
import { Queue } from "./queue.js";
import { problemView, scoresText, TrackView } from "./track.js";

/** With more files than this, the rows start closed: one line of scores each. */
const OPEN_UP_TO = 3;

const views = new Map();
let limits = null;
let models = null;
let shownPause = null;

const queue = new Queue({ send, check, changed });
const keyBox = new KeyBox(() => queue.resume());
queue.pause(noKey());

function noKey() {
  return new Problem({ status: 401, code: "no_key", detail: "Paste an API key; then the files are sent." });
}

function check(file) {
  if (file.size === 0) return new Problem({ code: "audio_empty", detail: "the file is empty; it was not sent" });
  if (limits && file.size > limits.max_upload_bytes) {
    const most = bytes(limits.max_upload_bytes);
    const detail = `the file is larger than the ${most} that this server takes; it was not sent`;
    return new Problem({ code: "audio_too_large", detail });
  }
  return null;
}

async function send(track) {
  if (!keyBox.key) throw noKey();
  const answer = await analyze(track.file, {
    key: keyBox.key,
    contentType: contentTypeOf(track.file, limits?.content_types ?? []),
    // The service gives up earlier; this is for connections that died without a word.
    timeoutMs: limits ? 1000 * (limits.upload_timeout_s + limits.request_timeout_s + 30) : 0,
    signal: track.controller.signal,
    onProgress(sent) {
      track.sent = sent;
      if (sent >= 1) track.state = "analysing";
      changed(track);
    },
  });
  keyBox.credits(answer._meta.credits_remaining);
  return answer;
}

function changed(track) {
  if (track) {
    let view = views.get(track);
    if (!view) {
      view = new TrackView(track, (label) => act(track, label));
      views.set(track, view);
      byId("tracks").append(view.node);
    }
    view.update(models, queue.tracks.length <= OPEN_UP_TO);
    announce(track);
  }
  byId("results").hidden = !queue.tracks.length;
  showPause(queue.tracks.some((other) => other.state === "waiting") ? queue.paused : null);
  const done = queue.tracks.filter((other) => other.state === "done").length;
  byId("tally").textContent = `${done} of ${queue.tracks.length} analysed`;
}

function showPause(problem) {
  byId("paused").hidden = !problem;
  if (problem === shownPause) return;
  shownPause = problem;
  if (!problem) return;
  byId("paused-why").replaceChildren(problem.traceId ? problemView(problem) : problem.detail);
  byId("resume").hidden = !keyBox.key; // a key that is accepted goes on by itself
  byId("announce").textContent = `Stopped: ${problem.detail}`;
}

function announce(track) {
  const said = {
    done: () => scoresText(track.answer),
    failed: () => track.problem.detail,
    refused: () => track.problem.detail,
  };
  const text = said[track.state]?.();
  if (text) byId("announce").textContent = `${track.file.name}: ${text}`;
}

function act(track, label) {
  if (label === "Cancel") queue.cancel(track);
  else if (label === "Try again") queue.retry(track);
  else {
    const { node } = views.get(track);
    const neighbour = node.nextElementSibling ?? node.previousElementSibling;
    node.remove();
    views.delete(track);
    queue.remove(track);
    (neighbour?.querySelector("button") ?? byId("files")).focus();
  }
}

function addFiles(files) {
  if (!files.length) return;
  queue.add(files);
  if (!keyBox.key) keyBox.ask(noKey().detail);
}

function listen() {
  const input = byId("files");
  const drop = byId("drop");
  input.addEventListener("change", () => {
    addFiles([...input.files]);
    input.value = ""; // so that the same file can be chosen again
  });
  // The whole window takes files: one dropped beside the field would replace the page.
  const withFiles = (event) => event.dataTransfer.types.includes("Files");
  window.addEventListener("dragover", (event) => {
    if (!withFiles(event)) return;
    event.preventDefault();
    drop.classList.add("over");
  });
  window.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) drop.classList.remove("over");
  });
  window.addEventListener("drop", (event) => {
    if (!withFiles(event)) return;
    event.preventDefault();
    drop.classList.remove("over");
    addFiles([...event.dataTransfer.files]);
  });
  byId("resume").addEventListener("click", () => queue.resume());
}

async function showLimits() {
  const hint = byId("files-hint");
  try {
    limits = await getJson("/v1/limits");
  } catch (problem) {
    hint.textContent = `The limits of this server are not known (${problem.detail}); it will refuse what it does not take.`;
    return;
  }
  hint.textContent =
    `${limits.formats.join(", ")}; up to ${bytes(limits.max_upload_bytes)} and ` +
    `${seconds(limits.min_duration_s)} to ${seconds(limits.max_duration_s)} of sound. ` +
    `${whole(limits.analyze_credits)} credits a file; files are sent one after the other.`;
}

async function showModels() {
  try {
    models = await getJson("/v1/models");
  } catch (problem) {
    byId("trust").replaceChildren(problemView(problem));
    return;
  }
  for (const view of views.values()) view.update(models, queue.tracks.length <= OPEN_UP_TO);
  const card = cardOf(models, models.default);
  if (!card) {
    byId("trust").replaceChildren(el("p", {}, `This server publishes no card for its model ${models.default}.`));
    return;
  }
  byId("trust").replaceChildren(...cardView(card));
  if (Array.isArray(card.limits) && card.limits.length) {
    byId("limits").replaceChildren(...card.limits.map((limit) => el("li", {}, String(limit))));
    byId("limits-section").hidden = false;
  }
}

function showCurl() {
  byId("curl").textContent = [
    `curl ${window.location.origin}/v1/analyze \\`,
    '  -H "Authorization: Bearer $TUNELAB_KEY" \\',
    '  -H "Content-Type: audio/mpeg" \\',
    "  --data-binary @song.mp3",
  ].join("\n");
  copies(byId("curl-copy"), () => byId("curl").textContent);
}

listen();
showCurl();
showLimits();
showModels();
