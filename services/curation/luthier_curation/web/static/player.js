// The one player of the page: an audio element that every waveform of the clip follows.

import { $, $$, toast } from "./ui.js";
import { peaksOf, waveform } from "./waves.js";

export const audio = $("#audio");
const MATCHED_LUFS = -23; // EBU R 128
const SILENCE = { duration_s: 1, channels: [[0], [0]] }; // of a clip whose waveform does not come
const bar = $(".player");
const matched = $("#matched");
let current = ""; // id of the clip in the player
let loop = null; // {from, to} in seconds

const card = () => (current ? document.getElementById(current) : null);
const length = () => (Number.isFinite(audio.duration) ? audio.duration : Number(card()?.dataset.duration || 0));

function clock(seconds) {
  const whole = Math.floor(seconds || 0);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

/** Bring a clip into the player; it does not play yet. */
export function load(clip) {
  if (current === clip.id && audio.dataset.tag === clip.dataset.audio) return;
  $(".wave", card() || bar).wave?.setTime(0);
  current = clip.id;
  loop = null;
  audio.dataset.tag = clip.dataset.audio;
  audio.src = `/clips/${clip.id}/audio?v=${clip.dataset.audio}`;
  $("#playing").textContent = clip.dataset.title;
  bar.hidden = false;
  level();
  document.dispatchEvent(new CustomEvent("luthier:clip", { detail: clip.id }));
  const draw = (peaks) => current === clip.id && waveform($("#player-wave"), peaks, { media: audio, interact: true, dragToSeek: true, height: 46 });
  peaksOf(clip).then(draw).catch(() => draw(SILENCE));
}

/** How loud it plays: clips above -23 LUFS as if they had it. */
function level() {
  const loudness = parseFloat(card()?.dataset.loudness);
  const gain = matched.checked && Number.isFinite(loudness) ? 10 ** ((MATCHED_LUFS - loudness) / 20) : 1;
  audio.volume = Math.min(1, gain);
}

export function play(clip, at) {
  load(clip);
  if (at !== undefined) seek(at * length());
  audio.play().catch((error) => {
    if (error.name !== "AbortError") toast(`This clip cannot be played: ${error.message}`, { fault: true });
  });
}

export function toggle(clip) {
  if (clip && clip.id === current && !audio.paused) audio.pause();
  else if (clip) play(clip);
}

export const isPlaying = () => !audio.paused;
export const playingId = () => current;
export const seek = (seconds) => { audio.currentTime = Math.min(length(), Math.max(0, seconds)); };
export const skip = (seconds) => { if (current) seek(audio.currentTime + seconds); };
export const toggleCurrent = () => (audio.paused ? audio.play() : audio.pause());
/** Repeat from one moment to another, in seconds; null = do not. */
export const repeat = (region) => { loop = region; };

function follow() {
  if (loop && !audio.paused && (audio.currentTime >= loop.to || audio.currentTime < loop.from - 0.05)) seek(loop.from);
  if (card()) $(".wave", card()).wave?.setTime(audio.currentTime);
  $("#clock").textContent = `${clock(audio.currentTime)} / ${clock(length())}`;
}

/** Buttons show what is playing; cards are replaced, so all of them are asked. */
export function mark() {
  $$(".clip").forEach((clip) => clip.classList.toggle("playing", clip.id === current && !audio.paused));
  bar.classList.toggle("playing", !audio.paused);
}

let frame = 0;
function animate() {
  follow();
  if (!audio.paused) frame = requestAnimationFrame(animate);
}
audio.addEventListener("play", () => { mark(); cancelAnimationFrame(frame); animate(); });
audio.addEventListener("pause", mark);
audio.addEventListener("ended", () => { mark(); if (loop) { seek(loop.from); audio.play(); } });
for (const event of ["seeked", "loadedmetadata"]) audio.addEventListener(event, follow);
audio.addEventListener("error", () => audio.src && toast("The audio of this clip cannot be loaded.", { fault: true }));

matched.checked = localStorage.getItem("luthier-matched") !== "no";
matched.addEventListener("change", () => { localStorage.setItem("luthier-matched", matched.checked ? "yes" : "no"); level(); });
