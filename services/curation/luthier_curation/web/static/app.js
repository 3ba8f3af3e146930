// The page: which clip is the current one, what buttons and keys do, and undo.

import { finished } from "./batches.js";
import { closeDetails, mark, onCut, onDetails, onSaved, openedId, toBeat, toggleDetails, toggleLoop, zoom } from "./details.js";
import { closeEditor, openEditor } from "./editor.js";
import { openExport } from "./export.js";
import * as player from "./player.js";
import { getHtml, post } from "./server.js";
import { $, $$, askReviewer, confirmed, knownReviewer, reviewer, showReviewer, toast } from "./ui.js";
import { watch } from "./waves.js";

const DONE = { accepted: "Accepted", rejected: "Rejected", open: "Reopened" };
const UNDO = "luthier-undo"; // batches of this tab, the newest last
const filter = Object.fromEntries(new FormData($(".filters")));

/* the current clip */
const clips = () => $$(".clip");
export const current = () => $('.clip[aria-current="true"]') || clips()[0];

function choose(clip, { scroll = true } = {}) {
  if (!clip) return;
  clips().forEach((other) => other.setAttribute("aria-current", String(other === clip)));
  clip.focus({ preventScroll: true });
  if (scroll) clip.scrollIntoView({ block: "nearest" });
}

/** The page before (-1) or after (1); false = there is none. */
function turn(step) {
  const link = $(step > 0 ? '.pages [rel="next"]' : '.pages [rel="prev"]');
  if (!link) return false;
  sessionStorage.setItem("luthier-at", step > 0 ? "first" : "last");
  location.assign(link.href);
  return true;
}

/** The clip before or after; behind the last one comes the next page. */
export function move(step) {
  const to = clips().indexOf(current()) + step;
  if (to < 0 || to >= clips().length) turn(step);
  else choose(clips()[to]);
}

/** Put the server's card in place of the one that is shown. */
function replace(id, html) {
  const old = document.getElementById(id);
  if (!old) return;
  const fresh = new DOMParser().parseFromString(html, "text/html").body.firstElementChild; // escaped by the server
  fresh.setAttribute("aria-current", old.getAttribute("aria-current"));
  count(old.dataset.verdict, -1);
  count(fresh.dataset.verdict, 1);
  if (openedId() === id) closeDetails();
  const wave = $(".wave", old);
  if (fresh.dataset.audio === old.dataset.audio) $(".wave", fresh).replaceWith(wave); // it is the same sound
  else wave.wave?.destroy();
  old.replaceWith(fresh);
  watch(fresh);
  player.mark();
  if (fresh.getAttribute("aria-current") === "true") fresh.focus({ preventScroll: true });
}

/** One clip more or less has this verdict: every count on the page says so. */
function count(verdict, step) {
  const shown = $(`.tabs [data-verdict="${verdict}"] .count`);
  const clips = Number(shown.dataset.clips) + step;
  shown.dataset.clips = clips;
  shown.textContent = clips.toLocaleString("en") + (shown.dataset.more === "true" ? "+" : "");
  $$(`.done .count-${verdict}`).forEach((said) => { said.textContent = shown.textContent; });
  if (verdict === "open") $(".done").hidden = clips > 0 || shown.dataset.more === "true";
  if (filter.verdict !== verdict) return;
  $$(".total").forEach((said) => { said.textContent = shown.textContent; });
  $(".bulk .many").textContent = clips === 1 ? "clip matches" : "clips match";
  $$('.bulk [data-do="bulk"]').forEach((button) => { button.disabled = clips === 0; });
}

export async function refresh(id) {
  if (document.getElementById(id)) replace(id, await getHtml(`/clips/${id}`));
}

/* undo */
const undone = () => JSON.parse(sessionStorage.getItem(UNDO) || "[]");
export function remember(batch) {
  if (batch) sessionStorage.setItem(UNDO, JSON.stringify([...undone(), batch].slice(-200)));
}

let undoing = Promise.resolve();
/** Take back the newest batch; one after the other, however fast the keys come. */
export const undo = () => (undoing = undoing.catch(() => {}).then(undoNewest));

