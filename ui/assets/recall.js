// An image that is chosen, or dropped anywhere on the form, says how it was made; the form takes that over.
const form = () => element.querySelector('form.recall');
const say = (words) => { form().querySelector('output').textContent = words; };
const ask = async (file) => {
  if (!file || form().hasAttribute('aria-busy')) return;
  form().toggleAttribute('aria-busy', true);
  say('');
  const body = new FormData();
  body.append('file', file, file.name);
  try {
    const answer = await fetch('/recall', { method: 'POST', body });
    const told = await answer.json();
    if (answer.ok) trigger('act', { act: 'recall', id: JSON.stringify(told) }); else say(told.error || form().dataset.failed);
  } catch (error) {
    say(form().dataset.failed);
  }
  form().toggleAttribute('aria-busy', false);
};
element.addEventListener('change', (event) => {
  if (!event.target.matches('input[type=file]')) return;
  ask(event.target.files[0]);
  event.target.value = '';
});
element.addEventListener('submit', (event) => event.preventDefault());
const holdsFile = (event) => [...(event.dataTransfer?.types || [])].includes('Files');
const panel = element.closest('#panel');
panel.addEventListener('dragover', (event) => { if (holdsFile(event)) { event.preventDefault(); form().classList.add('over'); } });
panel.addEventListener('dragleave', (event) => { if (!panel.contains(event.relatedTarget)) form().classList.remove('over'); });
panel.addEventListener('drop', (event) => {
  if (!holdsFile(event)) return;
  event.preventDefault();
  form().classList.remove('over');
  ask(event.dataTransfer.files[0]);
});
