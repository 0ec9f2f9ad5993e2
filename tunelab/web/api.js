// The calls of the page. The key travels in a header, never in an address.

/** A refusal: what the service answered (RFC 9457), or that nothing came. */
export class Problem extends Error {
  constructor({ status = 0, code = "no_answer", detail, traceId = null, retryAfterS = null }) {
    super(detail);
    Object.assign(this, { status, code, detail, traceId, retryAfterS });
  }
}

/** GET a JSON answer. Throws a Problem. */
export async function getJson(path, key = null) {
  const answer = fetch(path, { headers: key ? authorization(key) : {}, cache: "no-store" });
  const response = await answer.catch(() => {
    throw new Problem({ detail: "no answer came: the server cannot be reached" });
  });
  const body = await response.text();
  if (!response.ok) throw problemOf(response.status, body, (name) => response.headers.get(name));
  return parsed(response.status, body, (name) => response.headers.get(name));
}

/**
 * POST a file to /v1/analyze; resolves to its answer, rejects with a Problem, or with null after `signal` was aborted.
 * XMLHttpRequest and not fetch, because fetch does not tell how much was sent.
 */
export function analyze(file, { key, contentType, timeoutMs = 0, signal, onProgress }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const header = (name) => request.getResponseHeader(name);
    request.open("POST", "/v1/analyze");
    for (const [name, value] of Object.entries(authorization(key))) request.setRequestHeader(name, value);
    request.setRequestHeader("Content-Type", contentType);
    request.timeout = timeoutMs;
    request.upload.addEventListener("progress", (event) => onProgress(event.total ? event.loaded / event.total : 0));
    request.upload.addEventListener("load", () => onProgress(1));
    request.addEventListener("load", () => {
      try {
        if (request.status !== 200) throw problemOf(request.status, request.responseText, header);
        resolve(parsed(request.status, request.responseText, header));
      } catch (problem) {
        reject(problem);
      }
    });
    request.addEventListener("error", () => reject(nothingCame()));
    request.addEventListener("timeout", () => reject(nothingCame()));
    request.addEventListener("abort", () => reject(null));
    signal.addEventListener("abort", () => request.abort());
    request.send(file);
  });
}

/** What to call a file in Content-Type: its own type if the service takes that. */
export function contentTypeOf(file, accepted) {
  const taken = accepted.some((type) =>
    type.endsWith("/*") ? file.type.startsWith(type.slice(0, -1)) : type === file.type,
  );
  return file.type && taken ? file.type : "application/octet-stream";
}

/** A pasted key without what people copy along with it; null if it cannot be put into a header. */
export function cleanKey(text) {
  const key = text.trim().replace(/^(authorization:\s*)?bearer\s+/i, "");
  return /^[\x21-\x7e]+$/.test(key) ? key : null;
}

function authorization(key) {
  return { Authorization: `Bearer ${key}` };
}

function nothingCame() {
  const detail = "no answer came: the server cannot be reached, it closed the connection, or the file cannot be read";
  return new Problem({ detail });
}

function parsed(status, body, header) {
  try {
    return JSON.parse(body);
  } catch {
    const detail = "the answer cannot be read; something between this page and the service may have changed it";
    throw new Problem({ status, code: "unreadable_answer", detail, traceId: header("X-Trace-Id") });
  }
}

function problemOf(status, body, header) {
  const known = { status, traceId: header("X-Trace-Id"), retryAfterS: Number(header("Retry-After")) || null };
  try {
    const { code, detail, trace_id: traceId } = JSON.parse(body);
    if (typeof code === "string" && typeof detail === "string") {
      return new Problem({ ...known, code, detail, traceId: traceId ?? known.traceId });
    }
  } catch {
    // Not from the service: a proxy, most likely.
  }
  return new Problem({ ...known, code: "unexpected_answer", detail: `the answer was HTTP ${status} without a reason` });
}
