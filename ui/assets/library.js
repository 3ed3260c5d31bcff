// The library: its address says what it shows. Links and forms with data-nav change the address; forms and buttons with
// data-act ask the server to do something. What was typed stays until the server has taken it, whatever is redrawn.
const root = () => element.querySelector('.library');
const typed = new Map(); // form, field and value of a box -> what stands in it
const opened = new Map(); // key of a <details> -> whether it is open
let pending = null; // the form whose answer is awaited
let turn = root()?.dataset.turn;
let sending = null; // the upload that is under way

const keyOf = (field) => {
  const form = field.closest('form[data-keep]');
  const box = ['checkbox', 'radio'].includes(field.type);
  return form && field.name ? `${form.dataset.keep}/${field.name}${box ? `/${field.value}` : ''}` : null;
};
const note = (field) => {
  const key = keyOf(field);
  if (!key) return;
  if (field.type === 'file') { typed.set(key, field.files); return; }
  if (field.type === 'radio') [...field.form.elements].filter((one) => one.name === field.name).forEach((one) => typed.set(keyOf(one), one.checked));
  else typed.set(key, field.type === 'checkbox' ? field.checked : field.value);
};
const count = () => {
  const boxes = [...element.querySelectorAll('input[name="images"]:checked')];
  element.querySelectorAll('[data-chosen]').forEach((place) => { place.textContent = boxes.length; });
  element.querySelectorAll('[data-needs-chosen]').forEach((button) => { button.disabled = boxes.length === 0; });
};

function restore() {
  element.querySelectorAll('form[data-keep] :is(input, textarea, select)').forEach((field) => {
    const kept = typed.get(keyOf(field));
    if (kept === undefined) return;
    if (field.type === 'file') { field.files = kept; return; }
    if (['checkbox', 'radio'].includes(field.type)) field.checked = kept; else field.value = kept;
  });
  element.querySelectorAll('details[data-keep]').forEach((one) => {
    if (opened.has(one.dataset.keep)) one.open = opened.get(one.dataset.keep);
  });
  const dialog = element.querySelector('dialog[data-open]');
  if (dialog && !dialog.open) dialog.showModal();
  count();
}

function go(query, keep) {
  const address = `/library${query ? `?${query}` : ''}`;
  if (!keep) history.pushState({}, '', address);
  trigger('go', { query });
}
const here = () => location.search.slice(1);
const isHere = (query) => new URLSearchParams(query).toString() === new URLSearchParams(here()).toString();

function arrive(focused) {
  const now = root();
  if (!now) return;
  if (turn === undefined) turn = now.dataset.turn;
  else if (now.dataset.turn !== turn) {
    turn = now.dataset.turn;
    [...typed.keys()].filter((key) => pending && key.startsWith(`${pending}/`)).forEach((key) => typed.delete(key));
    pending = null;
    if (!isHere(now.dataset.query)) history.pushState({}, '', `/library?${now.dataset.query}`);
  } else if (!isHere(now.dataset.query)) {
    trigger('go', { query: here() }); // an older answer came late
    return;
  }
  restore();
  const again = focused && element.querySelector(`#${CSS.escape(focused)}`);
  if (again) again.focus({ preventScroll: true });
}

function send(act, fields, form) {
  pending = form ? form.dataset.keep : null;
  trigger('act', { act, fields, query: here() });
}

function fieldsOf(form, submitter) {
  const fields = {};
  new FormData(form, submitter).forEach((value, name) => {
    if (typeof value !== 'string') return;
    if (name in fields) fields[name] = [].concat(fields[name], value); else fields[name] = value;
  });
  return fields;
}

