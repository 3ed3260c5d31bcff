// The search of the history. Typing waits for a pause; the address always says what is sought.
const NAMES = ['q', 'by', 'reward', 'min', 'max', 'rating', 'flag', 'from', 'to', 'board'];
const form = () => element.querySelector('form');
let timer = 0;

function send() {
  clearTimeout(timer);
  const typed = Object.fromEntries(NAMES.map((name) => [name, form().elements[name]?.value ?? '']));
  const address = new URL(location.href);
  NAMES.forEach((name) => { if (typed[name]) address.searchParams.set(name, typed[name]); else address.searchParams.delete(name); });
  address.searchParams.delete('before');
  history.replaceState(history.state, '', String(address).replaceAll('+', '%20'));
  trigger('act', { act: 'search', ...typed });
}

element.addEventListener('input', (event) => {
  clearTimeout(timer);
  timer = setTimeout(send, event.target.matches('select, [type=date]') ? 0 : 350);
});
element.addEventListener('submit', (event) => { event.preventDefault(); send(); });
element.addEventListener('click', (event) => {
  if (!event.target.closest('[data-clear]')) return;
  NAMES.forEach((name) => { if (form().elements[name]) form().elements[name].value = ''; });
  send();
});
