// The remembered shade before first paint; the secret of a link, which no server or proxy writes down.
(() => {
  let shade = null;
  try { shade = localStorage.getItem('studio-shade'); } catch (error) { /* private window */ }
  const dark = shade ? shade === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  document.documentElement.classList.toggle('dark', dark);
  addEventListener('DOMContentLoaded', () => {
    const link = document.querySelector('input[name="link"]');
    if (link && !link.value) link.value = location.hash.slice(1);
  });
})();
