// The page: two replicas of one board, each in a database of its own, as if they were two devices.
import { replica } from './replica.js';
import { bring, tell } from './story.js';

const DEVICES = [['board', 'Phone'], ['board-laptop', 'Laptop']];

const invites = new URLSearchParams(location.hash.slice(1)).get('invites')?.split(',') ?? [];
if (invites.length) history.replaceState(null, '', location.pathname);
const places = DEVICES.map(([name, title]) => place(name, title));
const show = document.getElementById('show');
let replicas = [];
const why = document.getElementById('why');
/** The story needs two devices and their server; what is missing is said. */
const mayShow = () => {
  const isTold = show.hasAttribute('aria-busy');
  const words = isTold ? '' : !replicas.length ? 'Opening …'
    : !replicas.every(one => one.joined()) ? 'It needs both devices: give each an invite first.'
      : replicas.some(one => one.isGone()) ? 'The server does not answer. It goes on when the server is back.' : '';
  show.disabled = isTold || words !== '';
  if (why.textContent !== words) why.textContent = words;
};
replicas = await Promise.all(places.map((section, n) => replica(section, ...DEVICES[n], invites[n], mayShow)));
window.boards = Object.fromEntries(replicas.map(({ name, db }) => [name, db]));
mayShow();
show.onclick = async () => {
  show.setAttribute('aria-busy', 'true');
  mayShow();
  try { await tell(replicas); } finally { show.removeAttribute('aria-busy'); mayShow(); }
};

navigator.serviceWorker?.register('sw.js');
document.body.dataset.ready = 'yes';

/** Where a device goes, and a way to it on a screen that has room for one. */
function place(name, title) {
  const section = document.getElementById('replica').content.firstElementChild.cloneNode(true);
  section.dataset.name = name;
  const heading = section.querySelector('h2');
  heading.id = `${name}-title`;
  section.setAttribute('aria-labelledby', heading.id);
  heading.textContent = title;
  document.getElementById('replicas').append(section);
  const button = Object.assign(document.createElement('button'), { type: 'button', textContent: title });
  button.dataset.name = name;
  button.onclick = () => bring(section);
  document.getElementById('pick').append(button);
  // Within their row: a device that is longer than the screen is never half in sight.
  new IntersectionObserver(seen => button.setAttribute('aria-pressed', seen.at(-1).intersectionRatio > 0.5), { root: document.getElementById('replicas'), threshold: [0.4, 0.6] }).observe(section);
  return section;
}
