// Waveforms: peaks of the decoded audio, and how they are drawn.

const COLUMNS = 600;
const drawn = new Map(); // canvas -> {peaks, played}

/** Lowest and highest sample of each column, of all channels: their sum would hide what is in opposite phase. */
export async function peaksOf(audio) {
  const sound = await new OfflineAudioContext(1, 1, 44100).decodeAudioData(await audio.arrayBuffer());
  const channels = Array.from({ length: sound.numberOfChannels }, (_, index) => sound.getChannelData(index));
  const peaks = new Float32Array(2 * COLUMNS);
  for (let column = 0; column < COLUMNS; column += 1) {
    const [first, last] = [column, column + 1].map((edge) => Math.floor((edge * sound.length) / COLUMNS));
    for (const samples of channels) {
      for (let at = first; at < last; at += 1) {
        if (samples[at] < peaks[2 * column]) peaks[2 * column] = samples[at];
        if (samples[at] > peaks[2 * column + 1]) peaks[2 * column + 1] = samples[at];
      }
    }
  }
  return peaks;
}

/** Draws peaks; `played`, 0 to 1, is coloured. */
export function draw(canvas, peaks = drawn.get(canvas)?.peaks, played = 0) {
  if (!peaks) return;
  drawn.set(canvas, { peaks, played });
  const scale = window.devicePixelRatio || 1;
  const [width, height] = [Math.round(canvas.clientWidth * scale), Math.round(canvas.clientHeight * scale)];
  if (!width) return;
  Object.assign(canvas, { width, height });
  canvas.dataset.drawn = "";
  const colours = getComputedStyle(document.documentElement);
  const pen = canvas.getContext("2d");
  const columns = peaks.length / 2, step = 3 * scale, bars = Math.floor(width / step);
  for (let bar = 0; bar < bars; bar += 1) {
    let low = 0, high = 0;
    for (let column = Math.floor((bar * columns) / bars); column < Math.ceil(((bar + 1) * columns) / bars); column += 1) {
      low = Math.min(low, peaks[2 * column]);
      high = Math.max(high, peaks[2 * column + 1]);
    }
    pen.fillStyle = colours.getPropertyValue(bar < played * bars ? "--wood" : "--wave");
    pen.fillRect(bar * step, (height / 2) * (1 - high), 2 * scale, Math.max(scale, (height / 2) * (high - low)));
  }
}

export const forget = (canvas) => drawn.delete(canvas);

const redraw = () => drawn.forEach(({ peaks, played }, canvas) => draw(canvas, peaks, played));
window.addEventListener("resize", redraw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
