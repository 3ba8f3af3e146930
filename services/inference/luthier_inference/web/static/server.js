// Talks to the service. A refusal becomes a Refused with the service's own reason, message and fields.

const GENERATE = "/v1/audio/generate";
const TOKEN = "luthier-token"; // in this tab's storage alone

export class Refused extends Error {
  constructor(status, { message, reason = "", violations = [], retry_after_s: retryAfter } = {}) {
    super(message || `The service answered ${status}.`);
    Object.assign(this, { status, reason, violations, retryAfter });
  }
}

export const token = () => sessionStorage.getItem(TOKEN) || "";
export const setToken = (text) => (text ? sessionStorage.setItem(TOKEN, text) : sessionStorage.removeItem(TOKEN));

const credentials = () => (token() ? { authorization: `Bearer ${token()}` } : {});

async function answered(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { ...options, headers: { ...options.headers, ...credentials() } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, { reason: "UNREACHABLE", message: "The service does not answer." });
  }
  if (response.ok) return response;
  throw new Refused(response.status, (await response.json().catch(() => ({}))).error);
}

export const models = async () => (await answered("/v1/models")).json();

/** What a file says of what made it, and what is known of it. */
export async function verify(file) {
  const headers = { "content-type": "application/octet-stream" };
  return (await answered("/v1/audio/verify", { method: "POST", headers, body: file })).json();
}

/** Generates: tells each progress, gives {response, audio}, the bytes as a Blob. `signal` ends it, here and there. */
export async function generate(body, onProgress, signal) {
  const headers = { "content-type": "application/json", accept: "text/event-stream" };
  const answer = await answered(GENERATE, { method: "POST", headers, body: JSON.stringify(body), signal });
  const pieces = [];
  let response, done = false;
  for await (const [name, data] of events(answer.body)) {
    if (name === "progress") onProgress(data);
    else if (name === "response") response = data;
    else if (name === "audio") pieces.push(Uint8Array.from(atob(data.audio), (character) => character.charCodeAt(0)));
    else if (name === "error") throw new Refused(data.error.code, data.error);
    else if (name === "done") done = true;
  }
  if (!done) throw new Refused(0, { reason: "UNREACHABLE", message: "The connection broke before the audio was there." });
  return { response, audio: new Blob(pieces, { type: response.audio.media_type }) };
}

/** Name and data of server-sent events. */
async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    let value, ended;
    try {
      ({ value, done: ended } = await reader.read());
    } catch (error) {
      if (error.name === "AbortError") throw error;
      return;
    }
    if (ended) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split("\n").map((line) => line.match(/^(\w*): ?(.*)$/s)?.slice(1) ?? ["", ""]));
      if (fields.data) yield [fields.event, JSON.parse(fields.data)];
    }
  }
}

/** The same generation as a command for a terminal. It names the token's variable, never the token. */
export function command(body) {
  const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;
  const extension = { "wav-24": "wav" }[body.response_format] || body.response_format;
  return [
    `curl --fail-with-body ${quoted(location.origin + GENERATE)}`,
    ...(token() ? ['-H "Authorization: Bearer $LUTHIER_TOKEN"'] : []),
    "-H 'Content-Type: application/json'",
    `--data ${quoted(JSON.stringify(body))}`,
    `--output audio.${extension}`,
  ].join(" \\\n  ");
}
