// What the card shows of the choices, and looking closely: one image large, two in the same place.
const choiceOf = (id) => choices().find((choice) => choice.dataset.id === id);
const enlarged = new Set();
const isSeen = (choice) => {
  const picture = choice.querySelector('img');
  return enlarged.has(choice.dataset.id) || picture.clientWidth * devicePixelRatio >= 0.6 * picture.naturalWidth;
};
let held = null; // what waits for "decide now"
let flipped = null;

function hints() {
  const { keys } = prefs();
  element.querySelectorAll('[data-key]').forEach((hint) => {
    const key = keys[hint.dataset.key];
    if (key) hint.textContent = key.length === 1 ? key.toUpperCase() : key[0].toUpperCase() + key.slice(1);
  });
}

function paint() {
  hints();
  const root = card();
  if (!root) return;
  root.dataset.mode = mode;
  const two = pairIds();
  const places = new Map(now.rank.flatMap((tied, place) => tied.map((id) => [id, `${place + 1}${tied.length > 1 ? '=' : ''}`])));
  choices().forEach((choice, index) => {
    const { id } = choice.dataset;
    const stars = now.stars[id] || 0;
    const isOn = mode === 'pair' ? now.pair === (id === two[0] ? 'left' : 'right') && two.includes(id)
      : mode === 'rank' ? places.has(id) : now.best === id;
    choice.classList.toggle('best', isOn && mode !== 'rank');
    choice.classList.toggle('focus', mode !== 'best' && mode !== 'pair' && now.focus === index);
    choice.classList.toggle('worst', now.worst === id);
    choice.classList.toggle('flagged', Boolean(now.flags[id] && now.flags[id].flags.length));
    choice.classList.toggle('placed', places.has(id));
    choice.classList.toggle('out', mode === 'pair' && !two.includes(id));
    choice.style.order = mode === 'pair' ? String(two.indexOf(id)) : '';
    choice.draggable = mode === 'rank';
    choice.querySelector('.place').textContent = places.get(id) || '';
    choice.querySelector('.pick').setAttribute('aria-pressed', String(isOn));
    const hint = choice.querySelector('.pick kbd');
    if (hint) hint.textContent = mode !== 'pair' ? String(index + 1) : id === two[0] ? '←' : '→';
    choice.querySelectorAll('[data-star]').forEach((one) => {
      one.classList.toggle('lit', Number(one.dataset.star) <= stars);
      one.setAttribute('aria-checked', String(Number(one.dataset.star) === stars));
    });
  });
  root.querySelectorAll('.ways [data-mode]').forEach((button) => {
    button.hidden = !possible().includes(button.dataset.mode);
    button.setAttribute('aria-pressed', String(button.dataset.mode === mode));
  });
  root.querySelector('.ways').hidden = possible().length < 2;
  root.querySelector('[data-do=none]').setAttribute('aria-pressed', String(now.none));
  root.querySelectorAll('[data-do=worst], [data-do=beside]').forEach((button) => button.setAttribute('aria-pressed', String(now.marking)));
  root.querySelector('[data-do=flags]').classList.toggle('on', Object.values(now.flags).some((one) => one.flags.length));
  paintOrder(root.querySelector('.order'));
}

const piece = (tag, name, text = '') => Object.assign(document.createElement(tag), { className: name, textContent: text });
function paintOrder(row) {
  const parts = now.rank.flatMap((tied, place) => {
    const slot = piece('div', 'slot');
    slot.dataset.place = place;
    slot.setAttribute('role', 'listitem');
    slot.append(piece('span', 'nth', String(place + 1)));
    tied.forEach((id) => {
      const picture = Object.assign(piece('img', ''), { src: `/media/${id}.png`, alt: choiceOf(id).querySelector('img').alt, draggable: true });
      picture.dataset.id = id;
      slot.append(picture);
    });
    return [gap(place), slot];
  });
  const last = gap(now.rank.length);
  last.classList.add('last');
  if (!now.rank.length) last.textContent = word('order_empty');
  row.replaceChildren(...parts, last);
}
function gap(place) {
  const found = piece('div', 'gap');
  found.dataset.place = place;
  found.setAttribute('role', 'listitem');
  return found;
}

function whenSeen(some, then) {
  let wasAsked = false;
  try { wasAsked = Boolean(sessionStorage.getItem('studio-rate-asked')); } catch (error) { /* private window */ }
  if (wasAsked || some.every(isSeen)) { then(); return; }
  try { sessionStorage.setItem('studio-rate-asked', '1'); } catch (error) { /* private window */ }
  held = { then, first: choices().indexOf(some.find((choice) => !isSeen(choice))) };
  asks('enlarge').showModal();
}

const visible = () => (mode === 'pair' ? pairIds().map((id) => choices().indexOf(choiceOf(id))) : choices().map((_, index) => index));
function zoom(index) {
  const choice = at(index);
  const box = element.querySelector('dialog.lightbox');
  if (!choice || !box) return;
  const from = choice.querySelector('img');
  const picture = box.querySelector('img');
  enlarged.add(choice.dataset.id);
  look(index);
  picture.src = from.src;
  picture.alt = from.alt;
  picture.style.setProperty('--full', `${Math.max(512, from.naturalWidth)}px`);
  box.querySelector('p').textContent = from.alt;
  if (!box.open) box.showModal();
  paint();
}
function zoomOn(by) {
  const all = visible();
  zoom(all[(all.indexOf(now.focus) + by + all.length) % all.length]);
}
const zoomed = () => zoom(visible().includes(now.focus) ? now.focus : visible()[0]);

// While the key is down, one image stands in the place of the other.
function flip(isOn) {
  if (!isOn) { if (flipped) flipped.picture.src = flipped.src; flipped = null; return; }
  if (flipped || !card()) return;
  const box = element.querySelector('dialog.lightbox');
  const all = visible();
  const one = all.includes(now.focus) && mode !== 'pair' ? now.focus : all[0];
  const other = mode === 'pair' ? all[1] : now.other !== one && at(now.other) ? now.other : all.find((index) => index !== one);
  if (other === undefined || !at(other)) { say(word('nothing_to_flip')); return; }
  const picture = box.open ? box.querySelector('img') : at(one).querySelector('img');
  const from = box.open ? now.focus : one;
  flipped = { picture, src: picture.src };
  picture.src = at(from === other ? one : other).querySelector('img').src;
}
