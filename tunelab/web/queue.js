// Files waiting to be analysed, sent one after the other. Knows nothing of the page.

import { Problem } from "./api.js";

/** Answers that will be the same for every file, so that going on makes no sense. */
const STOPS = new Set([401, 402, 403]);

/**
 * A track's `state` is one of: waiting, sending, analysing, done, failed, cancelled, refused.
 * The queue is `paused` by a Problem that concerns the account, until `resume()`.
 */
export class Queue {
  #send;
  #check;
  #changed;
  #running = false;

  /**
   * @param send (track) => Promise of an answer; may set `track.sent` (0..1) and call changed(track)
   * @param check (file) => Problem if it is not worth sending, or null
   * @param changed (track or null) => void, after every change
   */
  constructor({ send, check, changed }) {
    this.#send = send;
    this.#check = check;
    this.#changed = changed;
    this.tracks = [];
    this.paused = null;
  }

  add(files) {
    for (const file of files) {
      const track = { file, state: "waiting", sent: 0, answer: null, problem: null, tookMs: 0, controller: null };
      this.tracks.push(track);
      this.#enqueue(track);
    }
    this.#run();
  }

  cancel(track) {
    if (track.controller) track.controller.abort();
    else if (track.state === "waiting") this.#set(track, { state: "cancelled" });
  }

  retry(track) {
    this.#enqueue(track);
    this.#run();
  }

  remove(track) {
    this.tracks = this.tracks.filter((other) => other !== track);
    this.#changed(null);
  }

  resume() {
    this.paused = null;
    this.#changed(null);
    this.#run();
  }

  pause(problem) {
    this.paused = problem;
    this.#changed(null);
  }

  #enqueue(track) {
    // Before each try and not once: the limits of the service may have come later than the files.
    const problem = this.#check(track.file);
    this.#set(track, { state: problem ? "refused" : "waiting", sent: 0, answer: null, problem });
  }

  async #run() {
    if (this.#running) return;
    this.#running = true;
    let track;
    while (!this.paused && (track = this.tracks.find((other) => other.state === "waiting"))) {
      await this.#one(track);
    }
    this.#running = false;
  }

  async #one(track) {
    const refusal = this.#check(track.file);
    if (refusal) {
      this.#set(track, { state: "refused", problem: refusal });
      return;
    }
    track.controller = new AbortController();
    this.#set(track, { state: "sending" });
    const started = performance.now();
    try {
      const answer = await this.#send(track);
      this.#set(track, { state: "done", answer, tookMs: performance.now() - started, controller: null });
    } catch (error) {
      track.controller = null;
      if (error === null) {
        this.#set(track, { state: "cancelled" });
      } else if (error instanceof Problem && STOPS.has(error.status)) {
        this.#set(track, { state: "waiting", sent: 0 });
        this.pause(error);
      } else {
        const problem = error instanceof Problem ? error : new Problem({ code: "page_error", detail: String(error) });
        this.#set(track, { state: "failed", problem });
      }
    }
  }

  #set(track, values) {
    Object.assign(track, values);
    this.#changed(track);
  }
}
