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
element.addEventListener('click', (event) => {
  if (event.target.matches('dialog.lightbox, dialog.lightbox img')) event.target.closest('dialog').close();
});
