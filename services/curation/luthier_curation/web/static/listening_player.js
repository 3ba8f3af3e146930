// Plays the sounds of a page in step with each other: all run at once, one is heard, so switching loses no time.

const FADE_S = 0.008; // of a switch: long enough not to click, too short to hear

export class Player {
  /** `tick` is called for each frame while it plays, `changed` when it begins or ends. */
  constructor(tick, changed) {
    this.tick = tick;
    this.changed = changed;
    this.known = new Map(); // url -> promise of an AudioBuffer
    this.buffers = [];
    this.sources = [];
    this.gains = [];
    this.current = 0;
    this.duration = 0; // of the longest, s
    this.loop = { on: true, start: 0, end: 0 };
    this.offset = 0; // where it stands or stood when it began, s
    this.heard = []; // seconds of each
    this.volume = 0.7;
    this.playing = false;
  }

  /** Made at the first gesture: browsers allow no sound before one. */
  get context() {
    if (!this.made) {
      this.made = new AudioContext();
      this.master = this.made.createGain();
      this.master.gain.value = this.volume;
      this.master.connect(this.made.destination);
    }
    return this.made;
  }

  setVolume(volume) {
    this.volume = volume;
    if (this.made) this.master.gain.setTargetAtTime(volume, this.made.currentTime, 0.02);
  }

  fetch(url) {
    if (!this.known.has(url)) {
      const decoded = this.decode(url);
      decoded.catch(() => this.known.delete(url));
      this.known.set(url, decoded);
    }
    return this.known.get(url);
  }

  async decode(url) {
    const response = await fetch(url);
    if (!response.ok) throw new Error((await response.json().catch(() => ({}))).message || `The sound is not there (${response.status}).`);
    return this.context.decodeAudioData(await response.arrayBuffer());
  }

  /** Take these sounds; what neither they nor `ahead` need is forgotten. */
  async load(urls, ahead, { loop }) {
    this.pause();
    const wanted = new Set([...urls, ...ahead]);
    for (const url of this.known.keys()) if (!wanted.has(url)) this.known.delete(url);
    const buffers = await Promise.all(urls.map((url) => this.fetch(url)));
    this.duration = Math.max(...buffers.map((buffer) => buffer.duration));
    this.buffers = buffers.map((buffer) => this.padded(buffer));
    this.heard = buffers.map(() => 0);
    this.lengths = buffers.map((buffer) => buffer.duration);
    this.loop = { on: loop, start: 0, end: this.duration };
    this.offset = 0;
    this.current = 0;
    ahead.forEach((url) => this.fetch(url).catch(() => {}));
  }

  /** As long as the longest, so that all repeat together. */
  padded(buffer) {
    const frames = Math.round(this.duration * buffer.sampleRate);
    if (buffer.length >= frames) return buffer;
    const longer = new AudioBuffer({ length: frames, numberOfChannels: buffer.numberOfChannels, sampleRate: buffer.sampleRate });
    for (let channel = 0; channel < buffer.numberOfChannels; channel += 1) longer.copyToChannel(buffer.getChannelData(channel), channel);
    return longer;
  }

  async play() {
    if (this.playing || !this.buffers.length) return;
    await this.context.resume();
    const { on, start, end } = this.loop;
    if (this.offset < start || this.offset >= end - 0.01) this.offset = start;
    this.began = this.context.currentTime + 0.02;
    this.gains = this.buffers.map((_, index) => {
      const gain = this.context.createGain();
      gain.gain.value = index === this.current ? 1 : 0;
      gain.connect(this.master);
      return gain;
    });
    this.sources = this.buffers.map((buffer, index) => {
      const source = this.context.createBufferSource();
      Object.assign(source, { buffer, loop: on, loopStart: start, loopEnd: end });
      source.connect(this.gains[index]);
      source.start(this.began, this.offset);
      return source;
    });
    this.playing = true;
    this.counted = this.context.currentTime;
    this.changed();
    this.follow();
  }

  pause() {
    if (!this.playing) return;
    this.count();
    this.offset = this.position;
    this.playing = false;
    this.sources.forEach((source) => source.stop());
    this.gains.forEach((gain) => gain.disconnect());
    cancelAnimationFrame(this.frame);
    this.changed();
  }

  toggle() {
    return this.playing ? this.pause() : this.play();
  }

  /** Hear another one from the same place on. */
  select(index) {
    if (this.playing) {
      this.count();
      const now = this.context.currentTime;
      this.gains.forEach((gain, other) => {
        gain.gain.cancelScheduledValues(now);
        gain.gain.setValueAtTime(gain.gain.value, now);
        gain.gain.linearRampToValueAtTime(other === index ? 1 : 0, now + FADE_S);
      });
    }
    this.current = index;
  }

  /** Repeat this part, in seconds. */
  setLoop(start, end) {
    const again = this.playing;
    this.pause();
    Object.assign(this.loop, { start, end });
    this.offset = Math.min(Math.max(this.offset, start), end);
    if (again) this.play();
  }

  seek(seconds) {
    const again = this.playing;
    this.pause();
    this.offset = Math.min(Math.max(seconds, this.loop.start), this.loop.end);
    if (again) this.play();
  }

  get position() {
    if (!this.playing) return this.offset;
    const passed = this.offset + Math.max(0, this.context.currentTime - this.began);
    const { on, start, end } = this.loop;
    return on && passed > end ? start + ((passed - end) % (end - start)) : Math.min(passed, end);
  }

  /** Time since the last look is time in which the current one was heard. */
  count() {
    const now = this.context.currentTime;
    this.heard[this.current] += Math.max(0, now - Math.max(this.counted, this.began));
    this.counted = now;
  }

  follow() {
    this.count();
    this.tick();
    if (!this.loop.on && this.context.currentTime - this.began + this.offset >= this.duration) {
      this.pause();
      this.offset = 0;
      this.tick();
      return;
    }
    this.frame = requestAnimationFrame(() => this.follow());
  }
}
