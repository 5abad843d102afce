// What is published: the package installs and runs from an empty folder, and its types, README and code say the same.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { fileURLToPath } from 'node:url';
import { folder } from './lib.mjs';

const npm = fileURLToPath(new URL('../../wasm/npm/', import.meta.url));
const rust = fileURLToPath(new URL('../../wasm/src/', import.meta.url));
const tests = fileURLToPath(new URL('..', import.meta.url));
const read = (...path) => readFileSync(join(...path), 'utf8');
const types = read(npm, 'index.d.ts');

test('the package packs, installs into an empty folder without a network, and runs there with types', t => {
  const dir = folder(t);
  const [packed] = JSON.parse(execFileSync('npm', ['pack', '--json', '--silent', '--pack-destination', dir], { cwd: npm, encoding: 'utf8' }));
  writeFileSync(join(dir, 'package.json'), '{ "name": "user", "private": true, "type": "module" }');
  execFileSync('npm', ['install', '--offline', '--silent', '--no-audit', '--no-fund', join(dir, packed.filename)], { cwd: dir });
  writeFileSync(join(dir, 'use.js'), `import { open } from 'piecewise';
    const db = await open('x', { memory: true });
    await db.exec('CREATE TABLE t(a)');
    await db.run('INSERT INTO t VALUES (?)', [7]);
    console.log(JSON.stringify(await db.query('SELECT a FROM t')));
    await db.close();`);
  assert.equal(execFileSync('node', ['use.js'], { cwd: dir, encoding: 'utf8' }).trim(), '[{"a":7}]');
  writeFileSync(join(dir, 'use.ts'), read(tests, 'browser/types.ts'));
  // Also without a browser's types.
  for (const lib of ['es2022', 'esnext,dom']) execFileSync(join(tests, 'node_modules/.bin/tsc'), ['--noEmit', '--strict', '--exactOptionalPropertyTypes', '--skipLibCheck', 'false', '--target', 'es2022', '--module', 'nodenext', '--lib', lib, '--types', '', 'use.ts'], { cwd: dir, encoding: 'utf8', stdio: 'pipe' });
  for (const name of readdirSync(npm).filter(name => name.endsWith('.js'))) assert.ok(packed.files.some(file => file.path === name), `${name} is packed`);
  for (const name of ['LICENSE-MIT', 'LICENSE-APACHE', 'README.md', 'engine/piecewise_wasm_bg.wasm']) assert.ok(packed.files.some(file => file.path === name), `${name} is packed`);
});

test('it installs from a clone as the README says: as a copy, which finds what the application has', t => {
  const dir = folder(t);
  const [, command] = /^npm install (.*) \.\.\/piecewise\/wasm\/npm$/m.exec(read(npm, 'README.md'));
  writeFileSync(join(dir, 'package.json'), '{ "name": "user", "private": true, "type": "module" }');
  execFileSync('npm', ['install', ...command.split(' '), '--offline', '--silent', '--no-audit', '--no-fund', npm], { cwd: dir });
  mkdirSync(join(dir, 'node_modules/react'));
  writeFileSync(join(dir, 'node_modules/react/index.js'), 'exports.createContext = exports.createElement = exports.useContext = exports.useMemo = exports.useSyncExternalStore = () => {};');
  writeFileSync(join(dir, 'use.js'), "import { open } from 'piecewise';\nimport { useQuery } from 'piecewise/react';\nconst db = await open('x', { memory: true });\nconsole.log(typeof useQuery, (await db.query('SELECT 7 AS a'))[0].a);\nawait db.close();");
  assert.equal(execFileSync('node', ['use.js'], { cwd: dir, encoding: 'utf8' }).trim(), 'function 7');
});

test('each method has a type and a line in the README', async () => {
  const { Database } = await import('../../wasm/npm/node.js');
  const methods = Object.getOwnPropertyNames(Database.prototype).filter(name => name !== 'constructor');
  const body = types.slice(types.indexOf('export class Database'));
  const typed = new Set([...body.matchAll(/^ {2}(\w+)[<(]/gm)].map(([, name]) => name).filter(name => name !== 'constructor'));
  assert.deepEqual(new Set(methods), typed);
  assert.ok(Symbol.asyncDispose in Database.prototype);
  const readme = read(npm, 'README.md');
  for (const name of [...methods, 'open']) assert.ok(readme.includes(`\`${name}(`), `README tells of ${name}`);
  const options = /interface OpenOptions \{(.*?)\n\}/s.exec(types)[1];
  for (const [, name] of options.matchAll(/^ {2}(\w+)\?/gm)) assert.ok(readme.includes(`\`${name}\``), `README tells of ${name}`);
});

test('each code that an error can have is in the types, and told of there', () => {
  const union = new Set([.../type ErrorCode =(.*?);/s.exec(types)[1].matchAll(/'(\w+)'/g)].map(([, code]) => code));
  const sources = [...readdirSync(npm).filter(name => name.endsWith('.js')).map(name => read(npm, name)), ...readdirSync(rust).map(name => read(rust, name))].join('\n');
  const used = new Set([
    ...[...sources.matchAll(/fault\(\s*['"]([A-Z_]+)['"]/g)], ...[...sources.matchAll(/code: '([A-Z_]+)'/g)],
    ...[...read(rust, 'fault.rs').matchAll(/=>\s*\(?\{?\s*\(?"([A-Z_]+)"/g)], ...[...read(rust, 'fault.rs').matchAll(/^\s+"([A-Z_]+)",$/gm)],
  ].map(([, code]) => code));
  assert.deepEqual([...used].sort(), [...union].sort());
  for (const code of union) assert.match(types, new RegExp(`^ \\* \\| [A-Z_, ]*\\b${code}\\b`, 'm'), `${code} is told of`);
});
