// A click on the canvas goes to the server. The address names what is shown, once the page has moved on from what it
// opened with, so that a reload shows it again.
const press = (selector) => document.querySelector(selector)?.click();
function turn(place) {
  const address = new URL(location.href);
  if (place) address.searchParams.set('before', place); else address.searchParams.delete('before');
  history.replaceState(history.state, '', String(address).replaceAll('+', '%20'));
}
element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-act]');
  if (!button || !element.contains(button)) return;
  if (button.dataset.act === 'go') { press('#generate'); return; }
  if (['older', 'newest'].includes(button.dataset.act)) turn(button.dataset.id);
  trigger('act', { act: button.dataset.act, id: button.dataset.id || '' });
});
const shown = () => element.querySelector('[data-groups]')?.dataset.groups;
let before = shown();
let isFirst = true; // what the page opened with
watch('value', () => {
  const now = shown();
  if (!isFirst && now && now !== before) {
    const address = new URL(location.href);
    address.searchParams.set('group', now);
    history.replaceState(history.state, '', String(address).replaceAll('+', '%20'));
  }
  before = now || before;
  isFirst = false;
});
