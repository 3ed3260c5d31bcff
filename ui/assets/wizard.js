// The steps of a new run turn here alone, and the address remembers the one that is open.
const panel = element.closest('#panel');
const last = element.querySelectorAll('[data-goto]').length;
const open = (step) => {
  const now = Math.min(last, Math.max(1, step || 1));
  panel.dataset.step = now;
  for (const button of element.querySelectorAll('[data-goto]')) {
    if (+button.dataset.goto === now) button.setAttribute('aria-current', 'step'); else button.removeAttribute('aria-current');
  }
  const address = new URL(location.href);
  if (now > 1) address.searchParams.set('step', now); else address.searchParams.delete('step');
  if (address.href !== location.href) history.replaceState(history.state, '', address);
  // Fields that were built out of sight know their height only once they are seen.
  for (const box of panel.querySelectorAll('textarea')) box.dispatchEvent(new Event('resize'));
};
panel.addEventListener('click', (event) => {
  const go = event.target.closest('[data-goto]');
  const turn = event.target.closest('[data-turn]');
  if (go) open(+go.dataset.goto);
  if (turn) open(+panel.dataset.step + +turn.dataset.turn);
});
open(+new URL(location.href).searchParams.get('step'));
