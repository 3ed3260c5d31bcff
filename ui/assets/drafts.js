// What was typed outlives a reload, also the one that comes by itself when the server was started again.
(() => {
  const SECONDS = 1800;
  const key = () => 'studio-draft ' + location.pathname + location.search;
  const fields = () => [...document.querySelectorAll('.gradio-container [id] textarea, .gradio-container [id] input')]
    .filter((field) => field.matches('textarea, input[type="text"], input[type="number"]') && !field.readOnly
      && !field.closest('.html-container, [role="listbox"], .secondary-wrap'));
  const place = (field) => field.closest('.block[id]')?.id || '';
  const keep = () => {
    const typed = {};
    fields().forEach((field) => { if (place(field) && field.dataset.typed) typed[place(field)] = field.value; });
    if (!Object.keys(typed).length) return;
    try { sessionStorage.setItem(key(), JSON.stringify({ at: Date.now(), typed })); } catch (error) { /* private window */ }
  };
  const put = (field, value) => {
    const kind = field.tagName === 'TEXTAREA' ? HTMLTextAreaElement : HTMLInputElement;
    Object.getOwnPropertyDescriptor(kind.prototype, 'value').set.call(field, value);
    field.dataset.typed = 'yes';
    field.dispatchEvent(new Event('input', { bubbles: true }));
    field.dispatchEvent(new Event('change', { bubbles: true }));
  };
  const restore = () => {
    let kept = null;
    try { kept = JSON.parse(sessionStorage.getItem(key()) || 'null'); } catch (error) { return; }
    if (!kept || Date.now() - kept.at > 1000 * SECONDS) return;
    const left = new Map(Object.entries(kept.typed));
    let turns = 60; // fields appear as Gradio mounts them, and a load handler may fill them once more
    const again = setInterval(() => {
      fields().forEach((field) => {
        const id = place(field);
        if (left.has(id) && field.value !== left.get(id) && !field.matches(':focus')) put(field, left.get(id));
      });
      if (--turns === 0) clearInterval(again);
    }, 100);
    const stop = () => clearInterval(again);
    document.addEventListener('keydown', stop, { once: true, capture: true });
    document.addEventListener('pointerdown', stop, { once: true, capture: true });
  };
  document.addEventListener('input', (event) => {
    if (event.target.matches && event.target.matches('textarea, input')) {
      event.target.dataset.typed = 'yes';
      keep();
    }
  }, true);
  addEventListener('pagehide', keep);
  if (performance.getEntriesByType('navigation')[0]?.type === 'reload') restore();
  else try { sessionStorage.removeItem(key()); } catch (error) { /* private window */ }
})();
