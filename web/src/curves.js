const COLOURS = 6; // --curve-0 to --curve-5 in style.css

/** The shapes whose weights the timeline shows over time, with a legend whose buttons remove them. */
export class Curves {
  onchange = () => {};
  shown = new Map(); // name → { values, colour }

  constructor(legend, face, facts) {
    Object.assign(this, { legend, face, facts });
  }

  toggle(name) {
    if (!this.shown.delete(name)) {
      const taken = [...this.shown.values()].map(({ colour }) => colour);
      const free = [...Array(COLOURS).keys()].find((colour) => !taken.includes(colour));
      const values = this.face.curve(name, this.facts.frames, this.facts.fps);
      this.shown.set(name, { values, colour: free ?? this.shown.size % COLOURS });
    }
    this.legend.hidden = this.shown.size === 0;
    this.legend.replaceChildren(...[...this.shown].map(([shape, { colour }]) => this.#entry(shape, colour)));
    this.onchange();
  }

  #entry(name, colour) {
    const item = document.getElementById('legend-entry').content.cloneNode(true).firstElementChild;
    const button = item.querySelector('button');
    button.style.setProperty('--curve', `var(--curve-${colour})`);
    button.querySelector('span').textContent = name;
    button.title = `Remove the curve of ${name}`;
    button.setAttribute('aria-label', button.title);
    button.addEventListener('click', () => this.toggle(name));
    return item;
  }
}
