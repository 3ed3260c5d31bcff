// Clicks, keys and drags. Keys can be changed and switched off (rate_desk); digits and arrows stay what they are.
const acts = {
  submit: () => send('submit'), skip, undo: () => send('undo'), flags: openFlags, zoom: zoomed, mode: turnOn, none,
  left: () => decide('left'), right: () => decide('right'), tie: () => decide('tie'), bad: () => decide('bad'),
  worst: () => { if (now.best) { now.marking = !now.marking; paint(); say(now.marking ? word('marking') : ''); } else say(word('first_choice')); },
  beside: () => { now.marking = !now.marking && now.rank.length > 0; paint(); say(now.marking ? word('beside') : ''); },
  guide: () => document.dispatchEvent(new CustomEvent('studio-rate-desk', { detail: 'guide' })),
  keys: () => document.dispatchEvent(new CustomEvent('studio-rate-desk', { detail: 'keys' })),
};
const IN_MODE = { none: 'best', left: 'pair', right: 'pair', tie: 'pair', bad: 'pair' };

element.addEventListener('click', (event) => {
  if (event.target.matches('dialog.lightbox, dialog.lightbox *')) { event.target.closest('dialog').close(); return; }
  const button = event.target.closest('button');
  if (!button) { if (event.target.matches('dialog.asks')) event.target.close(); return; }
  const dialog = button.closest('dialog');
  if (dialog) { answerIn(dialog, button); return; }
  const index = choices().indexOf(button.closest('.choice'));
  if (button.dataset.star) star(index, Number(button.dataset.star));
  else if (button.classList.contains('pick')) press(index, event.shiftKey);
  else if (button.dataset.mode) turn(button.dataset.mode);
  else if (button.dataset.act) send(button.dataset.act);
  else if (button.dataset.do) acts[button.dataset.do]();
  if (event.detail && !button.dataset.star) button.blur(); // after a mouse, Space is for looking, not for pressing again
});

function answerIn(dialog, button) {
  const waits = held;
  if (!('enlarge' in button.dataset) && !('decide' in button.dataset)) held = null;
  dialog.close();
  if ('reason' in button.dataset) send('skip', { reason: button.dataset.reason });
  else if ('decide' in button.dataset && waits) { held = null; waits.then(); } else if ('enlarge' in button.dataset && waits) { held = null; zoom(waits.first); }
}

element.addEventListener('input', (event) => {
  if (event.target.matches('[data-asks=flags] input')) readFlags();
});
element.addEventListener('change', (event) => {
  if (event.target.matches('[data-of]')) showFlags();
});

// A focused link or button hears Enter itself. Inside a choice it does not: there Space presses, and Enter saves,
// since a click would take back the star that was just given.
const hearsEnter = (target) => Boolean(target.closest && target.closest('a, button, summary') && !target.closest('.choice'));
const named = (event) => (event.key === ' ' ? 'space' : event.key.toLowerCase());
const actOf = (key) => Object.entries(prefs().keys).find(([, its]) => its === key)?.[0];
const digitOf = (event) => {
  const found = /^(?:Digit|Numpad)([1-9])$/.exec(event.code) || (/^[1-9]$/.test(event.key) ? ['', event.key] : null);
  return found ? Number(found[1]) : 0;
};

function inDialog(event) {
  const dialog = event.target.closest('dialog');
  const isText = event.target.matches('input[type=text]');
  if (event.ctrlKey || event.metaKey || event.altKey || !element.contains(dialog)) return;
  const key = named(event);
  if (dialog.matches('.lightbox')) {
    const by = { arrowleft: -1, arrowup: -1, arrowright: 1, arrowdown: 1 }[key];
    if (by) zoomOn(by); else if (actOf(key) === 'zoom') dialog.close(); else if (actOf(key) === 'flip') { if (!event.repeat) flip(true); } else return;
  } else if (isText && key !== 'enter') return;
  else if (dialog.dataset.asks === 'flags') {
    const tick = dialog.querySelectorAll('input[type=checkbox]')[digitOf(event) - 1];
    if (key === 'enter') dialog.close(); else if (tick) tick.click(); else return;
  } else if (dialog.dataset.asks === 'skip') {
    const button = dialog.querySelectorAll('[data-reason]')[digitOf(event) - 1];
    if (button) button.click(); else if (actOf(key) === 'skip' && !event.repeat) dialog.querySelector('[data-reason=""]').click(); else return;
  } else return;
  event.preventDefault();
}

function digit(number, isShift) {
  if (mode === 'stars') { if (number <= 5) star(now.focus, number); } else if (mode === 'pair') { if (number <= 2) decide(number === 1 ? 'left' : 'right'); } else if (at(number - 1)) press(number - 1, isShift);
}

function arrow(key) {
  if (mode === 'pair') { if (key === 'arrowleft') decide('left'); else if (key === 'arrowright') decide('right'); return; }
  const columns = getComputedStyle(element.querySelector('.choices')).gridTemplateColumns.split(' ').length;
  step({ arrowleft: -1, arrowright: 1, arrowup: -columns, arrowdown: columns }[key]);
}

const onKey = (event) => {
  if (!element.isConnected) { document.removeEventListener('keydown', onKey); return; }
  const inside = event.target.closest ? event.target.closest('dialog') : null;
  if (inside && inside.open) { inDialog(event); return; }
  const target = inside || !event.target.closest ? document.body : event.target; // a dialog that just closed still has the focus
  if (document.querySelector('dialog[open]')) return;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (target.closest('input, textarea, select, [contenteditable]')) return;
  const key = named(event);
  if (!prefs().single && key.length === 1) return;
  const act = key === 'backspace' ? 'undo' : actOf(key);
  const isArrow = /^arrow(left|right|up|down)$/.test(key);
  if (event.repeat && (!isArrow || mode === 'pair') && key !== 'enter' && act !== 'flip') return;
  const number = act ? 0 : digitOf(event);
  if (act === 'undo' || act === 'guide' || act === 'keys') acts[act]();
  else if (!card()) { if (act !== 'submit' || hearsEnter(target) || !element.querySelector('[data-act=go]')) return; send('go'); }
  else if (isArrow) arrow(key);
  else if (number) digit(number, event.shiftKey);
  else if (act === 'flip') { if (target.closest('button, a, summary')) return; if (!event.repeat) flip(true); }
  else if (act === 'submit') { if (key === 'enter' && hearsEnter(target)) return; if (!event.repeat) send('submit'); }
  else if (act && (!IN_MODE[act] || IN_MODE[act] === mode)) acts[act]();
  else return;
  event.preventDefault();
};
document.addEventListener('keydown', onKey);
document.addEventListener('keyup', (event) => { if (flipped && actOf(named(event)) === 'flip') { flip(false); event.preventDefault(); } });
window.addEventListener('blur', () => flip(false));

// In the ranking an image can be dragged into the order, between two places or onto one.
element.addEventListener('dragstart', (event) => {
  const from = event.target.closest('[data-id]');
  if (mode === 'rank' && from) event.dataTransfer.setData('text/plain', from.dataset.id);
});
element.addEventListener('dragover', (event) => { if (mode === 'rank' && event.target.closest('.slot, .gap')) event.preventDefault(); });
element.addEventListener('drop', (event) => {
  const to = event.target.closest('.slot, .gap');
  if (mode !== 'rank' || !to) return;
  event.preventDefault();
  drop(event.dataTransfer.getData('text/plain'), Number(to.dataset.place), to.matches('.slot'));
});

watch('value', arrive);
arrive();
