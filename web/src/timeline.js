import { bytesOfBase64, intervalAt } from './data.js';
import { doubtAt, isDoubtful } from './doubts.js';

const PADDING = 8;
const MIN_SPAN = 0.1; // seconds
const MIN_WAVE = 8, MIN_HATCH = 6; // pixels
const FIRST_SCALE = 100; // initial pixels per second: long sounds start zoomed in, so that labels fit
const HEIGHTS = { ruler: 22, waveform: 34, words: 24, phones: 24, keys: 24, aperture: 58, shapes: 58 };
const NAMES = {
  ruler: '', waveform: 'Sound', words: 'Words', phones: 'Phones', keys: 'Keys', aperture: 'Lips', shapes: 'Shapes',
};
const COLOURS = [
  ...['text', 'muted', 'line', 'block', 'accent', 'accent-soft', 'doubt', 'doubt-soft'],
  ...[0, 1, 2, 3, 4, 5].map((n) => `curve-${n}`),
];

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

/** The smallest of the steps × 10ⁿ that is not below a value. */
function roundUp(value, steps) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [...steps, 10].find((step) => step * power >= value * 0.999) * power;
}

/** Adds a wavy line to a path: the mark of a doubtful word, which does not depend on its colour. */
function wave(path, middle, width, y) {
  const left = middle - width / 2;
  path.moveTo(left, y);
  for (let x = 1; x <= width; x++) path.lineTo(left + x, y + 1.5 * Math.sin(x * 0.9));
}

/** A canvas timeline of sound, words, phones, key frames, lip aperture and shapes, with scrubbing and zoom. */
export class Timeline {
  onseek = () => {};
  #changed = true;
  #shown = 0;
  #current = [];
  #widths = new Map();
  #pointers = new Map();

  constructor(rows, facts, curves, duration) {
    const [canvas, playhead, tip] = rows.children;
    Object.assign(this, { canvas, playhead, tip, facts, curves, duration, start: 0, end: duration });
    // Software canvas: many short strokes that are seldom redrawn are faster without the GPU.
    this.context = canvas.getContext('2d', { willReadFrequently: true });
    this.waveform = new Int8Array(bytesOfBase64(facts.waveform ?? '').buffer);
    this.apertureMax = roundUp(Math.max(1, ...(facts.aperture ?? [])), [1, 1.5, 2, 3, 4, 5, 6, 8]);
    this.#readColours();
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.#readColours());
    this.layOut();
    new ResizeObserver(() => this.#resize()).observe(canvas);
    this.#view(0, this.#plot / FIRST_SCALE);
    this.#listen();
  }

  setDuration(duration) {
    this.duration = duration;
    this.#view(this.start, this.end - this.start);
  }

  /** Chooses the rows that have something to show. */
  layOut() {
    const { facts, curves } = this;
    const filled = (row) => {
      if (row === 'phones') return facts.phones.length || facts.unaligned.length;
      return row === 'ruler' ? true : row === 'shapes' ? curves.size : facts[row]?.length;
    };
    this.rows = Object.keys(HEIGHTS).filter(filled);
    this.canvas.style.height = `${this.rows.reduce((sum, row) => sum + HEIGHTS[row], PADDING)}px`;
    this.#resize();
  }

  /** Multiplies the visible span by a factor, keeping the given time at its place. */
  zoom(factor, about = this.#shown) {
    const span = clamp((this.end - this.start) * factor, MIN_SPAN, this.duration);
    this.#view(about - clamp((about - this.start) / (this.end - this.start), 0, 1) * span, span);
  }

  draw(time) {
    if (time !== this.#shown) {
      // When the playhead leaves the view, scroll by a page.
      const span = this.end - this.start;
      if (!this.#pointers.size && (time < this.start || time > this.end)) this.#view(time - span * 0.05, span);
      this.#shown = time;
      this.#placePlayhead();
      // The rows change only when the current word or phone changes.
      const current = [intervalAt(this.facts.words, time), intervalAt(this.facts.phones, time)];
      if (current.some((interval, n) => interval !== this.#current[n])) this.#changed = true;
      this.#current = current;
    }
    if (this.#changed) this.#paint();
  }

  #view(start, span) {
    span = Math.min(span, this.duration);
    this.start = clamp(start, 0, this.duration - span);
    this.end = this.start + span;
    this.#changed = true;
  }

  #readColours() {
    const style = getComputedStyle(this.canvas);
    this.colours = Object.fromEntries(COLOURS.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
    this.context.font = this.font = `11px ${style.fontFamily}`;
    this.#changed = true;
  }

  #resize() {
    const { canvas, context } = this;
    this.width = canvas.clientWidth;
    this.height = canvas.clientHeight;
    this.gutter = this.width < 600 ? 56 : 64;
    canvas.width = Math.round(this.width * devicePixelRatio);
    canvas.height = Math.round(this.height * devicePixelRatio);
    // Resizing clears the canvas and resets its context.
    context.scale(devicePixelRatio, devicePixelRatio);
    context.font = this.font;
    context.textBaseline = 'middle';
    this.#paint();
  }

  get #plot() {
    return Math.max(1, this.width - this.gutter - PADDING);
  }

  #x(time) {
    return this.gutter + ((time - this.start) / (this.end - this.start)) * this.#plot;
  }

  #time(x) {
    return this.start + ((x - this.gutter) / this.#plot) * (this.end - this.start);
  }

  #paint() {
    this.#changed = false;
    this.#placePlayhead();
    const { context, colours, facts } = this;
    context.clearRect(0, 0, this.width, this.height);
    let top = 0;
    for (const row of this.rows) {
      const isCurve = row === 'aperture' || row === 'shapes';
      this.#text(NAMES[row], PADDING, top + (row === 'aperture' ? 10 : HEIGHTS[row] / 2 + 0.5), colours.muted);
      if (isCurve) this.#axis(row, top);
      context.save();
      context.beginPath();
      context.rect(this.gutter - 0.5, top, this.#plot + 1, HEIGHTS[row]);
      context.clip();
      if (row === 'ruler') this.#ruler(top);
      else if (row === 'keys') this.#keys(top);
      else if (row === 'waveform') this.#waveform(top);
      else if (row === 'aperture') this.#aperture(top);
      else if (row === 'shapes') this.#shapes(top);
      else {
        if (row === 'phones') this.#unaligned(top);
        this.#intervals(facts[row], top);
      }
      context.restore();
      top += HEIGHTS[row];
    }
  }

  #text(text, x, y, colour, align = 'left') {
    const { context } = this;
    context.fillStyle = colour;
    context.textAlign = align;
    context.fillText(text, x, y);
  }

