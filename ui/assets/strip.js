// One listener for the strip: enlarge is ours alone, everything else goes to the server as 'act'.
element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-act]');
  if (!button || !element.contains(button)) return;
  const box = element.querySelector('dialog.lightbox');
  if (button.dataset.act === 'zoom') {
    const image = box.querySelector('img');
    image.src = button.dataset.src;
    image.style.setProperty('--full', button.dataset.full + 'px');
    box.showModal();
    return;
  }
  trigger('act', { act: button.dataset.act, id: button.dataset.id || '' });
});
// Once the page has moved on from what it opened with, its address names what it shows, so that a reload shows it again.
const shown = () => ['group', 'run'].map((name) => [name, element.querySelector(`[data-${name}]`)?.dataset[name]])
  .find(([, id]) => id);
let before = shown();
watch('value', () => {
  const now = shown();
  if (before && now && now[1] !== before[1]) {
    const address = new URL(location.href);
    address.searchParams.set(...now);
    history.replaceState(history.state, '', address);
  }
  before = now || before;
});
element.addEventListener('click', (event) => {
  if (event.target.matches('dialog.lightbox, dialog.lightbox img')) event.target.closest('dialog').close();
});
