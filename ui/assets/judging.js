// The judging tabs: a button with data-act goes to the server; what is shown stands in the address, so that a reload
// or somebody else finds it again.
element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-act]');
  if (button && !button.disabled) trigger('act', { act: button.dataset.act, id: button.dataset.id || '' });
});
const place = () => {
  const here = element.querySelector('[data-address]');
  if (!here) return;
  const address = new URL(location.href);
  new URLSearchParams(here.dataset.address).forEach((value, name) => {
    if (value) address.searchParams.set(name, value); else address.searchParams.delete(name);
  });
  if (address.href !== location.href) history.replaceState(history.state, '', address);
};
watch('value', place);
place();
