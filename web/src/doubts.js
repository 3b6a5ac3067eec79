import { intervalAt } from './data.js';

// Of the words in 150 recorded prompts, 3 % have a lower score; of words put in the place of one of them, 73 %.
const DOUBTFUL_SCORE = 0.05;
const NO_PHONES = 'no phones: the mouth follows the sound alone';

/** Whether the sound hardly supports a word, [text, start, end, score]. */
export function isDoubtful([text, , , score]) {
  return Boolean(text) && typeof score === 'number' && score < DOUBTFUL_SCORE;
}

/** What is doubtful about a time, or ''. */
export function doubtAt(facts, time) {
  const word = intervalAt(facts.words, time);
  if (word && isDoubtful(word)) return `“${word[0]}”, score ${word[3].toFixed(2)}`;
  return facts.unaligned.some(([start, end]) => start <= time && time < end) ? NO_PHONES : '';
}

/** The line below the timeline that names what is doubtful, where there is such; its buttons go to the next one. */
export class Doubts {
  onnext = () => {}; // called with a time and what is doubtful there

  constructor(list, facts, clock) {
    Object.assign(this, { facts, clock });
    const words = facts.words.filter(isDoubtful).map(([, start]) => start);
    const spans = facts.unaligned.map(([start]) => start);
    const plural = (count, one) => `${count} ${one}${count === 1 ? '' : 's'}`;
    const hint = `Words with a score below ${DOUBTFUL_SCORE}, which the sound hardly supports: go to the next`;
    this.#entry(list.children[0], words, plural(words.length, 'doubtful word'), hint);
    const text = `${plural(spans.length, 'span')} without phones`;
    this.#entry(list.children[1], spans, text, `Speech with ${NO_PHONES}; go to the next`);
    list.hidden = !words.length && !spans.length;
  }

  #entry(item, starts, text, hint) {
    const button = item.querySelector('button');
    item.hidden = !starts.length;
    button.querySelector('span').textContent = text;
    button.title = hint;
    button.addEventListener('click', () => {
      const next = starts.find((start) => start > this.clock.time + 1e-3) ?? starts[0];
      this.onnext(next, doubtAt(this.facts, next));
    });
  }
}
