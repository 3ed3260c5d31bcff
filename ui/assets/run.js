// Clicks on a run go to the server; a number beside a button goes with it. The address names the run that is
// shown and those beside it, so that a reload shows them again.
element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-act]');
  if (!button || !element.contains(button) || button.disabled) return;
  const typed = button.hasAttribute('data-number') ? '/' + button.parentElement.querySelector('input').value : '';
  trigger('act', { act: button.dataset.act, id: (button.dataset.id || '') + typed });
});
const shown = () => {
  const place = element.querySelector('[data-run]');
  return place && { run: place.dataset.run, with: place.dataset.with };
};
let before = shown();
const follow = () => {
  const now = shown();
  if (before && now) {
    const address = new URL(location.href);
    for (const [name, value] of Object.entries(now)) {
      if (value === undefined || value === before[name]) continue;
      if (value) address.searchParams.set(name, value); else address.searchParams.delete(name);
    }
    if (address.href !== location.href) history.replaceState(history.state, '', address);
  }
  before = now || before;
};
watch('value', follow);
// A log is read from its end.
const down = () => { const log = element.querySelector('pre.log'); if (log) log.scrollTop = log.scrollHeight; };
watch('value', down);
down();
