// The key: in memory, and in the tab's sessionStorage only if the box is ticked.

import { cleanKey, getJson } from "./api.js";
import { byId } from "./dom.js";
import { whole } from "./format.js";

const STORED = "tunelab.key";
const COMPLETE = /^tl_live_[A-Za-z0-9]{43}$/;

export class KeyBox {
  #accepted;
  #asked = 0;

  /** @param accepted () => void, when the service knows the key */
  constructor(accepted) {
    this.#accepted = accepted;
    this.key = null;
    this.input = byId("key");
    this.keep = byId("key-keep");
    this.state = byId("key-state");
    byId("key-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.use();
    });
    this.input.addEventListener("input", () => {
      // Pasting is enough; typing half a key asks nothing.
      if (COMPLETE.test(cleanKey(this.input.value) ?? "")) this.use();
    });
    this.keep.addEventListener("change", () => this.#store());
    byId("key-forget").addEventListener("click", () => this.forget());
    const stored = storage((tab) => tab.getItem(STORED));
    if (stored) {
      this.keep.checked = true;
      this.input.value = stored;
      this.use();
    }
  }

  /** Take what is in the field, and ask the service whose it is. */
  async use() {
    const key = cleanKey(this.input.value);
    const asked = ++this.#asked;
    this.key = null;
    if (key === null) {
      this.#say("Paste a key first: it begins with tl_live_ and has no spaces.", true);
      this.input.focus();
      return;
    }
    this.#say("Asking the server…");
    try {
      const account = await getJson("/v1/account", key);
      if (asked !== this.#asked) return;
      this.key = key;
      this.name = `${account.name}, tier ${account.tier}`;
      byId("key-forget").hidden = false;
      this.#store();
      this.credits(account.credits);
      this.#accepted();
    } catch (problem) {
      if (asked !== this.#asked) return;
      const trace = problem.traceId ? `, trace id ${problem.traceId}` : "";
      this.#say(`${problem.detail} (code ${problem.code}${trace})`, true);
    }
  }

  forget() {
    this.#asked++;
    this.key = null;
    this.input.value = "";
    this.keep.checked = false;
    this.#store();
    byId("key-forget").hidden = true;
    this.#say("Forgotten.");
    this.input.focus();
  }

  /** Show what is left. */
  credits(left) {
    this.#say(`${this.name}: ${whole(left)} credits left`);
  }

  /** Ask for a key. */
  ask(reason) {
    this.#say(reason, true);
  }

  #say(text, wrong = false) {
    this.state.textContent = text;
    this.state.classList.toggle("wrong", wrong);
    this.input.setAttribute("aria-invalid", String(wrong));
  }

  #store() {
    storage((tab) => (this.keep.checked && this.key ? tab.setItem(STORED, this.key) : tab.removeItem(STORED)));
  }
}

function storage(use) {
  try {
    return use(window.sessionStorage);
  } catch {
    return null; // switched off in this browser; the key stays in memory
  }
}
