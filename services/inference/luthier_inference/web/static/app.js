// The page: what is asked for, how far it is, what was made.

import { openHistory } from "/static/history.js";
import { command, generate, models, setToken, token } from "/static/server.js";
import { draw, forget, peaksOf } from "/static/waves.js";

const $ = (selector, root = document) => root.querySelector(selector);
const form = $("#form"), list = $("#history"), tokenField = $("#token"); // which has no name: no form sends it
const FIRST_SECONDS = 10; // asked for unless told otherwise, where the model's window is as long
const NUMBERS = new Set(["audio_length", "num_inference_steps", "guidance_scale", "loudness_target_lufs", "music.tempo_bpm"]);
const LISTS = new Set(["music.instruments"]); // typed with commas
let stopping; // an AbortController while something is generated
let known = { data: [], default_model: "" };

/** What the form asks for: fields that are left empty are the model's own. */
function asked() {
  const body = {};
  for (const [name, text] of new FormData(form)) {
    const value = String(text).trim();
    if (!value && name !== "input") continue;
    const [outer, inner] = name.split(".");
    const parsed = NUMBERS.has(name) ? Number(value) : LISTS.has(name) ? value.split(",").map((each) => each.trim()).filter(Boolean) : value;
    if (inner) (body[outer] ??= {})[inner] = parsed;
    else body[outer] = parsed;
  }
  return body;
}

function fill(body) {
  for (const field of form.elements) {
    if (!field.name) continue;
    const value = field.name.split(".").reduce((within, name) => within?.[name], body) ?? "";
    field.value = Array.isArray(value) ? value.join(", ") : value;
    if (value !== "" && field.name !== "response_format") field.closest("details")?.setAttribute("open", "");
  }
  form.elements.response_format.value ||= "flac";
}

/** Tells what is wrong: at the fields that are, and in a list. */
function tell(fault) {
  const box = $("#fault");
  box.replaceChildren();
  for (const field of form.elements) field.removeAttribute?.("aria-invalid");
  if (!fault) return;
  $("#token-field").hidden &&= fault.status !== 401;
  const lines = fault.violations?.length ? fault.violations.map(({ field, description }) => `${labelOf(field)}: ${description}`) : [fault.message];
  if (fault.retryAfter) lines.push(`Try again in ${Math.ceil(fault.retryAfter)} s.`);
  const items = document.createElement("ul");
  items.append(...lines.map((text) => item(text)));
  box.append(items);
  const wrong = (fault.violations ?? []).map(({ field }) => fieldOf(field)).filter(Boolean);
  for (const field of wrong) {
    field.setAttribute("aria-invalid", "true");
    field.closest("details")?.setAttribute("open", "");
  }
  (wrong[0] ?? (fault.status === 401 ? tokenField : undefined))?.focus();
}

