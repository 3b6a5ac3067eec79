import { Clock } from './clock.js';
import { Curves } from './curves.js';
import { blobUrl, readFacts, readModel } from './data.js';
import { Doubts, doubtAt } from './doubts.js';
import { Face } from './face.js';
import { Sliders } from './sliders.js';
import { Stage } from './stage.js';
import { Timeline } from './timeline.js';

const $ = (id) => document.getElementById(id);
const nextFrame = () => new Promise(requestAnimationFrame);

async function start(hook) {
  // a page that shows this one in a frame may want the face alone: animation.html#face
  document.documentElement.classList.toggle('face-alone', location.hash === '#face');
  const facts = readFacts();
  await nextFrame(); // let the page show "Loading" first
  const face = await Face.load(await readModel());
  const stage = new Stage($('stage'), face, facts.focus);
  const clock = new Clock(facts.frames / facts.fps, facts.sound ? $('sound') : null);
  const curves = new Curves($('legend'), face, facts);
  const timeline = new Timeline($('rows'), facts, curves.shown, clock.duration);
  const sliders = new Sliders($('shapes'), face, curves);
  const doubts = new Doubts($('doubts'), facts, clock);
  const frameTime = (frame) => (frame + 0.5) / facts.fps;

  const showFrame = (again = false) => {
    // The small term keeps rounding errors at a frame's start from selecting the previous frame.
    const frame = Math.min(Math.max(Math.floor(clock.time * facts.fps + 1e-6), 0), facts.frames - 1);
    if (frame === face.frame && !again) return;
    face.pose(frame, facts.fps);
    stage.invalidate();
    if (!$('shapes').hidden) sliders.update();
  };
  const showTime = () => {
    const time = clock.time.toFixed(2);
    if ($('time').textContent === time && $('frame').textContent === String(face.frame)) return;
    $('time').textContent = time;
    $('frame').textContent = face.frame;
    $('timeline').setAttribute('aria-valuenow', time);
    const said = [`${time} seconds`, `frame ${face.frame}`, doubtAt(facts, clock.time)].filter(Boolean);
    $('timeline').setAttribute('aria-valuetext', said.join(', '));
  };
  const showState = () => {
    $('play').classList.toggle('playing', clock.playing);
    $('play').setAttribute('aria-label', clock.playing ? 'Pause' : 'Play');
    $('play').title = `${clock.playing ? 'Pause' : 'Play'} (Space)`;
    $('loop').setAttribute('aria-pressed', clock.loop);
    for (const button of $('speeds').children) {
      button.setAttribute('aria-pressed', Number(button.value) === clock.rate);
    }
    if (facts.sound && !clock.sound) showStatus('This browser cannot play the sound');
  };
  const seek = (time) => {
    clock.seek(time);
    showFrame();
  };
  const step = (frames) => {
    clock.pause();
    seek(frameTime(Math.min(Math.max(face.frame + frames, 0), facts.frames - 1)));
  };
  const hold = (name, value) => {
    if (!face.places.has(name)) return;
    face.held.set(name, value);
    showFrame(true);
  };
  const holdAll = (values) => {
    for (const [name, value] of Object.entries(values)) if (face.places.has(name)) face.held.set(name, value);
    showFrame(true);
  };
  const release = (...names) => {
    for (const name of names) face.held.delete(name);
    showFrame(true);
  };
  const setLength = () => {
    timeline.setDuration(clock.duration);
    $('length').textContent = clock.duration.toFixed(2);
    $('timeline').setAttribute('aria-valuemax', clock.duration.toFixed(2));
  };

  if (facts.sound) {
    $('sound').addEventListener('durationchange', setLength);
    $('sound').src = blobUrl(facts.sound);
  }
  $('frames').textContent = facts.frames - 1;
  clock.onchange = showState;
  timeline.onseek = seek;
  doubts.onnext = (time, doubt) => {
    seek(time);
    showStatus(doubt);
  };
  sliders.onhold = hold;
  sliders.onrelease = release;
  curves.onchange = () => {
    timeline.layOut();
    sliders.update();
    $('legend').scrollIntoView({ block: 'nearest' }); // the timeline may scroll on a phone
  };
  stage.onframing = () => $('focus').setAttribute('aria-pressed', stage.closeUp);

  const toggleShapes = (open) => {
    $('shapes').hidden = !open;
    $('toggle-shapes').setAttribute('aria-expanded', open);
    sliders.update();
  };
  const actions = {
    play: () => (clock.playing ? clock.pause() : clock.play()),
    first: () => seek(0),
    back: () => step(-1),
    forward: () => step(1),
    last: () => seek(frameTime(facts.frames - 1)),
    loop: () => {
      clock.loop = !clock.loop;
      showState();
    },
    'zoom-in': () => timeline.zoom(1 / 1.6),
    'zoom-out': () => timeline.zoom(1.6),
    'zoom-all': () => timeline.zoom(Infinity),
    focus: () => stage.frame(!stage.closeUp),
    'reset-view': () => stage.resetView(),
    'toggle-shapes': () => toggleShapes($('shapes').hidden),
    'reset-shapes': () => release(...face.held.keys()),
    'copy-pose': () => copy(JSON.stringify(face.weights(), (_, v) => (v.toFixed ? Number(v.toFixed(5)) : v), 2)),
    help: () => $('keys').showModal(),
  };
  for (const [id, action] of Object.entries(actions)) $(id).addEventListener('click', action);
  $('speeds').addEventListener('click', (event) => {
    if (event.target.value) clock.rate = Number(event.target.value);
  });
  listenToKeys(actions);

  setLength();
  showState();
  showFrame();
  toggleShapes(!matchMedia('(max-width: 720px), (max-height: 500px)').matches);
  $('message').hidden = true;
  for (const part of document.querySelectorAll('[inert]')) part.inert = false;

  Object.assign(hook, {
    time: () => clock.time,
    frame: () => face.frame,
    playing: () => clock.playing,
    play: () => clock.play(),
    pause: () => clock.pause(),
    seek,
    weights: () => face.weights(),
    positions: () => face.positions(),
    skinnedPositions: () => face.skinnedPositions(),
    setShape: hold,
    setShapes: holdAll,
    toggleCurve: (name) => curves.toggle(name),
    clearShapes: actions['reset-shapes'],
  });
  const loop = () => {
    clock.tick();
    showFrame();
    showTime();
    stage.draw();
    timeline.draw(clock.time);
    requestAnimationFrame(loop);
  };
  await nextFrame();
  loop();
}

