// Calls of an operation as shell commands. Keys and ids are shell variables, so that nothing secret is on the page.

const SAMPLES = { "audio/*": "audio/mpeg" };
const FORM = "multipart/form-data";
const JSON_TYPE = "application/json";

/** One or more `{ what, command }` for an operation of an OpenAPI document. */
export function curlCalls(origin, method, path, operation) {
  const address = path.replace(/\{(\w+)\}/g, (_, name) => `$${name.toUpperCase()}`);
  const start = [`curl ${quoted(origin + address)}`];
  const sent = operation.requestBody?.content;
  const verb = method.toUpperCase();
  if (verb !== "GET" && !(verb === "POST" && sent)) start.push(`-X ${verb}`);
  if (operation.security?.length) start.push('-H "Authorization: Bearer $TUNELAB_KEY"');
  if (sent) return uploads(start, sent);
  const answers = Object.keys(operation.responses?.["200"]?.content ?? {});
  const calls = [{ what: null, command: joined(start) }];
  for (const type of answers.filter((name) => name !== JSON_TYPE)) {
    calls.push({ what: `as ${type}`, command: joined([...start, `-H "Accept: ${type}"`, "-o answer.bin"]) });
  }
  return calls;
}

function uploads(start, content) {
  const types = Object.keys(content);
  const calls = [];
  if (types.includes(JSON_TYPE)) {
    const command = joined([...start, `-H "Content-Type: ${JSON_TYPE}"`, "--data-binary @request.json"]);
    calls.push({ what: "JSON as the body", command });
  }
  const raw = types.find((type) => type !== FORM && type !== JSON_TYPE);
  if (raw) {
    const command = joined([...start, `-H "Content-Type: ${SAMPLES[raw] ?? raw}"`, "--data-binary @song.mp3"]);
    calls.push({ what: "the file as the body", command });
  }
  if (types.includes(FORM)) {
    const [field = "file"] = Object.keys(content[FORM].schema?.properties ?? {});
    calls.push({ what: "the file in a form", command: joined([...start, `-F ${field}=@song.mp3`]) });
  }
  return calls;
}

function quoted(address) {
  return address.includes("$") ? `"${address}"` : address;
}

function joined(parts) {
  return parts.join(" \\\n  ");
}
