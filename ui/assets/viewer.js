// Two images, large: with a slider, beside each other, or in the same place. Both are zoomed and moved together.
// The tables say which two ('studio-view'); the address keeps them and the way of looking.
const box = element.querySelector('dialog.viewer');
const stage = box.querySelector('.pair');
const part = (name) => box.querySelector(name);
const panes = [part('.pane.left'), part('.pane.right')];
const WAYS = ['slider', 'side', 'flip'];
const [LARGEST, SCALE_OF_SMALL] = [16, 6];
let pair = null;
let way = WAYS[0];
let fit = 1;
let [zoom, x, y] = [1, 0, 0];

function open(detail) {
  pair = [detail.left, detail.right];
  if (!box.open) {
    const asked = new URLSearchParams(location.search).get('view');
    if (WAYS.includes(asked)) way = asked;
    [zoom, x, y] = [1, 0, 0];
    box.showModal();
    stage.focus();
  }
  const alone = pair[0].id === pair[1].id;
  box.classList.toggle('alone', alone);
  pair.forEach((one, index) => {
    const image = panes[index].querySelector('img');
    image.src = `/media/${one.id}.png`;
    image.alt = `${one.who}, ${one.note}`;
    box.querySelectorAll(`[data-who="${index}"]`).forEach((place) => { place.textContent = one.who; });
  });
  const notes = [...new Set(pair.map((one) => one.note))].join(' / ');
  part('.seen').textContent = [notes, pair[1].prompt].filter(Boolean).join(' · ');
  flip(false);
  look(way);
}

function look(to) {
  way = to;
  stage.dataset.way = way;
  box.querySelectorAll('[data-way]').forEach((button) => {
    if (button !== stage) button.setAttribute('aria-pressed', String(button.dataset.way === way));
  });
  const cut = part('.cut');
  const leaves = way !== 'slider' && document.activeElement === cut;
  cut.hidden = way !== 'slider';
  if (leaves) stage.focus(); // what is hidden hears no keys
  measure();
  remember();
}

// Images fill the window, small ones six times their size at most.
function measure() {
  if (!box.open || !pair) return;
  const beside = way === 'side' && !box.classList.contains('alone');
  const [wide, high] = [Math.max(...pair.map((one) => one.width)), Math.max(...pair.map((one) => one.height))];
  const style = getComputedStyle(box);
  const room = box.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
  const tall = innerHeight - 190;
  const stacked = beside && room < 640;
  const across = beside && !stacked ? (room - 16) / 2 : room;
  const down = stacked ? (tall - 16) / 2 : tall;
  fit = Math.min(across / wide, down / high, SCALE_OF_SMALL);
  stage.classList.toggle('stacked', stacked);
  box.style.setProperty('--pane-width', `${Math.floor(wide * fit)}px`);
  box.style.setProperty('--pane-height', `${Math.floor(high * fit)}px`);
  place();
}

function place() {
  const [least, most] = [Math.min(1, 1 / fit), Math.max(LARGEST, 1 / fit)];
  zoom = Math.min(most, Math.max(least, zoom));
  const pane = panes[0].getBoundingClientRect();
  const [across, down] = [pane.width, pane.height].map((size) => Math.max(0, (zoom - 1) * size / 2));
  [x, y] = [Math.min(across, Math.max(-across, x)), Math.min(down, Math.max(-down, y))];
  stage.style.setProperty('--move', `translate(${x}px, ${y}px) scale(${zoom})`);
  stage.classList.toggle('moves', zoom > 1);
  part('.zoom').textContent = `${Math.round(zoom * fit * 100)}%`;
}

function zoomTo(next, at = [0, 0]) {
  const before = zoom;
  zoom = next;
  place();
  const by = zoom / before;
  [x, y] = [at[0] - (at[0] - x) * by, at[1] - (at[1] - y) * by];
  place();
}

const isWhole = () => Math.abs(zoom * fit - 1) < 0.005;
const flip = (on) => stage.classList.toggle('flip', on);

function remember() {
  const address = new URL(location.href);
  if (box.open && pair) {
    address.searchParams.set('picked', pair.map((one) => one.id).join(','));
    address.searchParams.set('view', way);
  } else {
    address.searchParams.delete('picked');
    address.searchParams.delete('view');
  }
  history.replaceState(history.state, '', address);
}

const onKey = (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const inCut = event.target.matches('.cut');
  const key = event.key.toLowerCase();
  const arrow = { arrowleft: [1, 0], arrowright: [-1, 0], arrowup: [0, 1], arrowdown: [0, -1] }[key];
  if (key === ' ') { if (event.target.matches('button')) return; flip(true); }
  else if (arrow && inCut) return;
  else if (arrow && event.shiftKey) { [x, y] = [x + 48 * arrow[0], y + 48 * arrow[1]]; place(); }
  else if (arrow) document.dispatchEvent(new CustomEvent('studio-view-move', { detail: { key: event.key } }));
  else if (key === 'z') zoomTo(isWhole() ? 1 : 1 / fit);
  else if (key === '0') { [zoom, x, y] = [1, 0, 0]; place(); }
  else if (key === '+' || key === '=') zoomTo(zoom * 1.25);
  else if (key === '-') zoomTo(zoom / 1.25);
  else if (/^[123]$/.test(key)) look(WAYS[Number(key) - 1]);
  else return;
  event.preventDefault();
};
box.addEventListener('keydown', onKey);
box.addEventListener('keyup', (event) => {
  if (event.key !== ' ' || event.target.matches('button')) return;
  flip(false);
  event.preventDefault();
});
box.addEventListener('close', () => { flip(false); remember(); document.dispatchEvent(new Event('studio-view-closed')); });
box.addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (event.target === box || (button && 'close' in button.dataset)) { box.close(); return; }
  if (!button) return;
  if (button.dataset.way) look(button.dataset.way);
  else if ('zoom' in button.dataset) zoomTo(isWhole() ? 1 : 1 / fit);
});
part('.cut').addEventListener('input', (event) => stage.style.setProperty('--cut', `${event.target.value}%`));

// The wheel zooms to the pointer; dragging moves. In the slider's way a drag at fit moves the cut.
stage.addEventListener('wheel', (event) => {
  event.preventDefault();
  const pane = event.target.closest('.pane') || panes[0];
  const rect = pane.getBoundingClientRect();
  zoomTo(zoom * Math.exp(-event.deltaY / 400), [
    event.clientX - rect.left - rect.width / 2, event.clientY - rect.top - rect.height / 2,
  ]);
}, { passive: false });
let drag = null;
function cutAt(event) {
  const rect = stage.getBoundingClientRect();
  const share = Math.round(100 * Math.min(1, Math.max(0, (event.clientX - rect.left) / rect.width)));
  part('.cut').value = share;
  stage.style.setProperty('--cut', `${share}%`);
}
stage.addEventListener('pointerdown', (event) => {
  if (event.button) return;
  stage.setPointerCapture(event.pointerId);
  drag = [event.clientX - x, event.clientY - y];
  if (zoom <= 1 && way === 'slider') cutAt(event);
  if (zoom <= 1 && way === 'flip') flip(true);
});
stage.addEventListener('pointermove', (event) => {
  if (!drag) return;
  if (zoom > 1) { [x, y] = [event.clientX - drag[0], event.clientY - drag[1]]; place(); }
  else if (way === 'slider') cutAt(event);
});
for (const name of ['pointerup', 'pointercancel']) {
  stage.addEventListener(name, () => { drag = null; flip(false); });
}
addEventListener('resize', measure);
document.addEventListener('studio-view', (event) => open(event.detail));
