// A click on a curve opens it large; there a slider, or the pointer, reads its values. Clicks on the legend go to
// the server.
element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-act]');
  if (button) { trigger('act', { act: button.dataset.act, id: button.dataset.id || '' }); return; }
  const figure = event.target.closest('.curve');
  if (figure && event.target.closest('.open')) enlarge(figure);
});
const MARGIN = 4 / 300;
const part = (tag, name, text) => {
  const made = document.createElement(tag);
  made.className = name;
  if (text !== undefined) made.textContent = text;
  return made;
};
let box = null, title = null, at = null;
const near = (points, update) => points.reduce((best, point) => (
  !best || Math.abs(point[0] - update) < Math.abs(best[0] - update) ? point : best), null);
const exact = (points, update) => points.find((point) => point[0] === update);
const words = (figure, series, update) => {
  const home = figure.closest('.curves').dataset;
  const names = (figure.dataset.names || '').split('\n');
  const own = exact(series.line, update), spread = exact(series.spread, update), beside = exact(series.dashed, update);
  const parts = [home.update.replace('{n}', update)];
  if (own) parts.push((series.others.length ? names[0] + ': ' : '') + own[1] + (spread ? ' ± ' + spread[1] : ''));
  if (beside) parts.push(home.beside + ' ' + beside[1]);
  series.others.forEach((other, index) => {
    const there = exact(other, update);
    if (there) parts.push(names[index + 1] + ': ' + there[1]);
  });
  return parts.join(' · ');
};
const enlarge = (figure) => {
  if (box) box.remove();
  title = figure.querySelector('figcaption span').textContent;
  const series = JSON.parse(figure.dataset.series);
  const all = [series.line, series.dashed, ...series.others];
  const steps = [...new Set(all.flatMap((points) => points.map((point) => point[0])))].sort((a, b) => a - b);
  box = part('dialog', 'curvebox');
  box.setAttribute('aria-label', title);
  const plot = part('div', 'plot curve'), cursor = part('i', 'cursor'), read = part('p', 'read');
  read.setAttribute('role', 'status');
  plot.append(figure.querySelector('svg').cloneNode(true), cursor);
  const slide = part('input', 'slide');
  Object.assign(slide, { type: 'range', min: 0, max: steps.length - 1, step: 1 });
  slide.setAttribute('aria-label', figure.closest('.curves').dataset.slide);
  const close = part('button', 'btn', figure.closest('.curves').dataset.close);
  close.type = 'button';
  close.addEventListener('click', () => box.close());
  const show = (index) => {
    const update = steps[index];
    at = update;
    slide.value = index;
    const across = series.last > series.first ? (update - series.first) / (series.last - series.first) : 0;
    cursor.style.left = 100 * (MARGIN + (1 - 2 * MARGIN) * across) + '%';
    read.textContent = words(figure, series, update);
    slide.setAttribute('aria-valuetext', read.textContent);
  };
  slide.addEventListener('input', () => show(+slide.value));
  plot.addEventListener('pointermove', (event) => {
    const frame = plot.getBoundingClientRect();
    const share = ((event.clientX - frame.left) / frame.width - MARGIN) / (1 - 2 * MARGIN);
    const update = near(steps.map((step) => [step]), series.first + share * (series.last - series.first))[0];
    show(steps.indexOf(update));
  });
  box.append(part('h2', 'title', title), plot, slide, read,
    part('p', 'note', [...figure.querySelectorAll('.ends span')].map((one) => one.textContent).join(' · ')), close);
  box.addEventListener('close', () => { box.remove(); box = null; });
  box.addEventListener('click', (event) => { if (event.target === box) box.close(); });
  element.append(box);
  box.showModal();
  slide.focus();
  show(at !== null && steps.includes(at) ? steps.indexOf(at) : steps.length - 1);
};
// The address names the runs beside.
const beside = () => element.querySelector('[data-run]')?.dataset;
let before = beside() && { ...beside() };
watch('value', () => {
  const now = beside();
  if (before && now && now.with !== before.with) {
    const address = new URL(location.href);
    if (now.with) address.searchParams.set('with', now.with); else address.searchParams.delete('with');
    if (now.with && !address.searchParams.get('run')) address.searchParams.set('run', now.run);
    history.replaceState(history.state, '', address);
  }
  before = now ? { ...now } : before;
  if (title && !element.querySelector('dialog.curvebox[open]') && box) {
    const figure = [...element.querySelectorAll('.curve')].find((one) => one.querySelector('figcaption span').textContent === title && one.dataset.series);
    box = null;
    if (figure) enlarge(figure);
  }
});
