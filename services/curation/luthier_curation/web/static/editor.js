// Editing one clip in place. When someone else was faster, both versions are shown and nothing is lost.

import { getHtml, post } from "./server.js";
import { $, $$, element, reviewer } from "./ui.js";

const names = $$("#instruments option").map((option) => option.value);

/** Open the editor of a card; `saved(answer)` is called with the service's answer. */
export function openEditor(clip, saved) {
  if ($(".editor", clip)) return $("textarea", clip)?.focus();
  const form = $("#editor").content.firstElementChild.cloneNode(true);
  const state = { clip, form, saved, revision: Number(clip.dataset.revision), before: null };
  fill(form, clip);
  state.before = { ...read(form), tempo_changes: clip.dataset.tempoChanges === "true" };
  form.addEventListener("submit", (event) => { event.preventDefault(); save(state); });
  form.addEventListener("keydown", (event) => keys(event, form));
  form.addEventListener("click", (event) => clicks(event, form));
  $(".instrument-input", form).addEventListener("change", (event) => addTyped(form, event.target));
  clip.append(form);
  $("textarea", form).focus();
  form.scrollIntoView({ block: "nearest" });
}

export const closeEditor = (clip) => { $(".editor", clip)?.remove(); clip.focus({ preventScroll: true }); };

function fill(form, clip) {
  const texts = $$(".prompt[data-text]", clip).map((prompt) => prompt.dataset.text);
  (texts.length ? texts : [""]).forEach((text) => addPrompt(form, text));
  $$(".instrument", clip).forEach(({ dataset }) => addInstrument(form, dataset.name, Number(dataset.share)));
  JSON.parse(clip.dataset.tags).forEach(([text, kind]) => addTag(form, text, kind));
  form.elements.tempo.value = Number(clip.dataset.tempo) ? Number(Number(clip.dataset.tempo).toFixed(2)) : "";
  const mean = clip.dataset.tempoChanges === "true" ? " (the mean: it changes)" : "";
  $(".tempo-unit", form).textContent = `Tempo, ${clip.dataset.tempoUnit || "BPM"}${mean}`;
  form.elements.tonic.value = clip.dataset.tonic;
  form.elements.mode.value = clip.dataset.mode || "MODE_MAJOR";
  form.elements.voice.value = clip.dataset.voice || "VOICE_PRESENCE_UNSPECIFIED";
  $(".voice", form).hidden = !clip.dataset.voice; // rendered from notes: there is none
  form.elements.remark.value = $(".remark", clip)?.dataset.remark || "";
}

function addPrompt(form, text) {
  const field = element("textarea", { value: text, rows: 2, maxLength: 2000, ariaLabel: "Prompt" });
  const remove = element("button", { type: "button", className: "plain", text: "×", ariaLabel: "Remove this prompt" });
  remove.dataset.do = "remove-prompt";
  $(".editor-prompts", form).append(element("div", { className: "prompt-field", children: [field, remove] }));
  return field;
}

function addInstrument(form, name, share = 0) {
  const remove = element("button", { type: "button", text: "×", ariaLabel: `Remove ${name}` });
  remove.dataset.do = "remove-instrument";
  const chip = element("span", { className: "instrument", children: [element("span", { text: name }), remove] });
  Object.assign(chip.dataset, { name, share });
  $(".editor-instruments", form).append(chip);
}

function addTag(form, text, kind) {
  const remove = element("button", { type: "button", text: "×", ariaLabel: `Remove ${text}` });
  remove.dataset.do = "remove-tag";
  const chip = element("span", { className: "instrument", children: [element("span", { text }), element("span", { className: "quiet small", text: ` ${kind}` }), remove] });
  Object.assign(chip.dataset, { text, kind });
  $(".editor-tags", form).append(chip);
}

function addTypedTag(form) {
  const input = $(".tag-input", form);
  const [text, kind] = [input.value.trim().toLowerCase(), $(".tag-kind", form).value];
  const there = $$(".editor-tags .instrument", form).some(({ dataset }) => dataset.text === text && dataset.kind === kind);
  if (text && !there) addTag(form, text, kind);
  input.value = "";
}

function addTyped(form, input) {
  const typed = input.value.trim().toLowerCase();
  const name = names.find((known) => known.toLowerCase() === typed);
  const there = $$(".editor-instruments .instrument", form).some((chip) => chip.dataset.name === name);
  if (name && !there) addInstrument(form, name);
  fault(form, name || !typed ? "" : `“${input.value.trim()}” is not a General MIDI instrument. Choose one from the list.`);
  if (name) input.value = "";
}

