// Firefox, driven by WebDriver BiDi, which it speaks itself: what the tests need of it, and no more.
import { spawn } from 'node:child_process';
import { WebSocket } from 'ws';
import { atEnd } from './lib.mjs';

/** Starts Firefox with a profile of its own; `open(url)` gives pages, `kill()` ends it as a crash would. */
export async function firefox(t, profile) {
  const program = process.env.FIREFOX ?? 'firefox-esr';
  const child = spawn(program, ['--headless', '--no-remote', '--remote-debugging-port=0', '--profile', profile], { env: { ...process.env, HOME: profile } });
  const gone = new Promise(resolve => child.on('exit', resolve));
  atEnd(t, async () => { child.kill(); await gone; });
  const address = await new Promise((resolve, reject) => {
    let said = '';
    child.stderr.on('data', text => {
      said += text;
      const found = /WebDriver BiDi listening on (ws:\S+)/.exec(said)?.[1];
      if (found) resolve(found);
    });
    child.on('error', reject);
    child.on('exit', () => reject(new Error(`Firefox ended: ${said}`)));
  });
  const socket = new WebSocket(`${address}/session`);
  await new Promise((resolve, reject) => { socket.on('open', resolve); socket.on('error', reject); });
  socket.on('error', () => {}); // it is killed at the end
  const waiting = new Map();
  let next = 0;
  socket.on('message', data => {
    const { id, type, result, message } = JSON.parse(data);
    const one = waiting.get(id);
    waiting.delete(id);
    type === 'error' ? one?.reject(new Error(message)) : one?.resolve(result);
  });
  const send = (method, params = {}) => new Promise((resolve, reject) => {
    waiting.set(++next, { resolve, reject });
    socket.send(JSON.stringify({ id: next, method, params }));
  });
  await send('session.new', { capabilities: {} });

  return {
    async open(url) {
      const { context } = await send('browsingContext.create', { type: 'tab' });
      await send('browsingContext.navigate', { context, url, wait: 'complete' });
      return {
        /** What a function gives in the page; values cross as JSON. */
        async evaluate(work, ...given) {
          const expression = `(async () => JSON.stringify(await (${work})(...${JSON.stringify(given)})))()`;
          const { type, result, exceptionDetails } = await send('script.evaluate', { expression, target: { context }, awaitPromise: true });
          if (type === 'exception') throw new Error(exceptionDetails.text);
          return result.value === undefined ? undefined : JSON.parse(result.value);
        },
        reload: () => send('browsingContext.reload', { context, wait: 'complete' }),
        close: () => send('browsingContext.close', { context }),
        screenshot: async () => Buffer.from((await send('browsingContext.captureScreenshot', { context, origin: 'document' })).data, 'base64'),
      };
    },
    async kill() { child.kill('SIGKILL'); await gone; },
  };
}