element.addEventListener('click', (event) => {
  const link = event.target.closest('a[data-nav]');
  if (link && !event.ctrlKey && !event.metaKey && !event.shiftKey && event.button === 0) {
    event.preventDefault();
    go(new URL(link.href).search.slice(1));
    if (link.dataset.top !== undefined) scrollTo(0, 0);
    return;
  }
  const button = event.target.closest('button[data-act]');
  if (button && !button.form) { send(button.dataset.act, { ...button.dataset }, button.closest('form')); return; }
  if (event.target.closest('[data-close]') || event.target.matches('dialog.detail')) element.querySelector('dialog.detail')?.close();
  const copy = event.target.closest('[data-copy]');
  if (copy) {
    navigator.clipboard.writeText(element.querySelector(copy.dataset.copy).textContent).then(
      () => { copy.textContent = copy.dataset.copied; }, () => { copy.textContent = copy.dataset.refused; });
  }
});
element.addEventListener('close', (event) => {
  if (event.target.matches('dialog.detail')) go(event.target.dataset.back);
}, true);
element.addEventListener('submit', (event) => {
  const form = event.target;
  if (!form.matches('[data-nav], [data-act], [data-post]')) return;
  event.preventDefault();
  if (form.dataset.post) { post(form); return; }
  const fields = fieldsOf(form, event.submitter);
  if (form.dataset.act) { send(form.dataset.act, fields, form); return; }
  const given = Object.entries(fields).filter(([, value]) => String(value).trim() !== '');
  go(new URLSearchParams(given).toString());
});
element.addEventListener('input', (event) => { note(event.target); count(); });
element.addEventListener('change', (event) => {
  note(event.target);
  count();
  if (event.target.matches('[data-submits]')) event.target.form.requestSubmit();
  if (event.target.matches('input[type=file][data-into]')) readFile(event.target);
});
element.addEventListener('toggle', (event) => {
  if (event.target.matches('details[data-keep]')) opened.set(event.target.dataset.keep, event.target.open);
}, true);

// A chosen file becomes text in the box, where it can be looked at before it is sent.
async function readFile(input) {
  const [file] = input.files;
  const form = input.form;
  const said = form.querySelector('[data-file-said]');
  if (!file) return;
  if (file.size > Number(input.dataset.most)) { said.textContent = input.dataset.large; input.value = ''; return; }
  let text;
  try { text = new TextDecoder('utf-8', { fatal: true }).decode(await file.arrayBuffer()); } catch (error) {
    said.textContent = input.dataset.binary; input.value = ''; return;
  }
  said.textContent = '';
  const put = (name, value) => { const field = form.elements[name]; if (field) { field.value = value; note(field); } };
  put(input.dataset.into, text);
  put('file', file.name);
  if (form.elements.name && !form.elements.name.value) put('name', file.name.replace(/\.[^.]+$/, ''));
}

// A form with files goes to a route of its own, with its progress; what became of it stands in the list then.
function post(form) {
  const say = (text) => { const place = element.querySelector(`form[data-keep="${form.dataset.keep}"] [data-file-said]`); if (place) place.textContent = text; };
  if (sending) return;
  sending = new XMLHttpRequest();
  sending.upload.onprogress = (event) => say(`${form.dataset.sending} ${event.total ? Math.round(100 * event.loaded / event.total) : 0}%`);
  sending.onloadend = () => {
    let answer = null;
    try { answer = JSON.parse(sending.responseText); } catch (error) { /* no answer of ours */ }
    const is_kept = sending.status === 200;
    sending = null;
    say(is_kept ? '' : answer?.error || form.dataset.unsent);
    if (!is_kept) return;
    [...typed.keys()].filter((key) => key.startsWith(`${form.dataset.keep}/`)).forEach((key) => typed.delete(key));
    trigger('go', { query: here(), words: form.dataset.sent });
  };
  say(form.dataset.sending);
  sending.open('POST', form.dataset.post);
  sending.send(new FormData(form));
}

addEventListener('popstate', () => { if (element.isConnected) go(here(), true); });
let focused = null;
element.addEventListener('focusin', (event) => { focused = event.target.id || null; });
watch('value', () => arrive(focused));
restore();
