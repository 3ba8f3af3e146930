// A clip from near: zoom, beats, a region to repeat, spectrogram, stems. One clip at a time.

import { Mixer } from "./mixer.js";
import * as player from "./player.js";
import { getHtml, post } from "./server.js";
import { $, $$, confirmed, element, reviewer } from "./ui.js";
import Regions from "./vendor/regions.js";
import { peaksOf, waveform } from "./waves.js";

const BAD = "bad-"; // begins the ids of regions that show bad passages
const TYPED = "typed"; // id of a region whose ends were given as numbers: they stay as given
let open = null; // what is shown: {clip, panel, form, wave, regions, region, beats, mixer, looping}

export const isOpen = () => open !== null;
export const openedId = () => open?.clip.id ?? "";

export async function toggleDetails(clip) {
  const shown = openedId() === clip.id;
  closeDetails();
  if (!shown) await openDetails(clip);
}

export function closeDetails() {
  if (!open) return;
  const { clip, panel, wave, mixer } = open;
  mixer.close();
  player.repeat(null);
  wave?.destroy();
  panel.remove();
  $('[data-do="details"]', clip)?.setAttribute("aria-expanded", "false");
  open = null;
}

async function openDetails(clip) {
  const button = $('[data-do="details"]', clip);
  button.setAttribute("aria-busy", "true");
  try {
    const page = new DOMParser().parseFromString(await getHtml(`/clips/${clip.id}/details`), "text/html"); // escaped by the server
    const panel = $(".details", page);
    clip.append(panel);
    const stems = $$(".stem", panel).map(({ dataset: { part, audio } }) => ({ part, url: `/clips/${clip.id}/stems/${part}.flac?v=${audio}` }));
    open = {
      clip, panel, form: $("form", panel), beats: JSON.parse(panel.dataset.beats), mixer: new Mixer(player.audio, stems),
      regions: Regions.create(), region: null, looping: false,
    };
  } finally {
    button.removeAttribute("aria-busy");
  }
  button.setAttribute("aria-expanded", "true");
  player.load(clip);
  await draw(open);
  open.form.addEventListener("submit", (event) => event.preventDefault());
  open.form.elements.zoom.addEventListener("input", (event) => open.wave.zoom(Number(event.target.value)));
  for (const name of ["from", "to"]) open.form.elements[name].addEventListener("input", typed);
  open.panel.scrollIntoView({ block: "nearest" });
}

async function draw(state) {
  const place = $(".closeup", state.panel);
  const peaks = await peaksOf(state.clip, true).catch(() => null);
  if (open !== state || !peaks) return place.classList.add("wave-failed");
  state.wave = waveform(place, peaks, {
    media: player.audio, interact: true, height: 110, cursorWidth: 2, hideScrollbar: false, autoCenter: true, plugins: [state.regions],
  });
  const wrapper = state.wave.getWrapper();
  wrapper.parentElement.tabIndex = 0; // it scrolls when zoomed
  wrapper.append(beatLines(state, Number(state.panel.dataset.duration)), spectrogram(state.clip));
  const showBad = () => $$(".bad-passage", state.panel).forEach(({ dataset }) => { // only to be seen
    state.regions.addRegion({ id: BAD + dataset.start, start: Number(dataset.start), end: Number(dataset.end), drag: false, resize: false, color: "rgb(200 40 30 / 28%)" });
  });
  if (state.wave.getDuration()) showBad(); // before it is known, regions shrink to nothing
  else state.wave.once("ready", showBad);
  state.regions.enableDragSelection({ color: "rgb(154 74 23 / 22%)" });
  state.regions.on("region-created", (region) => { if (region.id.startsWith(BAD)) return; if (state.region && state.region !== region) state.region.remove(); state.region = region; if (region.id !== TYPED) snap(state, region); told(state); });
  state.regions.on("region-updated", (region) => { snap(state, region); told(state); });
}

/** Style by script, which the page's policy allows; style sheets of the page do not reach into the waveform. */
const styled = (made, style) => { Object.assign(made.style, style); return made; };