/** The field of a path such as `music.instruments[1]`. */
const fieldOf = (path) => form.elements[path.replace(/\[.*$/, "")];
const labelOf = (path) => fieldOf(path)?.closest("label")?.firstChild.textContent.trim() ?? path;

function item(text) {
  const made = document.createElement("li");
  made.textContent = text;
  return made;
}

function say(text) {
  $("#said").textContent = text;
}

function shown({ step, total, eta_s: left, ahead }) {
  const bar = $("progress");
  if (step) Object.assign(bar, { max: total, value: step });
  else bar.removeAttribute("value");
  const time = left > 0 ? `, about ${Math.max(1, Math.round(left))} s to go` : "";
  $("#status").textContent = step ? `Step ${step} of ${total}${time}` : ahead ? `Waiting: ${ahead} before it${time}` : `Beginning${time}`;
}

function busy(working) {
  $("#generate").disabled = working;
  $("#stop").hidden = $("#progress").hidden = !working;
  form.setAttribute("aria-busy", String(working));
}

async function submitted() {
  if (stopping) return;
  setToken(tokenField.value.trim());
  tell();
  say("");
  const body = asked();
  stopping = new AbortController();
  busy(true);
  shown({});
  try {
    const { response, audio } = await generate(body, shown, stopping.signal);
    const peaks = await peaksOf(audio).catch(() => undefined);
    const { added, gone } = await history.add({ asked: body, response, audio, peaks, at: Date.now() });
    gone.forEach(taken);
    show(added);
    say(`Done: ${facts(added).slice(0, 2).join(", ")}.`);
    if (!known.data.length) loadModels();
  } catch (error) {
    if (error.name === "AbortError") say("Stopped.");
    else tell(error);
  } finally {
    stopping = undefined;
    busy(false);
  }
}

function facts({ response, at }) {
  const seconds = Number(response.samples) / response.sample_rate_hz;
  return [
    `${seconds.toFixed(1)} s`, response.model, `${response.steps} steps`, `guidance ${response.guidance_scale}`, `seed ${response.seed}`,
    response.audio.key.split(".").pop().toUpperCase(), new Date(at).toLocaleString(),
  ];
}

function notes({ response }) {
  const heard = (response.advice ?? []).map(({ subject, asked: wanted, near }) => {
    const instead = near?.length ? ` It knows ${near.join(", ")}.` : "";
    return `The model hardly heard the ${subject} ${wanted}.${instead}`;
  });
  const measured = (response.heard ?? []).filter(({ obeyed }) => obeyed !== undefined).map(({ asked: wanted, heard: found, obeyed }) =>
    obeyed ? `${wanted}: heard as asked for.` : `Asked for ${wanted}, heard ${found || "nothing of it"}.`);
  return [...heard, ...measured, ...(response.notes ?? [])];
}

/** Shows a piece at the top of the history. */
function show(piece) {
  const card = $("#piece").content.cloneNode(true).firstElementChild;
  const url = URL.createObjectURL(piece.audio), audio = $("audio", card), canvas = $("canvas", card);
  card.dataset.id = piece.id;
  card.dataset.url = url;
  $(".prompt", card).textContent = piece.response.prompt;
  $(".facts", card).append(...facts(piece).map(item));
  const remarks = notes(piece);
  $(".notes", card).hidden = !remarks.length;
  $(".notes", card).append(...remarks.map(item));
  audio.src = url;
  audio.setAttribute("aria-label", piece.response.prompt);
  audio.addEventListener("play", () => document.querySelectorAll("audio").forEach((other) => other !== audio && other.pause()));
  audio.addEventListener("timeupdate", () => draw(canvas, piece.peaks, audio.currentTime / audio.duration || 0));
  canvas.addEventListener("click", (event) => {
    audio.currentTime = (event.offsetX / canvas.clientWidth) * (audio.duration || 0);
    audio.play();
  });
  const extension = piece.response.audio.key.split(".").pop();
  Object.assign($(".download", card), { href: url, download: `${named(piece.response.prompt)}-${piece.response.seed}.${extension}` });
  const exact = { ...piece.asked, seed: piece.response.seed, model: piece.response.model };
  $(".again", card).addEventListener("click", () => {
    fill({ ...exact, model: modelValue(piece.response.model) });
    form.elements.input.focus();
  });
  $(".command", card).addEventListener("click", () => copy(command(exact)));
  $(".remove", card).addEventListener("click", async () => {
    await history.remove(piece.id);
    taken(piece.id);
  });
  list.prepend(card);
  $("#empty").hidden = true;
  $("#forget").hidden = false;
  if (piece.peaks) draw(canvas, piece.peaks);
  else canvas.hidden = true;
}

const named = (prompt) => prompt.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "").slice(0, 40) || "audio";

/** A version as the choice of models names it. */
const modelValue = (label) => [...form.elements.model.options].find(({ value }) => value === label)?.value ?? "";

/** Takes a piece off the page. */
function taken(id) {
  const card = $(`[data-id="${id}"]`, list);
  if (!card) return;
  URL.revokeObjectURL(card.dataset.url);
  forget($("canvas", card));
  card.remove();
  $("#empty").hidden = list.children.length > 0;
  $("#forget").hidden = !list.children.length;
}

/** To the clipboard, also where the page came by an address that the browser does not call secure. */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const field = Object.assign(document.createElement("textarea"), { value: text });
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
  say("The command is in the clipboard.");
}

async function loadModels() {
  try {
    known = await models();
  } catch (fault) {
    tell(fault);
    return;
  }
  const options = [new Option(known.default_model ? `${known.default_model} (the default)` : "the server’s default", "")];
  const newest = new Set();
  for (const { id, name, loaded } of known.data) {
    const label = newest.has(name) ? id : `${id} (newest)`;
    newest.add(name);
    options.push(new Option(loaded ? `${label}, loaded` : label, id));
  }
  form.elements.model.replaceChildren(...options);
  if (!known.data.length) tell({ message: "No model is registered yet: luthier register, or luthier train." });
  bounded();
}

/** Seconds are bounded by the window of the model that is chosen. */
function bounded() {
  const chosen = form.elements.model.value || known.default_model;
  const model = known.data.find(({ id, name }) => id === chosen || name === chosen) ?? (known.data.length === 1 ? known.data[0] : undefined);
  const field = form.elements.audio_length;
  field.max = model?.window_s || "";
  field.placeholder = model ? `at most ${model.window_s.toFixed(1)}` : "";
  if (model && (!field.value || Number(field.value) > model.window_s)) field.value = Math.min(FIRST_SECONDS, Math.floor(model.window_s * 10) / 10);
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  submitted();
});
form.elements.input.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) submitted();
});
form.elements.model.addEventListener("change", bounded);
tokenField.addEventListener("change", () => {
  setToken(tokenField.value.trim());
  tell();
  loadModels();
});
$("#stop").addEventListener("click", () => stopping?.abort());
$("#copy").addEventListener("click", () => copy(command(asked())));
$("#forget").addEventListener("click", async () => {
  for (const { id } of await history.all()) {
    await history.remove(id);
    taken(id);
  }
});

tokenField.value = token();
$("#token-field").hidden = !token();
const history = await openHistory();
(await history.all()).forEach(show);
await loadModels();
busy(false);
document.documentElement.dataset.ready = "";
