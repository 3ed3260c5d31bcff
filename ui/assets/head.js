// Before first paint: the remembered shade. After: the keys that every page has.
(() => {
  const apply = () => {
    let shade = null;
    try { shade = localStorage.getItem('studio-shade'); } catch (error) { /* private window */ }
    if (shade) document.body.classList.toggle('dark', shade === 'dark');
  };
  document.addEventListener('DOMContentLoaded', () => {
    apply();
    let left = 40;
    const again = setInterval(() => { apply(); if (--left === 0) clearInterval(again); }, 100);
    document.addEventListener('click', (event) => {
      if (event.target.closest && event.target.closest('[data-act="shade"]')) clearInterval(again);
    }, true);
  });
  document.addEventListener('keydown', (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key === 'Enter') {
      const go = document.querySelector('#generate, #start-run');
      if (go) { event.preventDefault(); setTimeout(() => go.click(), 60); }
    }
    const typing = event.target.closest && event.target.closest('input, textarea, select, [contenteditable]');
    if (event.key === '/' && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      const box = document.querySelector('#prompt textarea');
      if (box) { event.preventDefault(); box.focus(); }
    }
  });
})();
