// Light or dark: follows the system until the button is pressed, then remembers.
element.addEventListener('click', (event) => {
  if (!event.target.closest('[data-act="shade"]')) return;
  const dark = document.body.classList.toggle('dark');
  try { localStorage.setItem('studio-shade', dark ? 'dark' : 'light'); } catch (error) { /* private window */ }
});
