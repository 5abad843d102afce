// Turn: work that waits until others have had their turn.

/** Runs work after what waits already; a timer would wait 4 ms. */
export const yieldTo = globalThis.setImmediate ?? (() => {
  const { port1, port2 } = new MessageChannel();
  const queue = [];
  port1.onmessage = () => queue.shift()();
  return work => { queue.push(work); port2.postMessage(null); };
})();
