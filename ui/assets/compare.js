// The slider moves here alone; a click on a cell goes to the server. Holding Space shows the other image in full.
const pair = () => element.querySelector('.pair');
element.addEventListener('input', (event) => {
  if (event.target.matches('.cut') && pair()) pair().style.setProperty('--cut', event.target.value + '%');
});
element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-act]');
  if (button) trigger('act', { act: button.dataset.act, id: button.dataset.id || '' });
});
const flip = (on) => (event) => {
  if (event.key !== ' ' || !pair()) return;
  if (event.target.closest && event.target.closest('input:not(.cut), textarea, select, button.btn, [contenteditable]')) return;
  event.preventDefault();
  pair().classList.toggle('flip', on);
};
document.addEventListener('keydown', flip(true));
document.addEventListener('keyup', flip(false));
