// Line: a WebSocket to the server that comes back by itself, later each time. What is said on it is the host's.

/** Silence after which the server is asked for a word, and after which the line counts as dead. */
const ASK_AFTER_MS = 30_000;
const DEAD_AFTER_MS = 60_000;
const BACK_OFF_MS = [250, 500, 1000, 2000, 4000, 8000];

export class Line {
  #on; #WebSocket; #address; #socket = null; #heard = 0; #attempt = 0; #retry = null;

  /** `on` hears `opened()`, `message(bytes)`, `silent()` and `lost()`. */
  constructor(on, WebSocket = globalThis.WebSocket) {
    this.#on = on;
    this.#WebSocket = WebSocket;
    // The network is back: no reason to wait.
    globalThis.addEventListener?.('online', () => { if (this.#retry) this.dial(this.#address); });
  }

  /** Whether there is a WebSocket to use: Node has none before version 22. */
  get canDial() { return this.#WebSocket !== undefined; }
  get inUse() { return this.#socket !== null; }
  get isOpen() { return this.#socket?.readyState === 1; }
  /** Bytes that have not left yet. */
  get queued() { return this.#socket?.bufferedAmount ?? 0; }

  /** Calls an address; false if it is none. */
  dial(address) {
    this.hangUp();
    this.#address = address;
    let socket;
    try { socket = new this.#WebSocket(address); } catch { return false; }
    this.#socket = socket;
    this.#heard = Date.now();
    socket.binaryType = 'arraybuffer';
    const mine = work => event => { if (this.#socket === socket) work(event); };
    const watch = setInterval(() => {
      const silence = Date.now() - this.#heard;
      if (silence > DEAD_AFTER_MS) socket.close();
      else if (silence > ASK_AFTER_MS) this.#on.silent();
    }, ASK_AFTER_MS / 2);
    socket.onopen = mine(() => this.#on.opened());
    socket.onmessage = mine(({ data }) => { this.#heard = Date.now(); this.#on.message(new Uint8Array(data)); });
    socket.onerror = () => {}; // what follows is a close, which says the same
    socket.onclose = event => {
      clearInterval(watch);
      mine(() => { this.#socket = null; this.#on.lost(); })(event);
    };
    return true;
  }

  send(frame) { this.#socket.send(frame); }

  /** The server let us in: the next failure is the first. */
  settle() { this.#attempt = 0; }

  /** Calls again after a while. */
  later() {
    const most = BACK_OFF_MS[Math.min(this.#attempt++, BACK_OFF_MS.length - 1)];
    this.#retry = setTimeout(() => this.dial(this.#address), most * (0.5 + Math.random() / 2));
  }

  /** Ends what there is, in silence. */
  hangUp() {
    clearTimeout(this.#retry);
    this.#retry = null;
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }
}
