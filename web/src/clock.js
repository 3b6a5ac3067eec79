/** Play time in seconds. The sound's own clock leads; where there is none, the page's clock. */
export class Clock {
  time = 0;
  playing = false;
  loop = false;
  onchange = () => {};
  #rate = 1;
  #last = 0;

  constructor(pictureLength, sound) {
    this.pictureLength = pictureLength;
    this.sound = sound;
    if (!sound) return;
    // Media keys and unplugged headphones act on the sound alone: follow it. The events come late,
    // so the sound is asked how it is by then.
    sound.addEventListener('pause', () => this.sound && this.playing && sound.paused && !sound.ended && this.pause());
    sound.addEventListener('play', () => !this.playing && !sound.paused && this.play());
    sound.addEventListener('error', () => {
      this.sound = null;
      this.onchange();
    });
  }

  get duration() {
    const length = this.sound?.duration;
    return Number.isFinite(length) ? Math.max(length, this.pictureLength) : this.pictureLength;
  }

  get rate() {
    return this.#rate;
  }

  set rate(rate) {
    this.#rate = rate;
    // The default rate too: a media element returns to it whenever it loads.
    if (this.sound) this.sound.playbackRate = this.sound.defaultPlaybackRate = rate;
    this.onchange();
  }

  play() {
    if (this.time >= this.duration - 1e-3) this.seek(0);
    this.playing = true;
    this.#last = performance.now();
    this.#startSound();
    this.onchange();
  }

  pause() {
    this.playing = false;
    this.sound?.pause();
    this.onchange();
  }

  seek(time) {
    this.time = Math.min(Math.max(time, 0), this.duration);
    if (!this.sound) return;
    this.sound.currentTime = this.time;
    if (this.playing && this.sound.paused) this.#startSound();
  }

  /** Moves on to the present; called once for each picture of the screen. */
  tick() {
    const now = performance.now();
    const elapsed = (now - this.#last) / 1000;
    this.#last = now;
    if (!this.playing) return;
    if (this.sound && !this.sound.ended) this.time = this.sound.currentTime;
    else this.time += elapsed * this.rate;
    if (this.time < this.duration) return;
    if (this.loop) {
      this.seek(0);
    } else {
      this.time = this.duration;
      this.pause();
    }
  }

  #startSound() {
    // Past its end the sound would start again from 0, so leave it be there.
    if (!this.sound || this.time >= this.sound.duration) return;
    this.sound.play().catch((error) => {
      // Only a refusal stops the picture; a sound that cannot be decoded is left out of it.
      if (error.name === 'NotAllowedError') this.pause();
    });
  }
}