function beatLines(state, duration) {
  const lines = styled(element("div", { part: "beats" }), { position: "absolute", inset: "0 0 auto", height: "110px", pointerEvents: "none", zIndex: 1 });
  for (const [seconds, first] of state.beats) {
    const line = { position: "absolute", left: `${(100 * seconds) / duration}%`, width: "1px", height: "100%", background: "currentcolor", opacity: first ? 0.5 : 0.16 };
    lines.append(styled(element("div"), line));
  }
  return lines;
}

function spectrogram(clip) {
  const image = element("img", { src: `/clips/${clip.id}/spectrogram.png?v=${clip.dataset.audio}`, alt: "Spectrogram" });
  image.addEventListener("load", () => { clip.dataset.spectrogram = "drawn"; });
  return styled(image, { display: "block", width: "100%", height: "130px", imageRendering: "auto", pointerEvents: "none" });
}

/* the region */
const nearest = (beats, seconds) => beats.reduce((best, [time]) => (Math.abs(time - seconds) < Math.abs(best - seconds) ? time : best), Infinity);

/** Its ends on beats, where the person wants that. */
function snap(state, region) {
  if (!state.form.elements.snap.checked) return;
  const ends = [...state.beats, [Number(state.panel.dataset.duration)]];
  const [start, end] = [nearest(ends, region.start), nearest(ends, region.end)];
  if (end > start && (start !== region.start || end !== region.end)) region.setOptions({ start, end });
}

function told({ form, region, looping }) {
  for (const [name, seconds] of [["from", region?.start], ["to", region?.end]]) {
    const field = form.elements[name];
    if (field !== document.activeElement) field.value = seconds === undefined ? "" : seconds.toFixed(3); // nobody types there
  }
  for (const button of $$('[data-do="keep-region"], [data-do="leave-out"], [data-do="bad"]', form.parentElement)) button.disabled = !region;
  player.repeat(looping && region ? { from: region.start, to: region.end } : null);
}

function choose(start, end) {
  open.region?.remove();
  open.region = null;
  if (end > start) open.regions.addRegion({ id: TYPED, start, end, color: "rgb(154 74 23 / 22%)" });
  else told(open);
}

function typed() {
  const { from, to } = open.form.elements;
  choose(Number(from.value) || 0, Number(to.value) || Number(open.panel.dataset.duration));
}

/** The region that is chosen, in seconds; null = none. */
export const chosen = () => (open?.region ? { start_s: open.region.start, end_s: open.region.end } : null);

/** Set one end of the region to where it plays. */
export function mark(end) {
  if (!open) return;
  const duration = Number(open.panel.dataset.duration);
  const { start, end: last } = open.region ?? { start: 0, end: duration };
  const now = open.form.elements.snap.checked ? nearest([...open.beats, [duration]], player.audio.currentTime) : player.audio.currentTime;
  if (end === "from") choose(now, last > now ? last : duration);
  else choose(start < now ? start : 0, now);
}

export function toggleLoop() {
  if (!open) return;
  open.looping = !open.looping;
  $('[data-do="loop"]', open.panel).setAttribute("aria-pressed", String(open.looping));
  if (open.looping && !open.region) choose(0, Number(open.panel.dataset.duration));
  told(open);
}

/** To the next or the last beat, or bar, from where it plays. */
export function toBeat(step, { bars = false } = {}) {
  if (!open) return;
  const times = open.beats.filter(([, first]) => first || !bars).map(([time]) => time);
  const now = player.audio.currentTime;
  const found = step > 0 ? times.find((time) => time > now + 0.01) : times.findLast((time) => time < now - 0.05);
  if (found !== undefined) player.seek(found);
}

export function zoom(step) {
  if (!open) return;
  const { zoom: slider } = open.form.elements;
  slider.value = Number(slider.value) + step;
  open.wave?.zoom(Number(slider.value));
}

