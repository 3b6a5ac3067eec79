const MAX_ROWS = 80;

/**
 * One slider per shape; a shape whose slider was moved keeps that value until it is reset. Its name shows or hides
 * its curve in the timeline.
 */
export class Sliders {
  onhold = () => {};
  onrelease = () => {};
  #rows = new Map();
  #shown = [];

  constructor(panel, face, curves) {
    Object.assign(this, { face, curves });
    this.list = panel.querySelector('#shape-list');
    this.note = panel.querySelector('#shape-note');
    this.resetAll = panel.querySelector('#reset-shapes');
    const search = panel.querySelector('#shape-search');
    search.addEventListener('input', () => this.#show(search.value));
    panel.querySelector('#shape-tools').hidden = face.names.length === 0;
    this.#show('');
  }

  /** Updates the displayed values from the face. */
  update() {
    for (const row of this.#shown) row.update();
    this.resetAll.disabled = this.face.held.size === 0;
  }

  #show(query) {
    const text = query.trim().toLowerCase();
    const matches = this.face.names.filter((name) => name.toLowerCase().includes(text));
    this.#shown = matches.slice(0, MAX_ROWS).map((name) => this.#row(name));
    this.list.replaceChildren(...this.#shown.map((row) => row.item));
    this.note.textContent =
      this.face.names.length === 0 ? 'This model has no shapes.'
      : matches.length === 0 ? 'No matching shapes.'
      : matches.length > MAX_ROWS ? `Showing the first ${MAX_ROWS} of ${matches.length} shapes; search to see others.`
      : '';
    this.update();
  }

  #row(name) {
    if (!this.#rows.has(name)) this.#rows.set(name, this.#makeRow(name));
    return this.#rows.get(name);
  }

  #makeRow(name) {
    const item = document.getElementById('shape-row').content.cloneNode(true).firstElementChild;
    const [label, value, input, reset] = ['.name', 'output', 'input', '.reset'].map((part) => item.querySelector(part));
    label.textContent = name;
    label.addEventListener('click', () => this.curves.toggle(name));
    input.setAttribute('aria-label', name);
    input.addEventListener('input', () => this.onhold(name, Number(input.value)));
    reset.addEventListener('click', () => this.onrelease(name));
    reset.title = `Reset ${name}`;
    reset.setAttribute('aria-label', reset.title);

    let shown, wasHeld, colour;
    const update = () => {
      const curve = this.curves.shown.get(name);
      if (colour !== curve?.colour || !label.title) {
        colour = curve?.colour;
        label.title = `${curve ? 'Hide' : 'Show'} the curve of ${name} in the timeline`;
        label.setAttribute('aria-pressed', Boolean(curve));
        label.style.setProperty('--curve', `var(--curve-${colour})`);
      }
      const weight = this.face.weight(name);
      const held = this.face.held.has(name);
      if (weight === shown && held === wasHeld) return;
      [shown, wasHeld] = [weight, held];
      // Extend the slider for weights outside 0 to 1.
      if (weight > Number(input.max)) input.max = weight;
      if (weight < Number(input.min)) input.min = weight;
      input.value = weight;
      input.style.setProperty('--fill', (weight - input.min) / (input.max - input.min));
      value.textContent = weight.toFixed(2).replace('-0.00', '0.00');
      item.classList.toggle('held', held);
      reset.disabled = !held;
    };
    return { item, update };
  }
}
