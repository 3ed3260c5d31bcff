// The rating card: what is chosen, and its way to the server. Choices live here until they are sent; the server
// answers with the next card, and only then says "saved". One act is under way at a time: a key that comes before
// its answer was meant for the card that is still shown. rate_modes, rate_look and rate_input follow this file.
const PATIENCE_MS = 6000;
const STAY_MS = 120000;
const LOOK_MS = 3000;
const hex = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, '0')).join('');
const fresh = () => ({
  best: null, worst: null, none: false, stars: {}, rank: [], flags: {}, pair: null,
  focus: 0, other: 1, moved: false, marking: false, key: hex(), since: performance.now(), tried: false,
});
const KEPT = ['best', 'worst', 'none', 'stars', 'rank', 'flags', 'key', 'tried'];
const PLAIN = { keys: {}, modes: ['best', 'pair', 'stars', 'rank'], mode: 'best', auto: false, single: true };
let wanted = null; // the mode that the person is in; a card that was opened again has its own
let mode = 'best';
let task = null;
let now = fresh();
let underway = null;
let stayed = performance.now();

const shown = () => element.querySelector('.card');
const card = () => element.querySelector('.card[data-task]');
const choices = () => [...element.querySelectorAll('.choice[data-id]')];
const asks = (name) => element.querySelector(`dialog[data-asks="${name}"]`);
const say = (text) => { const line = element.querySelector('.saved'); if (line) line.textContent = text; };
let words = null;
const word = (name) => {
  words = words || JSON.parse(document.querySelector('#rate-words [data-words]').dataset.words);
  return words[name] || '';
};
const prefs = () => {
  const desk = document.querySelector('#desk .desk');
  try { return desk ? JSON.parse(desk.dataset.prefs) : PLAIN; } catch (error) { return PLAIN; }
};
const pairIds = () => (card().dataset.pair || '').split(' ').filter(Boolean);
const possible = () => prefs().modes.filter((one) => choices().length > 1 || one === 'best' || one === 'stars');

const remember = () => {
  const root = card();
  if (!root) return;
  const kept = Object.fromEntries(KEPT.map((name) => [name, now[name]]));
  try { sessionStorage.setItem('studio-rate-draft', JSON.stringify({ group: root.dataset.task, kept })); } catch (error) { /* private window */ }
};
const draft = (group) => {
  try {
    const found = JSON.parse(sessionStorage.getItem('studio-rate-draft') || 'null');
    return found && found.group === group ? found.kept : {};
  } catch (error) { return {}; }
};

// Every answer of the server ends the act that was under way, a refusal too.
function arrive() {
  underway = null;
  const root = card();
  if (!root) { task = shown() ? shown().dataset.turn : null; now = fresh(); hints(); return; }
  if (root.dataset.turn !== task) begin(root);
  if (!possible().includes(mode)) mode = possible()[0] || 'best';
  paint();
}

function begin(root) {
  const first = task === null; // a page that was just loaded: what was chosen before a reload is still wanted
  task = root.dataset.turn;
  now = fresh();
  const before = JSON.parse(root.dataset.before || '{}');
  Object.assign(now, Object.keys(before).length ? before : first ? draft(root.dataset.task) : {});
  mode = before.mode || wanted || prefs().mode;
  (root.dataset.next || '').split(' ').filter(Boolean).forEach((id) => { new Image().src = `/media/${id}.png`; });
}

// The desk comes with the page's first answer and after each choice made there.
document.addEventListener('studio-rate-prefs', () => {
  if (!element.isConnected) return;
  if (card() && !possible().includes(mode)) mode = possible().includes(prefs().mode) ? prefs().mode : possible()[0];
  if (wanted === null && card() && card().dataset.before === '{}') mode = prefs().mode;
  paint();
});

function send(act, more = {}) {
  if (underway) return;
  const root = card();
  if (act === 'submit' && !isReady()) { say(word(mode === 'rank' && now.rank.length ? 'rank_two' : 'pick')); return; }
  const mine = { act };
  underway = mine;
  now.tried = true;
  remember();
  say(word(act === 'undo' ? 'undoing' : act === 'go' ? '' : 'saving'));
  setTimeout(() => { if (underway === mine) { underway = null; say(word(`late_${act}`)); } }, PATIENCE_MS);
  trigger('answer', {
    act, group: root ? root.dataset.task : '', turn: Number(shown().dataset.turn), heard: Number(shown().dataset.heard),
    key: now.key, lead_ms: Math.round(performance.now() - now.since), ...said(), ...more,
  });
}

const isReady = () => Boolean(now.best || now.none || Object.keys(now.stars).length || ranked().flat().length > 1
  || now.pair || Object.values(now.flags).some((one) => one.flags.length));
const ranked = () => now.rank.filter((tied) => tied.length);
const said = () => ({
  best: now.best || '', worst: now.worst || '', none: now.none, stars: now.stars,
  pair: now.pair && card() ? { left: pairIds()[0], right: pairIds()[1], outcome: now.pair } : null,
  rank: now.none ? [choices().map((choice) => choice.dataset.id)] : ranked().flat().length > 1 ? ranked() : [],
  flags: Object.fromEntries(Object.entries(now.flags).filter(([, one]) => one.flags.length)),
});

// An answer that got lost may have been kept under its key: what is said differently now is said under another one.
function changed() {
  if (now.tried) { now.key = hex(); now.tried = false; }
  say('');
  remember();
  stay();
  paint();
}

// Whoever is still at it keeps the group for longer.
function stay() {
  if (!card() || performance.now() - stayed < STAY_MS) return;
  stayed = performance.now();
  trigger('stay', { group: card().dataset.task });
}

// An empty card asks for a group again and again; it says where it stands, since the server may be a new one.
const looking = setInterval(() => {
  if (!element.isConnected) { clearInterval(looking); return; }
  const root = shown();
  if (!root || !('waits' in root.dataset) || underway) return;
  trigger('look', { group: '', turn: Number(root.dataset.turn), heard: Number(root.dataset.heard) });
}, LOOK_MS);
