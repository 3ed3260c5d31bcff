// The slider moves through time here alone: every image has its addresses with it. What was chosen stays when a
// new grid comes; at the newest one it follows.
let chosen = null; // the update that somebody moved to
const slider = () => element.querySelector('input[type=range]');
const updates = () => slider().dataset.updates.split(' ');
const show = (index) => {
  const words = slider().getAttribute('aria-valuetext').replace(/\d+/, updates()[index]);
  slider().setAttribute('aria-valuetext', words);
  element.querySelector('.time output').textContent = words;
  for (const image of element.querySelectorAll('.now img')) {
    const urls = image.dataset.urls.split(' ');
    if (image.getAttribute('src') !== urls[index]) image.src = urls[index];
    for (const near of [urls[index - 1], urls[index + 1]]) if (near) new Image().src = near;
  }
};
element.addEventListener('input', (event) => {
  if (event.target !== slider()) return;
  const index = +slider().value;
  chosen = index === updates().length - 1 ? null : updates()[index];
  show(index);
});
let run = element.querySelector('[data-of]')?.dataset.of;
let isOpen = false;
element.addEventListener('toggle', (event) => { if (event.target.matches('details')) isOpen = event.target.open; }, true);
watch('value', () => {
  const now = element.querySelector('[data-of]')?.dataset.of;
  if (now !== run) { chosen = null; isOpen = false; }
  run = now;
  const all = element.querySelector('details');
  if (all && isOpen) all.open = true;
  if (!slider() || chosen === null) return;
  const index = updates().indexOf(chosen);
  if (index >= 0) { slider().value = index; show(index); }
});
