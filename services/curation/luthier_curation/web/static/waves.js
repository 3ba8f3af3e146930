// Waveforms, drawn by wavesurfer.js from peaks in audiowaveform's format; the audio itself only comes when it is played.

import { getBytes } from "./server.js";
import WaveSurfer from "./vendor/wavesurfer.js";

const known = new Map(); // address -> promise of {duration_s, channels}
const HEADER = 24; // bytes of audiowaveform's: version, flags, sample rate, samples per pixel, length, channels

/** Highest and lowest samples of a clip's columns, 0 to 1, and its length. */
export function peaksOf(clip, zoomed = false) {
  const { clip: id, audio } = clip.dataset;
  const path = `/clips/${id}/peaks.dat?v=${audio}${zoomed ? "&zoomed=true" : ""}`;
  if (!known.has(path)) {
    const loaded = getBytes(path).then((bytes) => parsed(bytes, Number(clip.dataset.duration)));
    loaded.catch(() => known.delete(path));
    known.set(path, loaded);
  }
  return known.get(path);
}

function parsed(bytes, duration) {
  const length = new DataView(bytes).getUint32(16, true);
  const pairs = new Int8Array(bytes, HEADER, 2 * length);
  const [highs, lows] = [new Float32Array(length), new Float32Array(length)];
  for (let column = 0; column < length; column += 1) {
    lows[column] = Math.abs(pairs[2 * column]) / 128;
    highs[column] = Math.abs(pairs[2 * column + 1]) / 127;
  }
  return { duration_s: duration, channels: [highs, lows] };
}

function colours() {
  const style = getComputedStyle(document.documentElement);
  const [waveColor, progressColor] = [style.getPropertyValue("--wave"), style.getPropertyValue("--wood")];
  return { waveColor, progressColor, cursorColor: progressColor };
}

/** Draw a waveform in a place of the page. */
export function waveform(place, peaks, options = {}) {
  place.wave?.destroy();
  const box = document.createElement("div");
  const wave = WaveSurfer.create({
    container: box, peaks: peaks.channels, duration: peaks.duration_s, barWidth: 2, barGap: 1, barMinHeight: 1,
    height: 58, cursorWidth: 0, hideScrollbar: true, interact: false, ...colours(), ...options,
  });
  // its style sheet is an inline element, which the page's policy forbids: before it is in the page, it becomes one of script
  const root = wave.getWrapper().getRootNode();
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(root.querySelector("style").textContent);
  root.querySelector("style").remove();
  root.adoptedStyleSheets = [sheet];
  wave.on("redrawcomplete", () => { place.dataset.drawn = "true"; });
  place.replaceChildren(box);
  place.wave = wave;
  return wave;
}

const seen = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    seen.unobserve(target);
    peaksOf(target.closest(".clip")).then((peaks) => waveform(target, peaks)).catch((error) => {
      target.classList.add("wave-failed");
      target.title = error.message;
    });
  }
}, { rootMargin: "300px" });

/** Draw a card's waveform when it comes into view. */
export const watch = (clip) => seen.observe(clip.querySelector(".wave"));

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  document.querySelectorAll(".wave, .closeup").forEach((place) => place.wave?.setOptions(colours()));
});
