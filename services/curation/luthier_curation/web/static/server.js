// Talks to the service. A refusal becomes a Refused with the service's own reason and message.

export class Refused extends Error {
  constructor(status, body) {
    super(body.message || `The service answered ${status}.`);
    this.status = status;
    this.reason = body.reason || "";
  }
}

async function answered(request) {
  let response;
  try {
    response = await request;
  } catch {
    throw new Refused(0, { reason: "UNREACHABLE", message: "The service does not answer. Nothing was changed." });
  }
  if (response.ok) return response;
  throw new Refused(response.status, await response.json().catch(() => ({})));
}

const TOKEN = "luthier-token"; // of this tab alone; never in an address
export const token = () => sessionStorage.getItem(TOKEN) || "";
export const keepToken = (text) => (text ? sessionStorage.setItem(TOKEN, text) : sessionStorage.removeItem(TOKEN));
const credentials = () => (token() ? { authorization: `Bearer ${token()}` } : {});

/** POST JSON, get JSON. The header says that this page sent it. */
export async function post(path, body) {
  const headers = { "content-type": "application/json", accept: "application/json", "x-luthier-page": "1", ...credentials() };
  const request = fetch(path, { method: "POST", headers, body: JSON.stringify(body) });
  return (await answered(request)).json();
}

export async function getJson(path) {
  return (await answered(fetch(path, { headers: { accept: "application/json", ...credentials() } }))).json();
}

export async function getBytes(path) {
  return (await answered(fetch(path, { headers: { accept: "application/json" } }))).arrayBuffer();
}

/** A piece of HTML that the server made, and escaped. */
export async function getHtml(path) {
  return (await answered(fetch(path, { headers: { accept: "application/json" } }))).text();
}
