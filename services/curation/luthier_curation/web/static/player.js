// The one player of the page: fifty would exhaust the browser.

import { $, $$, toast } from "./ui.js";
import { peaksOf, setPlayed, show } from "./waves.js";

const audio = $("#audio");
const bar = $(".player");
const bigWave = $("#player-wave");
let current = ""; // id of the clip in the player

const card = () => (current ? document.getElementById(current) : null);

function clock(seconds) {
  const whole = Math.floor(seconds || 0);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

function load(clip) {
  if (current === clip.id && audio.dataset.tag === clip.dataset.audio) return;
  if (card()) setPlayed(card().querySelector(".wave"), 0);
  current = clip.id;
  audio.dataset.tag = clip.dataset.audio;
  audio.src = `/clips/${clip.id}/audio?v=${clip.dataset.audio}`;
  $("#playing").textContent = clip.dataset.title;
  bar.hidden = false;
  peaksOf(clip).then((peaks) => current === clip.id && show(bigWave, peaks)).catch(() => {});
}

export function play(clip, at) {
  load(clip);
  if (at !== undefined) seekTo(at);
  audio.play().catch((error) => {
    if (error.name !== "AbortError") toast(`This clip cannot be played: ${error.message}`, { fault: true });
  });
}

/** Go to a place, 0 to 1; before the length is known the card's own length counts. */
function seekTo(place) {
  const length = Number.isFinite(audio.duration) ? audio.duration : Number(card()?.dataset.duration || 0);
  audio.currentTime = place * length;
}

export function toggle(clip) {
  if (clip && clip.id === current && !audio.paused) audio.pause();
  else if (clip) play(clip);
}

export const isPlaying = () => !audio.paused;
export const playingId = () => current;
export const skip = (seconds) => { if (current) audio.currentTime = Math.max(0, audio.currentTime + seconds); };
export const toggleCurrent = () => (audio.paused ? audio.play() : audio.pause());
export const seekBig = seekTo;

function follow() {
  const length = Number.isFinite(audio.duration) ? audio.duration : Number(card()?.dataset.duration || 0);
  const played = length ? audio.currentTime / length : 0;
  setPlayed(bigWave, played);
  if (card()) setPlayed(card().querySelector(".wave"), played);
  $("#clock").textContent = `${clock(audio.currentTime)} / ${clock(length)}`;
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
for (const event of ["pause", "ended"]) audio.addEventListener(event, mark);
for (const event of ["seeked", "loadedmetadata"]) audio.addEventListener(event, follow);
audio.addEventListener("error", () => audio.src && toast("The audio of this clip cannot be loaded.", { fault: true }));
