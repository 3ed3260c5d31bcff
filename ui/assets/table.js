// A light table: arrow keys move over its images, Enter or a click opens two of them in the viewer, Space holds one to
// compare the next with. What is held and what is looked at live here; everything else goes to the server as 'act'.
let current = null;
let held = null;
let looked = null; // what the viewer has picked

const cells = () => [...element.querySelectorAll('.cell[data-id]')];
const named = (id) => (id ? element.querySelector(`.cell[data-id="${CSS.escape(id)}"]`) : null);
const label = (cell) => `${cell.dataset.who}, ${cell.dataset.note}`;
const described = (cell) => ({
  id: cell.dataset.id, who: cell.dataset.who, note: cell.dataset.note,
  width: Number(cell.dataset.width), height: Number(cell.dataset.height),
  prompt: cell.closest('.strip-of')?.querySelector('.prompt')?.textContent || '',
});

// One image is in the order of Tab; arrow keys reach the others.
function paint() {
  const all = cells();
  const first = named(current) || all[0];
  for (const cell of all) {
    cell.tabIndex = cell === first ? 0 : -1;
    cell.classList.toggle('held', cell.dataset.id === held);
    cell.classList.toggle('picked', cell.dataset.id === current);
    cell.setAttribute('aria-pressed', String(cell.dataset.id === held));
  }
  const line = element.querySelector('.held[role="status"]');
  if (line) {
    line.hidden = !named(held);
    line.querySelector('b').textContent = named(held) ? label(named(held)) : '';
  }
}

function choose(cell, focus = true) {
  current = cell.dataset.id;
  paint();
  if (focus) cell.focus();
}

// Left and right by order; up and down to the nearest image of the next line.
function neighbour(cell, key) {
  const all = cells();
  const at = all.indexOf(cell);
  if (key === 'ArrowLeft') return all[at - 1];
  if (key === 'ArrowRight') return all[at + 1];
  if (key === 'Home') return all[0];
  if (key === 'End') return all[all.length - 1];
  const box = cell.getBoundingClientRect();
  const place = all.map((one) => [one, one.getBoundingClientRect()])
    .filter(([, other]) => (key === 'ArrowUp' ? other.bottom <= box.top + 1 : other.top >= box.bottom - 1))
    .map(([one, other]) => [one, Math.abs(other.top - box.top), Math.abs(other.left - box.left)]);
  place.sort((a, b) => a[1] - b[1] || a[2] - b[2]);
  return place[0]?.[0];
}

// With the held image, which then stands at the left; else with the one beside it, in the order of the table.
function open(cell) {
  choose(cell, false);
  looked = current;
  if (named(held) && held !== cell.dataset.id) { show(named(held), cell); return; }
  const other = named(cell.dataset.beside) || cell;
  const isLater = cell.compareDocumentPosition(other) & Node.DOCUMENT_POSITION_FOLLOWING;
  show(isLater ? cell : other, isLater ? other : cell);
}

function show(left, right) {
  document.dispatchEvent(new CustomEvent('studio-view', { detail: { left: described(left), right: described(right) } }));
}

function hold(cell) {
  held = held === cell.dataset.id ? null : cell.dataset.id;
  choose(cell);
}

element.addEventListener('click', (event) => {
  const cell = event.target.closest('.cell[data-id]');
  if (cell) { if (event.shiftKey) hold(cell); else open(cell); return; }
  const button = event.target.closest('[data-act]');
  if (!button) return;
  if (button.dataset.act === 'let-go') { held = null; paint(); return; }
  trigger('act', { act: button.dataset.act, id: button.dataset.id || '' });
});

element.addEventListener('focusin', (event) => {
  const cell = event.target.closest('.cell[data-id]');
  if (cell && cell.dataset.id !== current) choose(cell, false);
});

element.addEventListener('keydown', (event) => {
  const cell = event.target.closest('.cell[data-id]');
  if (!cell || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === ' ') { event.preventDefault(); if (!event.repeat) hold(cell); return; }
  if (event.key === 'Escape' && held) { held = null; paint(); return; }
  if (!/^(Arrow(Left|Right|Up|Down)|Home|End)$/.test(event.key)) return;
  event.preventDefault();
  const next = neighbour(cell, event.key);
  if (next) choose(next);
});
element.addEventListener('keyup', (event) => {
  if (event.key === ' ' && event.target.closest('.cell[data-id]')) event.preventDefault();
});

// The viewer asks for the next pair, and says when it is closed.
const onMove = (event) => {
  const from = named(looked);
  const next = from && neighbour(from, event.detail.key);
  if (next) open(next);
};
const onClosed = () => { const cell = named(looked); if (cell) choose(cell); };
document.addEventListener('studio-view-move', onMove);
document.addEventListener('studio-view-closed', onClosed);

// The address opens what is shown again; what the viewer adds to it stays.
let opened = false;
function arrive() {
  const focused = element.contains(document.activeElement) ? document.activeElement.dataset?.id : null;
  requestAnimationFrame(() => {
    const root = element.querySelector('[data-address]');
    if (root && root.dataset.address) {
      const now = new URLSearchParams(location.search);
      const next = new URLSearchParams(root.dataset.address);
      for (const name of ['picked', 'view']) if (now.has(name)) next.set(name, now.get(name));
      if (next.toString() !== now.toString()) history.replaceState(history.state, '', `${location.pathname}?${next}`);
    }
    paint();
    if (focused && !element.contains(document.activeElement) && document.activeElement === document.body) named(focused)?.focus();
    if (opened || !cells().length) return;
    opened = true;
    const [left, right] = (new URLSearchParams(location.search).get('picked') || '').split(',').map(named);
    if (left && right) { 
      choose(right.dataset.beside === left.dataset.id ? right : left, false);
      looked = current;
      show(left, right);
    }
  });
}
watch('value', arrive);
arrive();
