// Stems of one clip, played together sample by sample in place of the mix while one is muted or solo.

import { getBytes } from "./server.js";

/** `stems` are {part, url}; `audio` is the page's player, whose clock and volume they follow. */
export class Mixer {
  constructor(audio, stems) {
    Object.assign(this, { audio, stems, solo: new Set(), mute: new Set(), buffers: new Map(), playing: [] });
    this.listening = new AbortController();
    const { signal } = this.listening;
    for (const event of ["play", "seeked"]) audio.addEventListener(event, () => this.start(), { signal });
    for (const event of ["pause", "seeking", "ended"]) audio.addEventListener(event, () => this.stop(), { signal });
    audio.addEventListener("volumechange", () => this.level(), { signal });
  }

  /** Whether stems play in place of the mix. */
  get active() { return this.solo.size + this.mute.size > 0; }

  heard(part) { return this.solo.size ? this.solo.has(part) : !this.mute.has(part); }

  /** Press solo or mute of a stem. */
  async press(which, part) {
    if (!this[which].delete(part)) this[which].add(part);
    if (this.active) await this.load();
    this.audio.muted = this.active;
    if (!this.active) this.stop();
    else if (!this.playing.length) this.start();
    this.level();
  }

  async load() {
    this.context ??= new AudioContext();
    this.meter ??= new AnalyserNode(this.context, { fftSize: 4096 });
    this.meter.connect(this.context.destination);
    await Promise.all(this.stems.map(async ({ part, url }) => {
      if (!this.buffers.has(part)) this.buffers.set(part, await this.context.decodeAudioData(await getBytes(url)));
    }));
  }

  start() {
    this.stop();
    if (!this.active || this.audio.paused || this.buffers.size < this.stems.length) return;
    this.context.resume();
    const at = this.context.currentTime;
    this.playing = this.stems.map(({ part }) => {
      const source = new AudioBufferSourceNode(this.context, { buffer: this.buffers.get(part) });
      const gain = new GainNode(this.context);
      source.connect(gain).connect(this.meter);
      source.start(at, this.audio.currentTime);
      return { part, source, gain };
    });
    this.level();
  }

  stop() {
    for (const { source } of this.playing) source.stop();
    this.playing = [];
  }

  level() {
    for (const { part, gain } of this.playing) gain.gain.value = this.heard(part) ? this.audio.volume : 0;
  }

  /** Root mean square of what plays now, 0 to 1. */
  loudness() {
    if (!this.playing.length) return 0;
    const samples = new Float32Array(this.meter.fftSize);
    this.meter.getFloatTimeDomainData(samples);
    return Math.hypot(...samples) / Math.sqrt(samples.length);
  }

  close() {
    this.stop();
    this.listening.abort();
    this.audio.muted = false;
    this.context?.close();
  }
}
