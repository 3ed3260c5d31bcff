// A chip puts its tag into the prompt, or takes it out; another tag of the same slot makes room.
element.addEventListener('click', (event) => {
  const chip = event.target.closest('[data-tag]');
  const box = document.querySelector('#prompt textarea');
  if (!chip || !box) return;
  const rivals = new Set([...element.querySelectorAll('[data-slot]')]
    .filter((other) => other.dataset.slot === chip.dataset.slot).map((other) => other.dataset.tag));
  const tags = box.value.split(',').map((tag) => tag.trim()).filter(Boolean);
  const had = tags.some((tag) => tag.toLowerCase() === chip.dataset.tag);
  const kept = tags.filter((tag) => !rivals.has(tag.toLowerCase()));
  if (!had) kept.push(chip.dataset.tag);
  if (!had && kept.length === 1) kept.unshift('portrait');
  Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, 'value').set.call(box, kept.join(', '));
  box.dispatchEvent(new Event('input', { bubbles: true }));
});
