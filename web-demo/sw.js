// Service worker: after the first load the page works with the server gone. What is fresh comes from the server, else from here;
// what has a version in its address never changes, and comes from here at once.
const VERSION = ''; // the server has it here
const KEEP = `board-${VERSION}`;
const FOLDER = `v/${VERSION}/`;
const BY_NAME = ['./', 'icon.svg', 'manifest.webmanifest'];
const OWN = ['app.js', 'replica.js', 'cards.js', 'inbox.js', 'history.js', 'people.js', 'story.js', 'text.js', 'style.css'];
const PACKAGE = ['index.js', 'database.js', 'results.js', 'host.js', 'live.js', 'turn.js', 'line.js', 'fault.js', 'worker.js', 'memory.js', 'engine/piecewise_wasm.js', 'engine/piecewise_wasm_bg.wasm'];
const FILES = [...BY_NAME, ...[...OWN, ...PACKAGE.map(name => `piecewise/${name}`)].map(name => FOLDER + name)];
const UNCHANGING = new URL(FOLDER, location.href).href;

self.addEventListener('install', event => event.waitUntil(caches.open(KEEP).then(cache => cache.addAll(FILES)).then(() => self.skipWaiting())));
self.addEventListener('activate', event => event.waitUntil(
  caches.keys().then(keys => Promise.all(keys.filter(key => key !== KEEP).map(key => caches.delete(key)))).then(() => self.clients.claim())));
self.addEventListener('fetch', event => {
  const { request } = event;
  if (request.method !== 'GET' || new URL(request.url).origin !== location.origin) return;
  const kept = () => caches.match(request, { ignoreSearch: true });
  const fresh = async () => {
    const response = await fetch(request);
    if (response.ok) (await caches.open(KEEP)).put(request, response.clone());
    return response;
  };
  event.respondWith(request.url.startsWith(UNCHANGING)
    ? kept().then(response => response ?? fresh())
    : fresh().catch(async error => (await kept()) ?? Promise.reject(error)));
});