  #fits(text, room) {
    if (!this.#widths.has(text)) this.#widths.set(text, this.context.measureText(text).width);
    return this.#widths.get(text) <= room;
  }

  #ruler(top) {
    const { context, colours } = this;
    const step = roundUp((64 * (this.end - this.start)) / this.#plot, [1, 2, 5]);
    const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
    for (let n = Math.ceil(this.start / step - 1e-6); n * step <= this.end; n++) {
      const x = Math.round(this.#x(n * step));
      const label = `${(n * step).toFixed(digits)} s`;
      context.fillStyle = colours.line;
      context.fillRect(x, top + 15, 1, 5);
      if (this.#fits(label, this.width - PADDING - x - 4)) this.#text(label, x + 4, top + 11, colours.muted);
    }
  }

  #intervals(intervals, top) {
    const { context, colours } = this;
    const waves = new Path2D();
    for (const interval of intervals) {
      const [text, start, end] = interval;
      if (!text || end < this.start || start > this.end) continue;
      const left = this.#x(start), right = this.#x(end);
      const now = this.#current.includes(interval), doubtful = isDoubtful(interval);
      context.fillStyle = colours[now ? 'accent-soft' : doubtful ? 'doubt-soft' : 'block'];
      context.fillRect(left + 0.5, top + 2, Math.max(right - left - 1, 0.5), 20);
      if (doubtful) wave(waves, (left + right) / 2, Math.max(right - left - 3, MIN_WAVE), top + 19);
      // Center the label in the visible part of the block.
      const from = Math.max(left, this.gutter), to = Math.min(right, this.width - PADDING);
      if (!this.#fits(text, to - from - 5)) continue;
      this.#text(text, (from + to) / 2, top + 12.5, now ? colours.accent : colours.text, 'center');
    }
    // Last, since that of a short word reaches below its neighbours.
    context.strokeStyle = colours.doubt;
    context.lineWidth = 1.5;
    context.stroke(waves);
  }

  /** Hatches the spans without phones. */
  #unaligned(top) {
    const { context, colours, facts } = this;
    context.strokeStyle = colours.doubt;
    context.lineWidth = 1.5;
    for (const [start, end] of facts.unaligned) {
      const left = Math.max(this.#x(start), this.gutter - 2);
      const right = Math.min(Math.max(this.#x(end), this.#x(start) + MIN_HATCH), this.width);
      if (right <= left) continue;
      const block = new Path2D();
      block.rect(left + 0.5, top + 2.5, right - left - 1, 19);
      context.fillStyle = colours['doubt-soft'];
      context.fill(block);
      context.stroke(block);
      context.save();
      context.clip(block);
      context.beginPath();
      // Lines that do not move against the sound when the view scrolls.
      for (let x = left - 20 - ((left - this.#x(start)) % 6); x < right; x += 6) {
        context.moveTo(x, top + 22);
        context.lineTo(x + 20, top + 2);
      }
      context.stroke();
      context.restore();
    }
  }

  #keys(top) {
    const { context, colours, facts } = this;
    const places = facts.keys.map(([frame]) => Math.round(this.#x((frame + 0.5) / facts.fps)));
    places.push(this.width - PADDING);
    facts.keys.forEach(([, label, pinned], n) => {
      const x = places[n];
      if (x < this.gutter || x > this.width - PADDING) return;
      context.fillStyle = colours.accent;
      // Pinned keys are drawn wider.
      context.fillRect(x, top + 5, pinned ? 3 : 1, 14);
      const room = Math.min(places[n + 1], this.width - PADDING) - x - 8;
      if (label && this.#fits(label, room)) this.#text(label, x + 4, top + 12.5, colours.muted);
    });
  }

  #waveform(top) {
    const { context, colours, facts, waveform } = this;
    const rate = facts.waveform_rate, count = waveform.length / 2;
    const middle = top + HEIGHTS.waveform / 2, scale = (HEIGHTS.waveform / 2 - 2) / 127;
    const group = Math.max(1, Math.floor(((this.end - this.start) * rate) / this.#plot));
    const first = Math.max(0, Math.floor((this.start * rate) / group) - 1) * group;
    const low = [], high = [];
    let x;
    for (let n = first; n < count && !(x > this.width); n += group) {
      let least = 127, greatest = -127;
      for (let i = n; i < Math.min(n + group, count); i++) {
        least = Math.min(least, waveform[2 * i]);
        greatest = Math.max(greatest, waveform[2 * i + 1]);
      }
      x = this.#x((n + group / 2) / rate);
      low.push([x, middle - least * scale + 0.5]);
      high.push([x, middle - greatest * scale - 0.5]);
    }
    context.beginPath();
    for (const point of [...high, ...low.reverse()]) context.lineTo(...point);
    context.fillStyle = colours.muted;
    context.fill();
  }

  #axis(row, top) {
    const [unit, max] = row === 'aperture' ? ['mm', this.apertureMax] : ['', this.#shapeMax];
    this.#text(unit, PADDING, top + 24, this.colours.muted);
    this.#text(String(max), this.gutter - 6, top + 10, this.colours.muted, 'right');
    this.#text('0', this.gutter - 6, top + HEIGHTS[row] - 7, this.colours.muted, 'right');
  }

  /** The curve of one value per frame from 0 to `max`, in the row at `top`; and the area below it. */
  #curve(values, max, top) {
    const { context, colours, facts } = this;
    const low = top + HEIGHTS.aperture - 4, high = top + 6;
    context.fillStyle = colours.line;
    context.fillRect(this.gutter, high, this.#plot, 1);
    context.fillRect(this.gutter, low, this.#plot, 1);
    // Where several frames fall on one pixel, draw their largest value.
    const group = Math.max(1, Math.floor(((this.end - this.start) * facts.fps) / this.#plot));
    const first = Math.max(0, Math.floor((this.start * facts.fps) / group) - 1) * group;
    const curve = new Path2D();
    let x;
    for (let frame = first; frame < values.length && !(x > this.width); frame += group) {
      const value = Math.max(...values.slice(frame, frame + group));
      x = this.#x((frame + group / 2) / facts.fps);
      curve.lineTo(x, low - (value / max) * (low - high));
    }
    const area = new Path2D(curve);
    area.lineTo(x, low);
    area.lineTo(this.#x((first + group / 2) / facts.fps), low);
    return { curve, area };
  }

  #aperture(top) {
    const { context, colours } = this;
    const { curve, area } = this.#curve(this.facts.aperture, this.apertureMax, top);
    context.fillStyle = colours['accent-soft'];
    context.fill(area);
    context.strokeStyle = colours.accent;
    context.lineWidth = 1.25;
    context.stroke(curve);
  }

  get #shapeMax() {
    const largest = [...this.curves.values()].map(({ values }) => values.reduce((a, b) => Math.max(a, b), 0));
    return roundUp(Math.max(0.1, ...largest), [1, 2, 3, 5]);
  }

  #shapes(top) {
    const { context, colours } = this;
    const max = this.#shapeMax;
    context.lineWidth = 1.5;
    for (const { values, colour } of this.curves.values()) {
      context.strokeStyle = colours[`curve-${colour}`];
      context.stroke(this.#curve(values, max, top).curve);
    }
  }

  #placePlayhead() {
    const time = this.#shown;
    this.playhead.hidden = time < this.start || time > this.end;
    this.playhead.style.transform = `translateX(${this.#x(time)}px)`;
  }

  #listen() {
    const { canvas } = this;
    const pointers = this.#pointers;
    const place = (event) => event.clientX - canvas.getBoundingClientRect().left;
    const release = (event) => pointers.delete(event.pointerId);
    canvas.addEventListener('pointerdown', (event) => {
      if (event.button !== 0) return;
      const x = place(event);
      canvas.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, { x, time: this.#time(x) });
      if (pointers.size === 1) this.onseek(this.#time(x));
    });
    canvas.addEventListener('pointermove', (event) => {
      const pointer = pointers.get(event.pointerId);
      if (pointer) pointer.x = place(event);
      if (pointer && pointers.size === 1) this.onseek(this.#time(pointer.x));
      if (pointer && pointers.size === 2) this.#pinch(...pointers.values());
      if (event.pointerType === 'mouse') this.#point(place(event));
    });
    canvas.addEventListener('pointerup', release);
    canvas.addEventListener('pointercancel', release);
    canvas.addEventListener('pointerleave', () => (this.tip.hidden = true));
    canvas.addEventListener('wheel', (event) => {
      event.preventDefault();
      const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
      const { shiftKey, deltaX, deltaY } = event;
      if (shiftKey || Math.abs(deltaX) > Math.abs(deltaY)) {
        const span = this.end - this.start;
        this.#view(this.start + ((deltaX || deltaY) * lines * span) / this.#plot, span);
      } else {
        this.zoom(Math.exp(deltaY * lines * 0.002), this.#time(place(event)));
      }
      this.#point(place(event));
    }, { passive: false });
  }

  /** Two-finger zoom and pan: the time under each finger stays under it. */
  #pinch(a, b) {
    if (Math.abs(b.x - a.x) < 20 || a.time === b.time) return;
    const perPixel = Math.abs((b.time - a.time) / (b.x - a.x));
    const span = clamp(perPixel * this.#plot, MIN_SPAN, this.duration);
    this.#view((a.time + b.time) / 2 - (((a.x + b.x) / 2 - this.gutter) / this.#plot) * span, span);
  }

  /** Shows the tooltip for the position of the pointer. */
  #point(x) {
    const { facts, tip } = this;
    const time = this.#time(x);
    tip.hidden = x < this.gutter || time > this.duration;
    if (tip.hidden) return;
    const frame = Math.min(Math.floor(time * facts.fps), facts.frames - 1);
    const word = intervalAt(facts.words, time)?.[0];
    const aperture = facts.aperture?.[frame];
    const text = doubtAt(facts, time) || (word && `“${word}”`);
    const parts = [text, `${time.toFixed(2)} s`, `frame ${frame}`, aperture?.toFixed(1).concat(' mm')];
    for (const [name, { values }] of this.curves) parts.push(`${name} ${values[frame].toFixed(2)}`);
    tip.querySelector('b').textContent = intervalAt(facts.phones, time)?.[0] ?? '–';
    tip.querySelector('span').textContent = parts.filter(Boolean).join('  ·  ');
    const half = tip.offsetWidth / 2 + 4;
    tip.style.left = `${clamp(x, half, this.width - half)}px`;
  }
}
