// Waveforms: peaks come from the server when a clip scrolls into view; the audio itself only when it is played.

import { getJson } from "./server.js";

const known = new Map(); // audio tag -> promise of {duration_s, columns, peaks}
const drawn = new WeakMap(); // canvas -> {peaks, played}

export function peaksOf(clip) {
  const { clip: id, audio } = clip.dataset;
  if (!known.has(audio)) {
    const loaded = getJson(`/clips/${id}/peaks?v=${audio}`);
    loaded.catch(() => known.delete(audio));
    known.set(audio, loaded);
  }
  return known.get(audio);
}

const seen = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    seen.unobserve(target);
    const clip = target.closest(".clip");
    peaksOf(clip).then((peaks) => show(target, peaks)).catch((error) => {
      target.classList.add("wave-failed");
      target.title = error.message;
    });
  }
}, { rootMargin: "300px" });

export const watch = (clip) => seen.observe(clip.querySelector(".wave"));

export function show(canvas, peaks, played = 0) {
  drawn.set(canvas, { peaks, played });
  canvas.dataset.drawn = peaks.columns;
  draw(canvas);
}

/** Colour what was played, 0 to 1. */
export function setPlayed(canvas, played) {
  const state = drawn.get(canvas);
  if (!state) return;
  state.played = played;
  draw(canvas);
}

function draw(canvas) {
  const { peaks: { peaks, columns }, played } = drawn.get(canvas);
  const scale = window.devicePixelRatio || 1;
  const [width, height] = [Math.round(canvas.clientWidth * scale), Math.round(canvas.clientHeight * scale)];
  if (!width) return;
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const colours = getComputedStyle(document.documentElement);
  const pen = canvas.getContext("2d");
  pen.clearRect(0, 0, width, height);
  const bar = 2 * scale, step = 3 * scale, bars = Math.floor(width / step);
  for (let index = 0; index < bars; index += 1) {
    const [first, last] = [Math.floor((index * columns) / bars), Math.max(1, Math.ceil(((index + 1) * columns) / bars))];
    let low = 0, high = 0;
    for (let column = first; column < last; column += 1) {
      low = Math.min(low, peaks[2 * column]);
      high = Math.max(high, peaks[2 * column + 1]);
    }
    pen.fillStyle = colours.getPropertyValue(index < played * bars ? "--wood" : "--wave");
    const top = (height / 2) * (1 - high / 128), size = Math.max(scale, (height / 2) * ((high - low) / 128));
    pen.fillRect(index * step, top, bar, size);
  }
}

const redraw = () => document.querySelectorAll("canvas.wave").forEach((canvas) => drawn.has(canvas) && draw(canvas));
window.addEventListener("resize", redraw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
