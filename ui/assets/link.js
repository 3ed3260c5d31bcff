// A link to copy is shown whole, with the address of this studio; it is for somebody else to open.
watch('value', () => {
  for (const link of element.querySelectorAll('a[data-link]')) link.textContent = link.href;
});