async function undoNewest() {
  const batches = undone();
  const batch = batches.pop();
  if (!batch) return toast("Nothing to undo.");
  const who = await reviewer();
  if (!who) return;
  const begun = await post("/api/undo", { batch_id: batch, reviewer: who });
  const done = begun.state ? await finished(begun) : begun;
  sessionStorage.setItem(UNDO, JSON.stringify(batches));
  const kept = Number(done.unchanged) ? ` ${done.unchanged} changed since and stay as they are.` : "";
  const text = `Undone for ${done.changed} clip${Number(done.changed) === 1 ? "" : "s"}.${kept}`;
  if (done.state) { // of many clips: the page shows others of them, too
    sessionStorage.setItem("luthier-toast", text);
    return location.reload();
  }
  toast(text, { fault: !done.changed });
  await Promise.all(done.clip_ids.map(refresh));
  const shown = done.clip_ids.length === 1 && document.getElementById(done.clip_ids[0]);
  if (shown) choose(shown);
}

/* verdicts */
export async function decide(clip, verdict, told = {}) {
  const who = await reviewer();
  if (!who) return;
  const goOn = player.isPlaying() && player.playingId() === clip.id;
  const body = { verdict, reviewer: who, expected_revision: Number(clip.dataset.revision), ...told };
  try {
    const done = await post(`/api/clips/${clip.id}/verdict`, body);
    const next = clips()[clips().indexOf(clip) + 1];
    replace(clip.id, done.html);
    remember(done.batch_id);
    const more = !next && $('.pages [rel="next"]') ? " It was the last one here: n turns the page." : "";
    toast(`${DONE[verdict]}: ${clip.dataset.title}.${more}`, { label: "Undo", act: guarded(undo) });
    if (verdict !== "open" && next) {
      choose(next);
      if (goOn) player.play(next);
    }
  } catch (error) {
    if (error.status !== 409) throw error;
    await refresh(clip.id);
    toast("Someone changed this clip first. Look at it again: nothing of yours was saved.", { fault: true });
  }
}

async function bulk(verdict) {
  const total = $(".bulk .total").textContent;
  const word = { accepted: "Accept", rejected: "Reject", open: "Reopen" }[verdict];
  const text = "Every clip that matches the filter now, on all pages. It can be undone.";
  if (!(await confirmed(`${word} all ${total} clips?`, text, `${word} all`))) return;
  const who = await reviewer();
  if (!who) return;
  const { page: _, ...matching } = filter;
  const number = (value) => (value ? Number(value) : null);
  const body = { ...matching, min_tempo_bpm: number(filter.min_tempo_bpm), max_tempo_bpm: number(filter.max_tempo_bpm) };
  const done = await finished(await post("/api/review", { verdict, reviewer: who, filter: body, background: true }));
  remember(done.batch_id);
  sessionStorage.setItem("luthier-toast", `${DONE[verdict]}: ${done.changed} clips.${Number(done.unchanged) ? ` ${done.unchanged} were already.` : ""}`);
  location.reload();
}

/** Give the collection's clips vectors, by which they are found by their sound. */
async function embed() {
  const who = await reviewer();
  if (!who) return;
  const done = await finished(await post("/api/embed", { reviewer: who, filter: { collection: filter.collection } }));
  const left = Number(done.unchanged) ? ` ${done.unchanged} could not be: silent, or without audio.` : "";
  sessionStorage.setItem("luthier-told", `Embedded ${done.changed} clip${Number(done.changed) === 1 ? "" : "s"}.${left}`);
  location.reload();
}

async function history(clip) {
  $("#history").innerHTML = await getHtml(`/clips/${clip.id}/history`); // made and escaped by the server
  $("#history-dialog").showModal();
}

function edit(clip) {
  choose(clip);
  openEditor(clip, (answer) => {
    closeEditor(clip);
    replace(clip.id, answer.html);
    remember(answer.batch_id);
    if (answer.batch_id) toast("Saved.", { label: "Undo", act: guarded(undo) });
  });
}

/** Run it; a refusal is told, never swallowed. */
export const guarded = (act) => async (...given) => {
  try {
    await act(...given);
  } catch (error) {
    toast(error.message, { fault: true });
  }
};

