// Images dropped or chosen are sent in one form, folders as they are; how far it is stands in the line below.
const form = () => element.querySelector('form.drop');
const say = (words) => { form().querySelector('output').textContent = words; };
const busy = (is) => form().toggleAttribute('aria-busy', is);
const send = (files) => {
  if (!files.length || form().hasAttribute('aria-busy')) return;
  const body = new FormData();
  const typed = form().querySelector('[name=name]').value.trim();
  body.append('name', typed || files[0].path.split('/')[0].replace(/\.[a-z]+$/i, ''));
  for (const { file, path } of files) body.append('files', file, path);
  const call = new XMLHttpRequest();
  const home = form().dataset;
  busy(true);
  call.upload.addEventListener('progress', (event) => {
    if (event.lengthComputable) say(home.sending.replace('{percent}', Math.round(100 * event.loaded / event.total)));
  });
  call.addEventListener('loadend', () => {
    busy(false);
    let answer = {};
    try { answer = JSON.parse(call.responseText); } catch (error) { /* said below */ }
    if (call.status === 200 && answer.id) { say(''); trigger('act', { act: 'dataset', id: answer.id }); } else say(answer.error || home.failed);
  });
  call.open('POST', '/datasets');
  call.send(body);
};
const walk = (entry, found) => new Promise((done) => {
  if (entry.isFile) { entry.file((file) => { found.push({ file, path: entry.fullPath.slice(1) }); done(); }, done); return; }
  const reader = entry.createReader();
  const more = () => reader.readEntries(async (entries) => {
    if (!entries.length) { done(); return; }
    for (const one of entries) await walk(one, found);
    more();
  }, done);
  more();
});
element.addEventListener('dragover', (event) => { if (form()) { event.preventDefault(); form().classList.add('over'); } });
element.addEventListener('dragleave', () => form()?.classList.remove('over'));
element.addEventListener('drop', async (event) => {
  event.preventDefault();
  form().classList.remove('over');
  const found = [];
  const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
  for (const entry of entries) await walk(entry, found);
  send(found);
});
element.addEventListener('change', (event) => {
  if (!event.target.matches('input[type=file]')) return;
  send([...event.target.files].map((file) => ({ file, path: file.webkitRelativePath || file.name })));
  event.target.value = '';
});
element.addEventListener('submit', (event) => event.preventDefault());
