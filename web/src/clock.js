/** Playback time in seconds. Follows the sound's clock, or the page's clock if there is no sound. */
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
    // Media keys and unplugged headphones change only the sound: follow it. The events arrive late,
    // so check the current state of the sound.
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
    // Set the default rate too: a media element resets to it when it loads.
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

  /** Advances to the current time; called once per animation frame. */
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
    // Past its end the sound would restart from 0, so do not play it.
    if (!this.sound || this.time >= this.sound.duration) return;
    this.sound.play().catch((error) => {
      // Pause only if the browser blocks playback; sound that cannot be decoded is skipped.
      if (error.name === 'NotAllowedError') this.pause();
    });
  }
}
