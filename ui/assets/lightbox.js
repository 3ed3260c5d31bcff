// The image that was picked, in a dialog. Arrows and swipes go to its neighbours, Esc closes; the form is never touched
// but by the buttons that say so. The server draws each image anew, so what was typed and focused is carried over.
let typed = '';
let focused = '';
let leaving = false;
let wasOpen = false;

const box = () => element.querySelector('dialog.lightbox');
const known = (target) => (target ? target.dataset.step || target.dataset.board || target.dataset.act || target.name || '' : '');

function address(image) {
  const url = new URL(location.href);
  if (image) url.searchParams.set('image', image); else url.searchParams.delete('image');
  history.replaceState(history.state, '', String(url).replaceAll('+', '%20'));
}

function arrive() {
  const dialog = box();
  if (dialog || wasOpen) address(dialog ? dialog.dataset.image : ''); // what the address opened with is not known at first
  wasOpen = Boolean(dialog);
  if (!dialog || dialog.open) return;
  leaving = false;
  dialog.showModal();
  const field = dialog.querySelector('.newboard input');
  field.value = typed;
  const before = [...dialog.querySelectorAll('button, input, a')].find((one) => focused && known(one) === focused && !one.disabled);
  (before || dialog).focus();
  [dialog.dataset.before, dialog.dataset.after].filter(Boolean).forEach((id) => { new Image().src = `/media/${id}.png`; });
  dialog.addEventListener('cancel', (event) => { event.preventDefault(); leave(); });
}

function leave() {
  if (leaving) return;
  leaving = true;
  typed = '';
  focused = '';
  box().close();
  address('');
  trigger('act', { act: 'close', id: '' });
}

const step = (to) => { if (box() && box().dataset[to]) trigger('act', { act: 'pick', id: box().dataset[to] }); };

async function copy() {
  const text = element.querySelector('.infotext pre').textContent;
  const said = element.querySelector('[data-said]');
  try {
    await navigator.clipboard.writeText(text);
    said.textContent = box().dataset.copied;
  } catch (error) { // no clipboard without https: the text is selected instead
    const shown = element.querySelector('.infotext');
    shown.open = true;
    getSelection().selectAllChildren(shown.querySelector('pre'));
  }
}

element.addEventListener('click', (event) => {
  if (event.target === box()) { leave(); return; }
  const button = event.target.closest('button');
  if (!button || !element.contains(button)) return;
  focused = known(button);
  if (button.dataset.copy !== undefined) copy();
  else if (button.dataset.act === 'close') leave();
  else if (button.dataset.act) trigger('act', { act: button.dataset.act, id: button.dataset.id || '', board: button.dataset.board || '' });
});
element.addEventListener('input', (event) => { if (event.target.name === 'board') typed = event.target.value; });
element.addEventListener('submit', (event) => {
  event.preventDefault();
  if (!typed.trim()) return;
  focused = 'board';
  trigger('act', { act: 'newboard', id: box().dataset.image, board: typed });
});

let touched = null;
element.addEventListener('touchstart', (event) => {
  touched = event.target.closest('.stage') ? event.changedTouches[0].clientX : null;
}, { passive: true });
element.addEventListener('touchend', (event) => {
  const by = touched === null ? 0 : event.changedTouches[0].clientX - touched;
  if (Math.abs(by) > 48) step(by > 0 ? 'before' : 'after');
});

const onKey = (event) => {
  if (!element.isConnected) { document.removeEventListener('keydown', onKey); return; }
  if (!box() || !box().open || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest && event.target.closest('input, textarea, pre')) return;
  const to = { ArrowLeft: 'before', ArrowRight: 'after' }[event.key];
  if (to) { event.preventDefault(); step(to); }
};
document.addEventListener('keydown', onKey);
watch('value', arrive);
arrive();
