// Before first paint: the remembered shade. After: the keys that every page has.
(() => {
  const apply = () => {
    let shade = null;
    try { shade = localStorage.getItem('studio-shade'); } catch (error) { /* private window */ }
    if (shade) document.body.classList.toggle('dark', shade === 'dark');
  };
  const seen = new Set();
  const showWhereWeAre = () => { // on a phone the row of pages is wider than the screen
    for (const row of document.querySelectorAll('.topbar, nav.tabs')) {
      const here = row.querySelector('[aria-current]');
      if (!here || seen.has(row)) continue;
      seen.add(row);
      row.scrollLeft = here.offsetLeft + here.offsetWidth / 2 - row.clientWidth / 2;
    }
  };
  const remember = () => {
    apply();
    let left = 40;
    const again = setInterval(() => { apply(); showWhereWeAre(); if (--left === 0) clearInterval(again); }, 100);
    document.addEventListener('click', (event) => {
      if (event.target.closest && event.target.closest('[data-act="shade"]')) clearInterval(again);
    }, true);
  };
  if (document.body) remember(); else addEventListener('DOMContentLoaded', remember); // Gradio may add this late
  const asked = window.fetch; // a session that ended is noticed by whichever request comes next
  window.fetch = async (...what) => {
    const answer = await asked(...what);
    const to = new URL(answer.url || '', location.href);
    if (answer.status === 401 && to.origin === location.origin) {
      location.assign('/login?back=' + encodeURIComponent(location.pathname + location.search));
    }
    return answer;
  };
  const help = () => {
    const box = document.querySelector('dialog.help');
    if (box) { if (box.open) box.close(); else box.showModal(); }
  };
  const pages = { s: '/', r: '/rate', c: '/compare', t: '/train', l: '/library', m: '/team' };
  let led = -Infinity; // when "g" was pressed; a page that has just opened has heard nothing yet
  document.addEventListener('studio-keys', help);
  document.addEventListener('click', (event) => {
    if (event.target.matches && event.target.matches('dialog.help, dialog.help [data-close]')) event.target.closest('dialog').close();
  });
  document.addEventListener('keydown', (event) => {
    const isBare = !event.ctrlKey && !event.metaKey && !event.altKey;
    if (!isBare && event.key === 'Enter') {
      const go = document.querySelector('[data-go], #generate, #start-run');
      if (go) { event.preventDefault(); setTimeout(() => go.click(), 60); }
    }
    const typing = event.target.closest && event.target.closest('input, textarea, select, [contenteditable]');
    if (typing || !isBare) return;
    const led_to = performance.now() - led < 1200 ? pages[event.key.toLowerCase()] : undefined;
    led = event.key === 'g' ? performance.now() : -Infinity;
    if (led_to) { event.preventDefault(); event.stopImmediatePropagation(); location.assign(led_to); return; }
    if (event.key === '?') { event.preventDefault(); help(); }
    if (event.key === '/') {
      const box = document.querySelector('#prompt textarea');
      if (box) { event.preventDefault(); box.focus(); }
    }
  }, true);
})();
