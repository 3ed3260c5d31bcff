// One script for every part of the page: links and forms that open a section change the address, all else is an act.
const query = (url) => Object.fromEntries(new URL(url, location.href).searchParams);
const fieldsOf = (form) => {
  const found = {};
  for (const [name, value] of new FormData(form)) found[name] = name in found ? `${found[name]} ${value}` : value;
  return found;
};

function open(url) {
  history.pushState(history.state, '', url);
  trigger('act', { act: 'open', id: '', fields: query(url) });
}

// A form with a file goes to a route of its own; how far it is, and why not, stands in its output.
function send(form) {
  const say = (words) => { form.querySelector('output').textContent = words; };
  if (form.hasAttribute('aria-busy')) return;
  const call = new XMLHttpRequest();
  form.setAttribute('aria-busy', 'true');
  call.upload.onprogress = (event) => say(`${form.dataset.sending} ${event.total ? Math.round(100 * event.loaded / event.total) : 0}%`);
  call.onloadend = () => {
    form.removeAttribute('aria-busy');
    let answer = {};
    try { answer = JSON.parse(call.responseText); } catch (error) { /* no answer of ours */ }
    if (call.status === 200) { form.reset(); say(form.dataset.sent); } else say(answer.error || form.dataset.unsent);
  };
  say(form.dataset.sending);
  call.open('POST', form.dataset.post);
  call.send(new FormData(form));
}

element.addEventListener('click', (event) => {
  if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  const link = event.target.closest('a[data-open]');
  if (link) { event.preventDefault(); open(link.href); return; }
  const button = event.target.closest('button[data-act]');
  if (button) trigger('act', { act: button.dataset.act, id: button.dataset.id || '', fields: {} });
});

element.addEventListener('submit', (event) => {
  event.preventDefault();
  const form = event.target;
  if (form.dataset.post) send(form);
  else if (form.dataset.act) trigger('act', { act: form.dataset.act, id: form.dataset.id || '', fields: fieldsOf(form) });
  else open(`${form.getAttribute('action')}?${new URLSearchParams(new FormData(form))}`);
});

// What a form with data-preview would mean is told while it is filled in, before anything is saved.
let waits = 0;
element.addEventListener('input', (event) => {
  const form = event.target.closest('form[data-preview]');
  if (!form) return;
  clearTimeout(waits);
  waits = setTimeout(() => trigger('act', { act: 'preview', id: '', fields: fieldsOf(form) }), 250);
});

// Back and forward; one part listens for all.
if (element.closest('#team-nav')) {
  const back = () => {
    if (!element.isConnected) { window.removeEventListener('popstate', back); return; }
    trigger('act', { act: 'open', id: '', fields: query(location.href) });
  };
  window.addEventListener('popstate', back);
}
watch('value', () => { const part = element.querySelector('[data-focus]'); if (part) part.focus(); });
