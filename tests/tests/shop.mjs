// A shop on Knex that lets SQLite number its rows, as shop.py is one on SQLAlchemy: shop.mjs FILE KIND SEED DAYS, KIND plain or autoincrement.
import knex from 'knex';
import ClientBetterSqlite3 from 'knex/lib/dialects/better-sqlite3/index.js';
import sqlite from 'node-sqlite3-wasm';

const [file, kind, seed, days] = process.argv.slice(2);

/** SQLite as WASM that works on real files, with what Knex asks of better-sqlite3: no compiler is needed to install it. */
class Driver {
    constructor(filename) {
        this.database = new sqlite.Database(filename);
    }

    prepare(sql) {
        const run = (what) => async (values) => this.database[what](sql, values);
        return { reader: /^\s*(select|pragma|with)|\breturning\b/i.test(sql), all: run('all'), run: run('run') };
    }

    close() {
        this.database.close();
    }
}

class Client extends ClientBetterSqlite3 {
    _driver() {
        return Driver;
    }
}

const db = knex({ client: Client, connection: { filename: file }, useNullAsDefault: true, pool: { min: 1, max: 1 } });

/** The same numbers for the same seed (mulberry32). */
let state = Number(seed) * 7919 + 1;
function chance(below) {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
}

async function create() {
    const id = (t) => (kind === 'autoincrement' ? t.increments('id') : t.integer('id').primary());
    await db.schema.createTable('customers', (t) => {
        id(t);
        t.string('name').notNullable();
    });
    await db.schema.createTable('orders', (t) => {
        id(t);
        t.string('name').notNullable();
        t.string('of').notNullable();
        t.integer('customer_id').notNullable().references('customers.id');
    });
    await db.schema.createTable('lines', (t) => {
        t.integer('order_id').notNullable().references('orders.id');
        t.integer('n').notNullable();
        t.string('of').notNullable();
        t.primary(['order_id', 'n']);
    });
}

async function order(trx, customer, name) {
    const [{ id }] = await trx('orders').insert({ name, of: customer.name, customer_id: customer.id }).returning('id');
    const lines = Array.from({ length: 1 + chance(3) }, (_, n) => ({ order_id: id, n: n + 1, of: name }));
    await trx('lines').insert(lines);
}

async function live(day) {
    await db.transaction(async (trx) => {
        const count = 1 + chance(5);
        for (let n = 0; n < count; n++) {
            const name = `customer ${seed} ${day} ${n}`;
            const [{ id }] = await trx('customers').insert({ name }).returning('id');
            // What the application was told is what it has.
            const { name: found } = await trx('customers').where({ id }).first();
            if (found !== name) throw new Error(`${id} is ${found}`);
            for (let m = chance(4); m > 0; m--) await order(trx, { id, name }, `order ${seed} ${day} ${n} ${m}`);
        }
        const known = await trx('customers').orderBy('name');
        for (let m = chance(5); m > 0; m--) await order(trx, known[chance(known.length)], `order ${seed} ${day} known ${m}`);
    });
}

if (!(await db.schema.hasTable('customers'))) await create();
for (let day = 0; day < Number(days); day++) await live(day);
await db.destroy();
