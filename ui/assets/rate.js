// The rating card. Choices live here until Enter; the server answers with the next card, and only then says "saved".
// One act is under way at a time: a key that comes before its answer was meant for the card that is still shown.
const PATIENCE_MS = 6000;
const fresh = () => ({ best: null, stars: {}, focus: 0, key: crypto.randomUUID(), since: performance.now(), tried: false });
const remembered = () => { try { return localStorage.getItem('studio-rate-mode'); } catch (error) { return null; } };
let mode = remembered() === 'stars' ? 'stars' : 'best';
let task = null;
let now = fresh();
let underway = null;

const card = () => element.querySelector('.card[data-task]');
const choices = () => [...element.querySelectorAll('.choice')];
const say = (text) => { const line = element.querySelector('.saved'); if (line) line.textContent = text; };

function paint() {
  const root = card();
  if (!root) return;
  root.dataset.mode = mode;
  choices().forEach((choice, index) => {
    const id = choice.dataset.id;
    const stars = now.stars[id] || 0;
    choice.classList.toggle('best', now.best === id);
    choice.classList.toggle('focus', mode === 'stars' && now.focus === index);
    choice.querySelector('.pick').setAttribute('aria-pressed', String(now.best === id));
    choice.querySelectorAll('[data-star]').forEach((star) => {
      star.classList.toggle('lit', Number(star.dataset.star) <= stars);
      star.setAttribute('aria-checked', String(Number(star.dataset.star) === stars));
    });
  });
  element.querySelectorAll('[data-mode]').forEach((button) => {
    if (button !== root) button.setAttribute('aria-pressed', String(button.dataset.mode === mode));
  });
}

// Every answer of the server ends the act that was under way, a refusal too.
function arrive() {
  underway = null;
  const root = card();
  if (!root) { task = null; now = fresh(); return; }
  if (root.dataset.turn !== task) {
    task = root.dataset.turn;
    now = fresh();
    const before = JSON.parse(root.dataset.before || '{}');
    now.best = before.best || null;
    now.stars = before.stars || {};
    (root.dataset.next || '').split(' ').filter(Boolean).forEach((id) => { new Image().src = `/media/${id}.png`; });
  }
  paint();
}

function send(act) {
  if (underway) return;
  if (act === 'submit' && !now.best && Object.keys(now.stars).length === 0) {
    say('Pick the best image first, or press S to skip.');
    return;
  }
  const root = card();
  const mine = { act };
  underway = mine;
  now.tried = true;
  say(act === 'undo' ? 'undoing' : 'saving');
  setTimeout(() => { if (underway === mine) giveUp(act); }, PATIENCE_MS);
  trigger('answer', {
    act, group: root ? root.dataset.task : '', key: now.key, best: now.best || '', stars: now.stars,
    lead_ms: Math.round(performance.now() - now.since),
  });
}

function giveUp(act) {
  underway = null;
  const again = { submit: 'Not saved yet. Enter', skip: 'Not skipped yet. S', undo: 'Not undone yet. U' }[act];
  say(`${again} tries again; it counts once.`);
}

// An answer that got lost may have been kept under its key: what is said differently now is said under another one.
function changed() {
  if (now.tried) { now.key = crypto.randomUUID(); now.tried = false; }
  say('');
  paint();
}

function choose(index) {
  const choice = choices()[index];
  if (!choice || underway) return;
  now.best = now.best === choice.dataset.id ? null : choice.dataset.id;
  changed();
}

function star(index, value) {
  const choice = choices()[index];
  if (!choice || underway) return;
  const id = choice.dataset.id;
  if (now.stars[id] === value) delete now.stars[id]; else now.stars[id] = value;
  now.focus = index;
  changed();
}

function step(by) {
  if (underway) return;
  now.focus = Math.min(choices().length - 1, Math.max(0, now.focus + by));
  if (mode === 'stars') { paint(); return; }
  now.best = choices()[now.focus].dataset.id;
  changed();
}

function turn(to) {
  mode = to;
  try { localStorage.setItem('studio-rate-mode', mode); } catch (error) { /* private window */ }
  paint();
}

function zoom(index) {
  const choice = choices()[index];
  const box = element.querySelector('dialog.lightbox');
  if (!choice || !box) return;
  box.querySelector('img').src = choice.querySelector('img').src;
  box.showModal();
}

element.addEventListener('click', (event) => {
  if (event.target.matches('dialog.lightbox, dialog.lightbox img')) { event.target.closest('dialog').close(); return; }
  const button = event.target.closest('button');
  if (!button) return;
  const index = choices().indexOf(button.closest('.choice'));
  if (button.dataset.star) star(index, Number(button.dataset.star));
  else if (button.classList.contains('pick')) { now.focus = index; if (mode === 'best') choose(index); else paint(); }
  else if (button.dataset.mode) turn(button.dataset.mode);
  else if (button.dataset.act) send(button.dataset.act);
});

// A focused link or button hears Enter itself. Inside a choice it does not: there Space presses, and Enter saves,
// since a click would take back the star that was just given.
const hearsEnter = (target) => Boolean(target.closest && target.closest('a, button, summary') && !target.closest('.choice'));

const onKey = (event) => {
  if (!element.isConnected) { document.removeEventListener('keydown', onKey); return; }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest && event.target.closest('input, textarea, select, [contenteditable], dialog')) return;
  const key = event.key.toLowerCase();
  const columns = () => getComputedStyle(element.querySelector('.choices')).gridTemplateColumns.split(' ').length;
  const by = { arrowleft: () => -1, arrowright: () => 1, arrowup: () => -columns(), arrowdown: columns }[key];
  if (event.repeat && !by && key !== 'enter') return;
  if (key === 'u') send('undo');
  else if (!card()) return;
  else if (by) step(by());
  else if (/^[1-9]$/.test(key)) {
    if (mode === 'stars') { if (Number(key) <= 5) star(now.focus, Number(key)); } else { now.focus = Number(key) - 1; choose(now.focus); }
  } else if (key === 'enter') {
    if (hearsEnter(event.target)) return;
    if (!event.repeat) send('submit');
  } else if (key === 's') send('skip');
  else if (key === 'm') turn(mode === 'best' ? 'stars' : 'best');
  else if (key === 'z') zoom(now.focus);
  else return;
  event.preventDefault();
};
document.addEventListener('keydown', onKey);
watch('value', arrive);
arrive();
