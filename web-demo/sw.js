// Service worker: after the first load the page works with the server gone. What is fresh comes from the server, else from here.
const KEEP = 'board-4';
const OWN = ['./', 'app.js', 'replica.js', 'cards.js', 'inbox.js', 'history.js', 'people.js', 'story.js', 'text.js', 'style.css', 'icon.svg', 'manifest.webmanifest'];
const PACKAGE = ['index.js', 'database.js', 'results.js', 'host.js', 'live.js', 'turn.js', 'line.js', 'fault.js', 'worker.js', 'memory.js', 'engine/piecewise_wasm.js', 'engine/piecewise_wasm_bg.wasm'];
const FILES = [...OWN, ...PACKAGE.map(name => `piecewise/${name}`)];

self.addEventListener('install', event => event.waitUntil(caches.open(KEEP).then(cache => cache.addAll(FILES)).then(() => self.skipWaiting())));
self.addEventListener('activate', event => event.waitUntil(
  caches.keys().then(keys => Promise.all(keys.filter(key => key !== KEEP).map(key => caches.delete(key)))).then(() => self.clients.claim())));
self.addEventListener('fetch', event => {
  const { request } = event;
  if (request.method !== 'GET' || new URL(request.url).origin !== location.origin) return;
  event.respondWith(fetch(request).then(
    async response => { if (response.ok) (await caches.open(KEEP)).put(request, response.clone()); return response; },
    async error => (await caches.match(request, { ignoreSearch: true })) ?? Promise.reject(error)));
});
