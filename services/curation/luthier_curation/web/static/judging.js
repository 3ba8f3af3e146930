// Judging: reasons, ratings and notes, selected clips, skipping.

import { current, decide, guarded, move, refresh, remember, undo } from "./app.js";
import { post } from "./server.js";
import { $, $$, asked, reviewer, toast } from "./ui.js";

/* a verdict with a reason, a rating and a note */
async function judge(clip) {
  if (!clip) return;
  const dialog = $("#judge-dialog");
  const form = $("form", dialog);
  form.reset();
  $("#judge-title").textContent = clip.dataset.title;
  if (clip.dataset.verdict === "rejected") form.elements.verdict.value = "rejected";
  $(".settle", dialog).hidden = !$(".opinions", clip);
  if (!(await asked(dialog))) return;
  const verdict = form.elements.verdict.value;
  const told = { rating: Number(form.elements.rating.value), remark: form.elements.remark.value.trim(), settle: form.elements.settle.checked };
  await decide(clip, verdict, { ...told, reason: verdict === "rejected" ? form.elements.reason.value : "" });
}

/* later */
async function skip(clips) {
  const who = await reviewer();
  if (!who || !clips.length) return;
  const done = await post("/api/skip", { clip_ids: clips.map((clip) => clip.id), reviewer: who });
  remember(done.batch_id);
  await Promise.all(clips.map((clip) => refresh(clip.id)));
  const text = done.changed ? "Skipped: it comes back to you when the others are judged." : "It is judged already.";
  toast(done.changed > 1 ? `Skipped: ${done.changed} clips.` : text, { label: "Undo", act: guarded(undo) });
}

/* selected clips */
const picked = () => $$(".pick:checked").map((box) => box.closest(".clip"));

function showPicked() {
  const count = picked().length;
  $("#selected").textContent = count;
  $(".selection").hidden = !count;
}

function pickNone() {
  $$(".pick:checked").forEach((box) => { box.checked = false; });
  showPicked();
}

async function judgePicked(verdict) {
  const who = await reviewer();
  const clips = picked();
  if (!who || !clips.length) return;
  const revisions = Object.fromEntries(clips.map((clip) => [clip.id, Number(clip.dataset.revision)]));
  const done = await post("/api/review", { verdict, reviewer: who, clips: revisions });
  remember(done.batch_id);
  await Promise.all(clips.map((clip) => refresh(clip.id)));
  showPicked();
  toast(`Done for ${done.changed} clip${done.changed === 1 ? "" : "s"}.`, { label: "Undo", act: guarded(undo) });
}

/* buttons and keys */
document.addEventListener("click", guarded(async (event) => {
  const button = event.target.closest("[data-do]");
  const what = button?.dataset.do;
  if (what === "judge") await judge(button.closest(".clip"));
  if (what === "skip") await skip([button.closest(".clip")]);
  if (what === "judge-selected") await judgePicked(button.dataset.verdict);
  if (what === "skip-selected") await skip(picked());
  if (what === "select-none") pickNone();
}));
document.addEventListener("change", (event) => { if (event.target.matches(".pick")) showPicked(); });

const keys = {
  v: () => judge(current()),
  s: async () => { const clip = current(); await skip([clip]); move(1); },
  x: () => { const box = $(".pick", current()); if (box) { box.checked = !box.checked; showPicked(); } },
};
document.addEventListener("keydown", guarded(async (event) => {
  if ($("dialog[open]") || event.target.matches("input:not(.pick), textarea, select")) return;
  if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in keys)) return;
  event.preventDefault();
  if (current()) await keys[event.key]();
}));
