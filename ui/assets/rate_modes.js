// The ways to judge: best of all with the worst beside it, two images, stars, an order; flags and skips.
const at = (index) => choices()[index];
function look(index) {
  if (index !== now.focus) { now.other = now.focus; now.focus = index; }
  now.moved = true;
}

function choose(index) {
  if (!at(index) || underway) return;
  const { id } = at(index).dataset;
  look(index);
  if (now.marking) { mark(index); return; }
  now.best = now.best === id ? null : id;
  now.none = false;
  if (now.worst === id || !now.best) now.worst = null;
  changed();
  if (now.best && prefs().auto && mode === 'best') send('submit');
}

function mark(index) {
  if (!at(index) || underway) return;
  const { id } = at(index).dataset;
  now.marking = false;
  if (!now.best || now.best === id) { paint(); say(word('first_choice')); return; }
  now.worst = now.worst === id ? null : id;
  changed();
}

function none() {
  if (underway) return;
  if (now.none) { now.none = false; changed(); return; }
  whenSeen(choices(), () => { Object.assign(now, { none: true, best: null, worst: null, rank: [] }); changed(); });
}

function decide(outcome) {
  if (underway || pairIds().length < 2) return;
  const settle = () => { now.pair = outcome; changed(); send('submit'); };
  if (outcome === 'bad') whenSeen(pairIds().map(choiceOf), settle); else settle();
}

function star(index, value) {
  if (!at(index) || underway) return;
  const { id } = at(index).dataset;
  if (now.stars[id] === value) delete now.stars[id]; else now.stars[id] = value;
  look(index);
  changed();
}

// Where in the order: after all others, or beside the last ones; a second press takes the image out again.
function rank(index, isTie) {
  if (!at(index) || underway) return;
  const { id } = at(index).dataset;
  look(index);
  const isIn = now.rank.some((tied) => tied.includes(id));
  take(id);
  if (!isIn) { if (isTie && now.rank.length) now.rank[now.rank.length - 1].push(id); else now.rank.push([id]); }
  now.none = false;
  changed();
}
const take = (id) => { now.rank = now.rank.map((tied) => tied.filter((one) => one !== id)).filter((tied) => tied.length); };

// Into the order: before the images that stand at a place, or beside them.
function drop(id, place, isTie) {
  if (underway || !choiceOf(id)) return;
  const there = (now.rank[place] || []).filter((one) => one !== id);
  if (isTie && !there.length) return;
  take(id);
  const index = there.length ? now.rank.findIndex((tied) => tied.includes(there[0])) : Math.min(place, now.rank.length);
  if (isTie) now.rank[index].push(id); else now.rank.splice(index, 0, [id]);
  now.none = false;
  changed();
}

function press(index, isShift) {
  if (mode === 'pair') decide(pairIds()[1] === at(index).dataset.id ? 'right' : 'left');
  else if (mode === 'rank') { const isTie = isShift || now.marking; now.marking = false; rank(index, isTie); }
  else if (mode === 'stars') { look(index); paint(); } else if (isShift) { look(index); mark(index); } else choose(index);
}

function step(by) {
  if (underway) return;
  look(Math.min(choices().length - 1, Math.max(0, now.focus + by)));
  if (mode !== 'best') { paint(); return; }
  now.best = at(now.focus).dataset.id;
  now.none = false;
  if (now.worst === now.best) now.worst = null;
  changed();
}

function turn(to) {
  if (!card() || !possible().includes(to)) return;
  mode = wanted = to;
  now.marking = false;
  trigger('prefer', { what: 'mode', value: mode });
  paint();
}
const turnOn = () => turn(possible()[(possible().indexOf(mode) + 1) % possible().length]);

// Flags are kept as they are ticked, of the image that is named above them.
function openFlags() {
  const box = asks('flags');
  box.querySelector('[data-of]').value = now.moved && at(now.focus) ? at(now.focus).dataset.id : '';
  showFlags();
  box.showModal();
}
function showFlags() {
  const box = asks('flags');
  const held = now.flags[box.querySelector('[data-of]').value] || { flags: [], note: '' };
  box.querySelectorAll('input[type=checkbox]').forEach((tick) => { tick.checked = held.flags.includes(tick.value); });
  box.querySelector('[data-note]').value = held.note || '';
}
function readFlags() {
  const box = asks('flags');
  const note = box.querySelector('[data-note]').value.trim();
  const ticks = [...box.querySelectorAll('input[type=checkbox]')];
  if (note && !ticks.some((tick) => tick.checked)) ticks.find((tick) => tick.value === 'other').checked = true;
  const flags = ticks.filter((tick) => tick.checked).map((tick) => tick.value);
  const of = box.querySelector('[data-of]').value;
  if (flags.length) now.flags[of] = note ? { flags, note } : { flags }; else delete now.flags[of];
  changed();
}

function skip() {
  if (underway) return;
  if (card().hasAttribute('data-judged')) send('skip'); else asks('skip').showModal();
}
