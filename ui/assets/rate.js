// The rating card. Choices live here until Enter; the server answers with the next card, and only then says "saved".
const fresh = () => ({ best: null, stars: {}, focus: 0, key: crypto.randomUUID(), since: performance.now(), sent: 0 });
const remembered = () => { try { return localStorage.getItem('studio-rate-mode'); } catch (error) { return null; } };
let mode = remembered() === 'stars' ? 'stars' : 'best';
let task = null;
let now = fresh();

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

function arrive() {
  const root = card();
  if (!root) { task = null; return; }
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
  const root = card();
  const group = root ? root.dataset.task : '';
  if (act === 'submit') {
    if (!now.best && Object.keys(now.stars).length === 0) { say('Pick the best image first, or press S to skip.'); return; }
    if (now.sent && performance.now() - now.sent < 5000) return;
  }
  now.sent = performance.now();
  const mine = task;
  say(act === 'undo' ? 'undoing' : 'saving');
  setTimeout(() => { if (task === mine && now.sent && performance.now() - now.sent > 5900) say('Not saved yet. Enter tries again; it counts once.'); }, 6000);
  trigger('answer', {
    act, group, key: now.key, best: now.best || '', stars: now.stars, lead_ms: Math.round(performance.now() - now.since),
  });
}

function choose(index) {
  const choice = choices()[index];
  if (!choice) return;
  now.best = now.best === choice.dataset.id ? null : choice.dataset.id;
  say('');
  paint();
}

function star(index, value) {
  const choice = choices()[index];
  if (!choice) return;
  const id = choice.dataset.id;
  if (now.stars[id] === value) delete now.stars[id]; else now.stars[id] = value;
  now.focus = index;
  say('');
  paint();
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

const onKey = (event) => {
  if (!element.isConnected) { document.removeEventListener('keydown', onKey); return; }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest && event.target.closest('input, textarea, select, [contenteditable], dialog')) return;
  const key = event.key.toLowerCase();
  if (key === 'u') { event.preventDefault(); send('undo'); return; }
  if (!card()) return;
  const count = choices().length;
  const columns = Math.max(1, getComputedStyle(element.querySelector('.choices')).gridTemplateColumns.split(' ').length);
  const step = { arrowleft: -1, arrowright: 1, arrowup: -columns, arrowdown: columns }[key];
  if (step !== undefined) {
    now.focus = Math.min(count - 1, Math.max(0, now.focus + step));
    if (mode === 'best') now.best = choices()[now.focus].dataset.id;
    paint();
  } else if (/^[1-9]$/.test(key)) {
    if (mode === 'stars') { if (Number(key) <= 5) star(now.focus, Number(key)); } else { now.focus = Number(key) - 1; choose(now.focus); }
  } else if (key === 'enter') {
    if (event.target.closest && event.target.closest('button:not(.pick)')) return;
    send('submit');
  } else if (key === 's') send('skip');
  else if (key === 'm') turn(mode === 'best' ? 'stars' : 'best');
  else if (key === 'z') zoom(now.focus);
  else return;
  event.preventDefault();
};
document.addEventListener('keydown', onKey);
watch('value', arrive);
arrive();