function listenToKeys(actions) {
  const keys = {
    ' ': 'play', ArrowLeft: 'back', ',': 'back', ArrowRight: 'forward', '.': 'forward',
    Home: 'first', End: 'last', l: 'loop', f: 'focus', '+': 'zoom-in', '=': 'zoom-in', '-': 'zoom-out', 0: 'zoom-all', '?': 'help',
  };
  document.addEventListener('keydown', (event) => {
    const action = keys[event.key];
    const { target } = event;
    if (!action || event.ctrlKey || event.metaKey || event.altKey || $('keys').open) return;
    if (target.matches('input[type=search]') || (event.key === ' ' && target.matches('button'))) return;
    // Arrow keys, Home and End belong to a focused slider.
    if (target.matches('input[type=range]') && /^(Arrow|Home|End)/.test(event.key)) return;
    event.preventDefault();
    actions[action]();
  });
  // Remove the focus from a clicked button, so that the space bar still plays or pauses.
  document.addEventListener('click', (event) => {
    if (event.detail) event.target.closest('button')?.blur();
  });
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Fallback for browsers without the clipboard API on file://.
    const area = document.body.appendChild(document.createElement('textarea'));
    area.value = text;
    area.select();
    document.execCommand('copy');
    area.remove();
  }
  showStatus('Pose copied as JSON');
}

function showStatus(text) {
  $('status').textContent = text;
  clearTimeout(showStatus.timer);
  showStatus.timer = setTimeout(() => ($('status').textContent = ''), 2500);
}

const hook = (window.kmtalk = {});
hook.ready = start(hook);
hook.ready.catch((error) => {
  $('message').hidden = false;
  $('message').textContent = `The face cannot be shown: ${error.message}`;
});