/* stems */
async function press(which, button) {
  const { mixer, panel } = open;
  await mixer.press(which, button.closest(".stem").dataset.part);
  for (const stem of $$(".stem", panel)) {
    const { part } = stem.dataset;
    for (const name of ["solo", "mute"]) $(`[data-do="${name}"]`, stem).setAttribute("aria-pressed", String(mixer[name].has(part)));
    stem.classList.toggle("stem-silent", !mixer.heard(part));
  }
  const heard = $$(".stem:not(.stem-silent)", panel).length;
  $(".stems output", panel).textContent = mixer.active ? `${heard} of ${mixer.stems.length} play` : "The mix plays";
  panel.mixer = mixer;
}

/* bad passages */
const passages = () => $$(".bad-passage", open.panel).map(({ dataset: { start, end, note } }) => ({ start_s: Number(start), end_s: Number(end), note }));

/** The passages of a clip with the region that is chosen; those that it touches become one with it. */
function withRegion() {
  const { start, end } = open.region;
  const touched = passages().filter((one) => one.start_s <= end && one.end_s >= start);
  const note = [...touched.map((one) => one.note), open.form.elements.note.value.trim()].filter(Boolean).join("; ");
  const joined = { start_s: Math.min(start, ...touched.map((one) => one.start_s)), end_s: Math.max(end, ...touched.map((one) => one.end_s)), note: note.slice(0, 200) };
  return [...passages().filter((one) => !touched.some((other) => other.start_s === one.start_s)), joined].sort((one, other) => one.start_s - other.start_s);
}

let saved = () => {}; // what the page does with the clip's new card
export function onSaved(act) { saved = act; }

async function keep(bad) {
  const who = await reviewer();
  if (!who) return;
  const { clip } = open;
  const body = { reviewer: who, expected_revision: Number(clip.dataset.revision), bad_passages: bad };
  await saved(clip.id, await post(`/api/clips/${clip.id}`, body));
}

/* cutting anew */
const MIN_PART_S = 1;
const spoken = ({ start_s: from, end_s: to }) => `${from.toFixed(2)} to ${to.toFixed(2)} s`;

/** The parts of a clip that its region, or where it plays, makes. */
function partsOf(what) {
  const duration = Number(open.panel.dataset.duration);
  const { start, end } = open.region ?? {};
  if (what === "keep-region") return [{ start_s: start, end_s: end }];
  if (what === "leave-out") return [{ start_s: 0, end_s: start }, { start_s: end, end_s: duration }].filter((part) => part.end_s - part.start_s >= MIN_PART_S);
  const snapped = open.form.elements.snap.checked ? nearest(open.beats, player.audio.currentTime) : player.audio.currentTime;
  return [{ start_s: 0, end_s: snapped }, { start_s: snapped, end_s: duration }];
}

async function cut(what) {
  const parts = partsOf(what);
  if (!parts.length || parts.some((part) => part.end_s - part.start_s < MIN_PART_S)) throw new Error(`A part has at least ${MIN_PART_S} s: choose another place.`);
  const text = `New: ${parts.map(spoken).join(", ")}. They are measured anew and their prompts written anew; this clip is rejected, which can be undone.`;
  if (!(await confirmed(`Cut ${parts.length === 1 ? "one clip" : `${parts.length} clips`} from this one?`, text, "Cut"))) return null;
  const who = await reviewer();
  if (!who) return null;
  const { clip } = open;
  const body = { reviewer: who, expected_revision: Number(clip.dataset.revision), parts };
  return post(`/api/clips/${clip.id}/cut`, body);
}

/** What the page does with the answer comes from outside: it knows the list. */
export function onCut(act) {
  for (const what of ["split", "keep-region", "leave-out"]) onDetails[what] = async () => { const done = await cut(what); if (done) act(done); };
}

export const onDetails = {
  "beat-back": () => toBeat(-1),
  "beat-on": () => toBeat(1),
  loop: toggleLoop,
  "no-region": () => choose(0, 0),
  bad: () => keep(withRegion()),
  "not-bad": (button) => keep(passages().filter((one) => one.start_s !== Number(button.parentElement.dataset.start))),
  solo: (button) => press("solo", button),
  mute: (button) => press("mute", button),
};