/* buttons */
function place(event) {
  const { left, width } = event.target.closest(".wave").getBoundingClientRect();
  return Math.min(1, Math.max(0, (event.clientX - left) / width));
}
const onClip = {
  play: (clip) => player.toggle(clip),
  seek: (clip, event) => player.play(clip, place(event)),
  accepted: (clip) => decide(clip, "accepted"),
  rejected: (clip) => decide(clip, "rejected"),
  open: (clip) => decide(clip, "open"),
  edit,
  details: toggleDetails,
  history,
};
const onPage = {
  bulk: (button) => bulk(button.dataset.verdict),
  reviewer: askReviewer,
  help: () => $("#help-dialog").showModal(),
  export: openExport,
  embed,
  toggle: () => player.toggleCurrent(),
  close: (button) => button.closest("dialog").close(),
};

document.addEventListener("click", guarded(async (event) => {
  const clip = event.target.closest(".clip");
  if (clip && !event.target.closest(".editor, .details")) choose(clip, { scroll: false });
  const button = event.target.closest("[data-do]");
  if (!button) return;
  if (button.closest(".details")) await onDetails[button.dataset.do]?.(button);
  else if (clip) await onClip[button.dataset.do]?.(clip, event);
  else await onPage[button.dataset.do]?.(button, event);
}));

/* keys */
const keys = {
  " ": () => player.toggle(current()),
  ArrowDown: () => move(1), j: () => move(1),
  ArrowUp: () => move(-1), k: () => move(-1),
  ArrowLeft: () => player.skip(-5), ArrowRight: () => player.skip(5),
  1: () => decide(current(), "accepted"), a: () => decide(current(), "accepted"),
  2: () => decide(current(), "rejected"), r: () => decide(current(), "rejected"),
  0: () => decide(current(), "open"),
  n: () => turn(1), p: () => turn(-1),
  e: () => edit(current()),
  m: () => location.assign($(".like", current()).href),
  h: () => history(current()),
  d: () => toggleDetails(current()),
  ",": () => toBeat(-1), ".": () => toBeat(1),
  "<": () => toBeat(-1, { bars: true }), ">": () => toBeat(1, { bars: true }),
  i: () => mark("from"), o: () => mark("to"), l: toggleLoop,
  "+": () => zoom(40), "-": () => zoom(-40),
  "/": () => $('.filters [name="text"]').focus(),
  "?": () => $("#help-dialog").showModal(),
};

document.addEventListener("keydown", guarded(async (event) => {
  if ($("dialog[open]") || event.target.matches("input, textarea, select")) return;
  const command = event.ctrlKey || event.metaKey;
  if (command && event.key.toLowerCase() === "z" && !event.shiftKey) {
    event.preventDefault();
    await undo();
    return;
  }
  if (command || event.altKey || !(event.key in keys)) return;
  if (event.key === " " && event.target.matches("button, a")) return; // Space presses what has the focus
  event.preventDefault();
  if (current() || "?/np".includes(event.key)) await keys[event.key]();
}));

onSaved(async (id, answer) => {
  replace(id, answer.html);
  remember(answer.batch_id);
  await toggleDetails(document.getElementById(id));
  toast("Saved.", { label: "Undo", act: guarded(undo) });
});

onCut((done) => { // the parts are elsewhere in the list
  remember(done.batch_id);
  const left = done.notes.length ? ` ${done.notes.join("; ")}.` : "";
  sessionStorage.setItem("luthier-toast", `Cut: ${done.clip_ids.length} new clip${done.clip_ids.length === 1 ? "" : "s"}.${left}`);
  location.reload();
});

/** In the order to judge in, what this reviewer skipped comes last: the server must know who it is. */
async function orderMine() {
  const who = filter.order === "next" ? await knownReviewer() : "";
  if (!who || who === filter.reviewing) return false;
  const address = new URL(location.href);
  address.searchParams.set("reviewing", who);
  address.searchParams.delete("page");
  location.replace(address);
  return true;
}

/* start */
const leaving = await orderMine().catch(() => false);
clips().forEach(watch);
showReviewer();
const at = sessionStorage.getItem("luthier-at");
sessionStorage.removeItem("luthier-at");
choose(at === "last" ? clips().at(-1) : clips()[0], { scroll: at === "last" });
const told = sessionStorage.getItem("luthier-toast");
sessionStorage.removeItem("luthier-toast");
if (told) toast(told, { label: "Undo", act: guarded(undo) });
const news = sessionStorage.getItem("luthier-told"); // of what cannot be undone
sessionStorage.removeItem("luthier-told");
if (news) toast(news);
if (!leaving) document.documentElement.dataset.ready = "true";
