// Guidelines, keys and ways to judge: what a person sets for their own card. Each choice goes to the server at once,
// which answers with what holds now; an open dialog stays open.
const box = () => element.querySelector('.keys-dialog');
const drawer = () => element.querySelector('.drawer');
let isOpen = false;
let asked = null; // the act whose new key is awaited
let shut = null; // what was done with the drawer here, before the server heard of it

function painted() {
  if (isOpen && box() && !box().open) box().showModal();
  if (drawer() && shut !== null) drawer().hidden = shut;
  document.dispatchEvent(new CustomEvent('studio-rate-prefs'));
}

function close() { isOpen = false; asked = null; if (box().open) box().close(); }
function guide(isShut) {
  shut = isShut;
  if (isShut) trigger('prefer', { what: 'read', value: true });
  painted();
}

document.addEventListener('studio-rate-desk', (event) => {
  if (!element.isConnected || !drawer()) return;
  if (event.detail === 'guide') guide(!drawer().hidden); else { isOpen = true; painted(); }
});

element.addEventListener('click', (event) => {
  if (event.target === box()) { close(); return; }
  const button = event.target.closest('button');
  if (!button) return;
  if (button.dataset.actKey) {
    asked = button.dataset.actKey;
    element.querySelectorAll('.act').forEach((one) => one.classList.toggle('asked', one === button));
    return;
  }
  const does = button.dataset.desk;
  if (does === 'close') close();
  else if (does === 'read') guide(true);
  else if (does === 'practise') trigger('practise', {});
  else if (does === 'keys') trigger('prefer', { what: 'keys', value: true });
});
element.addEventListener('change', (event) => {
  const what = event.target.dataset.choice;
  if (!what) return;
  const modes = [...element.querySelectorAll('[data-choice=modes]:checked')].map((one) => one.value);
  const value = what === 'modes' ? modes : event.target.checked;
  if (what !== 'modes') { // holds at once; the server's answer repeats it
    const desk = element.querySelector('.desk');
    desk.dataset.prefs = JSON.stringify({ ...JSON.parse(desk.dataset.prefs), [what]: value });
    painted();
  }
  trigger('prefer', { what, value });
});
element.addEventListener('cancel', () => { isOpen = false; asked = null; }, true);

const onDeskKey = (event) => {
  if (!element.isConnected) { document.removeEventListener('keydown', onDeskKey, true); return; }
  if (!isOpen) {
    if (event.key === 'Escape' && drawer() && !drawer().hidden && !document.querySelector('dialog[open]')) guide(true);
    return;
  }
  if (!asked || ['Shift', 'Control', 'Alt', 'Meta', 'Tab'].includes(event.key)) return;
  event.preventDefault();
  event.stopPropagation();
  const act = asked;
  asked = null;
  element.querySelectorAll('.asked').forEach((one) => one.classList.remove('asked'));
  if (event.key !== 'Escape') trigger('prefer', { what: 'key', value: { act, key: event.key === ' ' ? 'space' : event.key.toLowerCase() } });
};
document.addEventListener('keydown', onDeskKey, true);
watch('value', painted);
painted();
