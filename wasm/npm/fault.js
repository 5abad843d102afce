// Faults: errors with a `code` that programs can act on and a `hint` for people, as they cross between threads and tabs.

export const fault = (code, message, hint) => Object.assign(new Error(message), { name: 'PiecewiseError', code, ...(hint && { hint }) });

/** Starts the engine; its WASM file is beside its script, or at `source`. */
export async function load(init, source) {
  try { await (source ? init({ module_or_path: source }) : init()); } catch (error) {
    throw fault('ASSET', `the package's WASM file could not be loaded: ${error.message ?? error}`, 'put engine/piecewise_wasm_bg.wasm where the page can load it, and open with { wasmUrl }');
  }
}

/** An error as a message to another thread. */
export const plain = error => (typeof error.code === 'string' ? { code: error.code, message: error.message, hint: error.hint }
  : error.name === 'QuotaExceededError' ? { code: 'QUOTA', message: 'the browser gives this site no more room' }
    : { code: 'INTERNAL', message: error.message ?? String(error) });

/** Whether the engine trapped: what it holds in memory is not to be trusted any more. */
export const isTrap = error => error instanceof WebAssembly.RuntimeError || error instanceof RangeError;

export const random = () => crypto.getRandomValues(new Uint8Array(32));

/** A name that nobody else has; `crypto.randomUUID` is not there on pages without TLS. */
export const unique = () => [...random()].map(byte => byte.toString(16).padStart(2, '0')).join('');