/** What the form says now, in the service's words. */
function read(form) {
  return {
    prompts: $$("textarea", form).map((field) => field.value.trim()).filter(Boolean),
    instruments: $$(".editor-instruments .instrument", form).map(({ dataset }) => ({
      name: dataset.name, share: Number(dataset.share),
    })),
    tempo_bpm: Number(form.elements.tempo.value) || 0,
    key: [form.elements.tonic.value, form.elements.tonic.value && form.elements.mode.value],
    voice: form.elements.voice.value,
    tags: $$(".editor-tags .instrument", form).map(({ dataset: { text, kind } }) => ({ text, kind })),
    remark: form.elements.remark.value.trim(),
  };
}

/** Only the fields that the person changed: the others may be changed by someone else meanwhile. A new tempo's number
 * counts what the label says, and is the mean of a changing tempo where the one before was. */
function changes(before, now) {
  const changed = (name) => JSON.stringify(before[name]) !== JSON.stringify(now[name]);
  const body = {};
  for (const name of ["prompts", "instruments", "tempo_bpm", "voice", "tags", "remark"]) if (changed(name)) body[name] = now[name];
  if ("tempo_bpm" in body) body.tempo_changes = before.tempo_changes && body.tempo_bpm > 0;
  if (changed("key")) [body.tonic, body.mode] = now.key;
  return body;
}

async function save(state) {
  addTyped(state.form, $(".instrument-input", state.form));
  addTypedTag(state.form);
  if (!$(".fault", state.form).hidden) return;
  const now = read(state.form);
  if (!now.prompts.length) return fault(state.form, "A clip needs at least one prompt.");
  const body = changes(state.before, now);
  if (!Object.keys(body).length) return closeEditor(state.clip);
  const who = await reviewer();
  if (!who) return;
  try {
    state.saved(await post(`/api/clips/${state.clip.id}`, { ...body, reviewer: who, expected_revision: state.revision }));
  } catch (error) {
    if (error.status === 409) await conflict(state, error);
    else fault(state.form, error.message);
  }
}

function fault(form, text) {
  $(".fault", form).textContent = text;
  $(".fault", form).hidden = !text;
}

/** Someone else was faster: show what the clip says now, and let the person choose. */
async function conflict(state, error) {
  const page = new DOMParser().parseFromString(await getHtml(`/clips/${state.clip.id}`), "text/html");
  const theirs = $(".clip", page);
  const said = [
    ...$$(".prompt[data-text]", theirs).map((prompt) => prompt.dataset.text),
    $$(".instrument", theirs).map((chip) => chip.dataset.name).join(", "),
    `${theirs.dataset.verdict}, ${$$(".fact", theirs).slice(0, 2).map((fact) => fact.textContent.trim()).join(", ")}`,
  ];
  const box = $(".conflict", state.form);
  const take = element("button", { type: "button", className: "button quiet-button", text: "Take theirs" });
  const keep = element("button", { type: "button", className: "button", text: "Save mine over it" });
  take.addEventListener("click", () => state.saved({ html: theirs.outerHTML, batch_id: "" }));
  keep.addEventListener("click", () => { state.revision = Number(theirs.dataset.revision); box.hidden = true; save(state); });
  box.replaceChildren(
    element("p", { children: [element("strong", { text: "Someone changed this clip while you were editing. " }), "Yours is not saved yet. It now says:"] }),
    element("ul", { children: said.filter(Boolean).map((text) => element("li", { text })) }),
    element("menu", { children: [take, keep] }),
  );
  box.hidden = false;
  box.title = error.message;
  box.scrollIntoView({ block: "nearest" });
}

function keys(event, form) {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    form.requestSubmit();
  } else if (event.key === "Enter" && event.target.matches("input")) {
    event.preventDefault();
    if (event.target.matches(".instrument-input")) addTyped(form, event.target);
    if (event.target.matches(".tag-input")) addTypedTag(form);
  } else if (event.key === "Escape") {
    closeEditor(form.closest(".clip"));
  }
  event.stopPropagation();
}

function clicks(event, form) {
  const button = event.target.closest("[data-do]");
  if (!button) return;
  const acts = {
    "add-prompt": () => addPrompt(form, "").focus(),
    "remove-prompt": () => button.closest(".prompt-field").remove(),
    "add-tag": () => addTypedTag(form),
    "remove-tag": () => button.closest(".instrument").remove(),
    "remove-instrument": () => button.closest(".instrument").remove(),
    "cancel-edit": () => closeEditor(form.closest(".clip")),
  };
  acts[button.dataset.do]?.();
}
