// Light or dark: follows the system until the button is pressed, then remembers.
element.addEventListener('click', (event) => {
  if (event.target.closest('[data-act="keys"]')) { document.dispatchEvent(new Event('studio-keys')); return; }
  if (!event.target.closest('[data-act="shade"]')) return;
  const dark = document.body.classList.toggle('dark');
  try { localStorage.setItem('studio-shade', dark ? 'dark' : 'light'); } catch (error) { /* private window */ }
});

// Who sits here: a menu that closes on a click elsewhere and on Escape, and stays open when the bar is drawn anew.
let isOpen = false;
let focused = -1; // its place among summary and buttons
const menu = () => element.querySelector('.who');
const stops = () => [...element.querySelectorAll('.who summary, .who :is(a, button)')];
const close = (back) => {
  if (!menu() || !menu().open) return;
  menu().open = isOpen = false;
  if (back) stops()[0].focus();
};
element.addEventListener('click', (event) => { if (event.target.closest('.who summary')) isOpen = !menu().open; });
element.addEventListener('focusin', (event) => { focused = stops().indexOf(event.target); });
element.addEventListener('submit', (event) => {
  const back = event.target.querySelector('[name=back]');
  if (back) back.value = location.pathname + location.search;
});
element.addEventListener('keydown', (event) => {
  const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const place = stops().indexOf(event.target);
  if (!by || place < 0 || !menu().open) return;
  event.preventDefault();
  stops()[(place + by + stops().length) % stops().length].focus();
});
const onClick = (event) => { if (menu() && !menu().contains(event.target)) close(false); };
const onKey = (event) => {
  if (!element.isConnected) {
    document.removeEventListener('click', onClick);
    document.removeEventListener('keydown', onKey, true);
    return;
  }
  if (event.key !== 'Escape' || !menu() || !menu().open) return;
  event.stopPropagation();
  close(menu().contains(document.activeElement) || document.activeElement === document.body);
};
document.addEventListener('click', onClick);
document.addEventListener('keydown', onKey, true);
let left = 0; // on a phone the bar is wider than the screen: drawn anew it stays where it was pushed
element.addEventListener('scroll', (event) => { if (event.target.matches('.topbar')) left = event.target.scrollLeft; }, true);
const keep = () => {
  const bar = element.querySelector('.topbar');
  if (bar && bar.scrollLeft !== left) bar.scrollLeft = left;
  if (!isOpen || !menu() || menu().open) return;
  menu().open = true;
  if (document.activeElement === document.body && stops()[focused]) stops()[focused].focus();
};
new MutationObserver(keep).observe(element, { childList: true, subtree: true });
