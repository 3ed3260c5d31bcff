// The blind card. Both images appear together once both are there, so that no delay tells whose they are. One act is
// under way at a time: a key that comes before its answer was meant for the pair that is still shown.
const PATIENCE_MS = 6000;
let shown = null; // the pair on the card
let now = null; // { key, since }: since when it can be seen
let underway = null;

const card = () => element.querySelector('.blind');
const sides = () => element.querySelector('.sides');
const say = (text) => { const line = element.querySelector('.saved'); if (line) line.textContent = text; };
const isReady = () => Boolean(sides() && sides().classList.contains('ready'));

async function appear(pair) {
  const images = [...element.querySelectorAll('.sides img')];
  try {
    await Promise.all(images.map((image) => image.decode()));
  } catch (error) {
    if (shown === pair && card()) say(card().dataset.broken);
    return;
  }
  if (shown !== pair || !sides()) return;
  sides().classList.add('ready');
  now.since = performance.now();
  (card().dataset.next || '').split(' ').filter(Boolean).forEach((address) => { new Image().src = address; });
}

// Every answer of the server ends the act that was under way, a refusal too.
function arrive() {
  underway = null;
  const root = card();
  const pair = root ? root.dataset.pair || null : null;
  if (pair && pair === shown && now) { appear(pair); return; }
  shown = pair;
  now = { key: crypto.randomUUID(), since: null };
  if (pair) appear(pair);
}

function send(act, answer) {
  const root = card();
  if (!root || underway) return;
  if (act === 'vote' && !(isReady() || answer === 'skip')) return;
  const mine = {};
  underway = mine;
  say(root.dataset.saving);
  setTimeout(() => { if (underway === mine) { underway = null; say(root.dataset.late); } }, PATIENCE_MS);
  trigger('answer', {
    act, answer: answer || '', test: root.dataset.test, pair: root.dataset.pair || '',
    key: act === 'vote' ? voteKey(answer) : crypto.randomUUID(),
    lead_ms: now && now.since ? Math.round(performance.now() - now.since) : 0,
  });
}

// The same answer once more has the same key and counts once; another answer is another act.
function voteKey(answer) {
  if (now.answer !== undefined && now.answer !== answer) now.key = crypto.randomUUID();
  now.answer = answer;
  return now.key;
}

function toggle(name, on) {
  if (!isReady()) return;
  const is = sides().classList.toggle(name, on);
  const button = element.querySelector(`[data-do="${name}"]`);
  if (button) button.setAttribute('aria-pressed', String(is));
}

element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-answer], [data-do]');
  if (!button) return;
  if (button.dataset.answer) send('vote', button.dataset.answer);
  else if (button.dataset.do === 'undo' || button.dataset.do === 'reveal') send(button.dataset.do);
  else toggle(button.dataset.do);
});

// Zoomed, both images show the place under the pointer.
element.addEventListener('pointermove', (event) => {
  const frame = event.target.closest && event.target.closest('.sides.zoom .frame');
  if (!frame) return;
  const box = frame.getBoundingClientRect();
  sides().style.setProperty('--x', `${(100 * (event.clientX - box.left)) / box.width}%`);
  sides().style.setProperty('--y', `${(100 * (event.clientY - box.top)) / box.height}%`);
});

const ANSWERS = { arrowleft: 'left', a: 'left', arrowright: 'right', d: 'right', t: 'tie', b: 'bad', s: 'skip' };
const isOurs = (event) => !event.ctrlKey && !event.metaKey && !event.altKey
  && !(event.target.closest && event.target.closest('input, textarea, select, [contenteditable], dialog'));

const onKey = (event) => {
  if (!element.isConnected) { document.removeEventListener('keydown', onKey); return; }
  if (!isOurs(event)) return;
  const key = event.key.toLowerCase();
  if (key === ' ') {
    if (event.target.closest && event.target.closest('a, button, summary')) return;
    if (!event.repeat) toggle('flip', true);
  } else if (event.repeat) return;
  else if (key === 'u' || key === 'backspace') send('undo');
  else if (key === 'z') toggle('zoom');
  else if (ANSWERS[key] && card() && card().dataset.pair) send('vote', ANSWERS[key]);
  else return;
  event.preventDefault();
};
const onKeyUp = (event) => {
  if (!element.isConnected) { document.removeEventListener('keyup', onKeyUp); return; }
  const isPress = event.target.closest && event.target.closest('a, button, summary');
  if (event.key === ' ' && isOurs(event) && !isPress) toggle('flip', false);
};
document.addEventListener('keydown', onKey);
document.addEventListener('keyup', onKeyUp);
watch('value', arrive);
arrive();
