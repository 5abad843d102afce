//! Schemas: tables as applications make them, with all that may stand around their rows, from one seed.
//!
//! Columns, keys, UNIQUE constraints and foreign keys are the same everywhere; conflict clauses, CHECKs, triggers,
//! indexes over expressions and search indexes are on some variants of the schema only, as on devices with other versions of an
//! application. A CHECK may come or go, and a table may come later.

use crate::rng::Rng;

/// How many variants of a schema there are.
pub const VARIANTS: usize = 2;
/// Keys of rows: few, so that writes meet.
const KEYS: u64 = 7;

/// A schema in all its variants.
#[derive(Debug, Clone)]
pub struct Schema {
    /// Its tables.
    pub tables: Vec<TableSpec>,
}

/// A table and what stands around it.
#[derive(Debug, Clone)]
pub struct TableSpec {
    /// Its name.
    pub name: String,
    key: Key,
    unique: bool,
    /// What `p` refers to, if anything, and its type: now and then another than the parent's key.
    parent: Option<Parent>,
    /// What is on some variants alone.
    extras: [Extras; VARIANTS],
}

#[derive(Debug, Clone)]
struct Parent {
    table: String,
    is_integer: bool,
    deferred: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Integer,
    Text,
    WithoutRowid,
}

/// What may differ between variants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extras {
    unique_conflict: &'static str,
    not_null: Option<&'static str>,
    /// Whether `c` is checked.
    pub check: bool,
    partial: bool,
    expression: Option<&'static str>,
    trigger: Option<String>,
    rewrites: Option<String>,
    counts_into: Option<String>,
    search: bool,
}

const CONFLICTS: [&str; 5] =
    ["", "ON CONFLICT REPLACE", "ON CONFLICT IGNORE", "ON CONFLICT ROLLBACK", "ON CONFLICT FAIL"];

fn pick<'a>(rng: &mut Rng, of: &[&'a str]) -> &'a str {
    of[rng.below(of.len() as u64) as usize]
}

impl Schema {
    /// A schema with two or three tables.
    pub fn from_rng(rng: &mut Rng) -> Self {
        let names: Vec<_> = (0..2 + rng.below(2)).map(|n| format!("t{n}")).collect();
        let mut key = || [Key::Integer, Key::Text, Key::WithoutRowid][rng.below(3) as usize];
        let keys: Vec<_> = names.iter().map(|_| key()).collect();
        let table = |(name, key): (&String, Key)| {
            let parent = rng.one_in(2).then(|| {
                let parent = rng.below(names.len() as u64) as usize;
                let is_integer = (keys[parent] == Key::Integer) != rng.one_in(6);
                Parent { table: names[parent].clone(), is_integer, deferred: rng.one_in(3) }
            });
            let mut spec = TableSpec {
                name: name.clone(),
                key,
                unique: rng.one_in(2),
                parent,
                extras: Default::default(),
            };
            for variant in 0..VARIANTS {
                spec.extras[variant] = Extras::from_rng(rng, &spec, &names);
            }
            spec
        };
        Self { tables: names.iter().zip(keys.clone()).map(table).collect() }
    }

    /// The SQL that makes a variant.
    pub fn sql(&self, variant: usize) -> String {
        self.tables.iter().map(|t| t.sql(variant)).collect()
    }

    fn any_search(&self) -> bool {
        self.tables.iter().any(|t| t.extras.iter().any(|extras| extras.search))
    }

    /// Statements of a program that writes one of the tables.
    pub fn write(&self, rng: &mut Rng, token: &str) -> String {
        let t = &self.tables[rng.below(self.tables.len() as u64) as usize];
        let enforced = if rng.one_in(2) { "PRAGMA foreign_keys = ON; " } else { "" };
        // Else no trigger is told of rows that are replaced, those of a search index neither.
        let recursive =
            if self.any_search() || rng.one_in(2) { "PRAGMA recursive_triggers = ON; " } else { "" };
        format!("{enforced}{recursive}{}", t.write(rng, token))
    }
}

impl Extras {
    fn from_rng(rng: &mut Rng, spec: &TableSpec, names: &[String]) -> Self {
        let name = &spec.name;
        let mut some = |one_in: u64| rng.one_in(one_in);
        let (not_null, check, partial, expression) = (some(3), some(3), some(4), some(5));
        let (trigger, rewrites, counts, search) = (some(3), some(5), some(5), some(3));
        // What ends or nests a statement after the row was written keeps the index's own triggers from it: then the
        // application breaks its index by itself.
        let search = search && spec.key != Key::WithoutRowid;
        let when = "WHEN NEW.v LIKE 'x%'";
        let trigger = trigger.then(|| {
            let raise = pick(rng, &["ABORT, 'no'", "FAIL, 'no'", "IGNORE", "ROLLBACK, 'no'"]);
            let timings = ["BEFORE INSERT", "BEFORE UPDATE", "AFTER INSERT", "AFTER UPDATE"];
            let timing = pick(rng, if search { &timings[..2] } else { &timings });
            format!(
                "CREATE TRIGGER {name}_raises {timing} ON {name} {when} BEGIN SELECT RAISE({raise}); END;\n"
            )
        });
        let rewrites = (rewrites && !search).then(|| {
            let timing = pick(rng, &["INSERT", "UPDATE OF v"]);
            let set = pick(rng, &["v = upper(NEW.v)", "c = coalesce(c, 0) + 1"]);
            format!("CREATE TRIGGER {name}_rewrites AFTER {timing} ON {name} BEGIN UPDATE {name} SET {set} WHERE id = NEW.id; END;\n")
        });
        let counts_into = counts.then(|| {
            let others: Vec<_> = names.iter().filter(|other| !search || *other != name).collect();
            let other = others[rng.below(others.len() as u64) as usize];
            format!("CREATE TRIGGER {name}_counts AFTER INSERT ON {name} BEGIN UPDATE {other} SET c = c + 1 WHERE id = NEW.id; END;\n")
        });
        Self {
            unique_conflict: pick(rng, &CONFLICTS),
            not_null: not_null.then(|| pick(rng, &CONFLICTS)),
            check,
            partial,
            expression: expression
                .then(|| pick(rng, &["json_extract(v, '$.a')", "lower(v)", "abs(c)", "substr(v, 2)"])),
            trigger,
            rewrites,
            counts_into,
            search,
        }
    }
}

impl TableSpec {
    /// The SQL that makes a variant of the table, with all that belongs to it.
    pub fn sql(&self, variant: usize) -> String {
        self.create(&self.name, variant) + &self.around(variant)
    }

    fn create(&self, name: &str, variant: usize) -> String {
        let extras = &self.extras[variant];
        let (key, end) = match self.key {
            Key::Integer => ("INTEGER PRIMARY KEY", ""),
            Key::Text => ("TEXT PRIMARY KEY NOT NULL", ""),
            Key::WithoutRowid => ("TEXT PRIMARY KEY NOT NULL", " WITHOUT ROWID"),
        };
        let unique = if self.unique { format!("UNIQUE {}", extras.unique_conflict) } else { String::new() };
        let not_null = extras.not_null.map(|c| format!("NOT NULL {c} DEFAULT 'none'")).unwrap_or_default();
        let check = if extras.check { "CHECK (c < 5)" } else { "" };
        let parent = match &self.parent {
            Some(Parent { table, deferred, .. }) => {
                let deferred = if *deferred { "DEFERRABLE INITIALLY DEFERRED" } else { "" };
                format!("REFERENCES {table}(id) {deferred}")
            }
            None => String::new(),
        };
        let p = if self.parent.as_ref().is_some_and(|p| p.is_integer) { "INTEGER" } else { "TEXT" };
        format!(
            "CREATE TABLE {name}(id {key}, u TEXT {unique}, n TEXT {not_null}, c INTEGER {check}, p {p} {parent}, v TEXT){end};\n"
        )
    }

    /// Indexes and triggers of a variant.
    fn around(&self, variant: usize) -> String {
        let (name, extras) = (&self.name, &self.extras[variant]);
        let mut sql = String::new();
        if extras.partial {
            sql += &format!("CREATE UNIQUE INDEX {name}_partial ON {name}(n) WHERE c > 2;\n");
        }
        if let Some(expression) = extras.expression {
            sql += &format!("CREATE INDEX {name}_expression ON {name}({expression});\n");
        }
        for trigger in [&extras.trigger, &extras.rewrites, &extras.counts_into].into_iter().flatten() {
            sql += trigger;
        }
        if extras.search {
            let rowid = if self.key == Key::Integer { "id" } else { "rowid" };
            let (put, take) = (
                format!("INSERT INTO {name}_search(rowid, v, n) VALUES (new.{rowid}, new.v, new.n);"),
                format!(
                    "INSERT INTO {name}_search({name}_search, rowid, v, n) VALUES ('delete', old.{rowid}, old.v, old.n);"
                ),
            );
            sql += &format!(
                "CREATE VIRTUAL TABLE {name}_search USING fts5(v, n, content='{name}', content_rowid='{rowid}');
                 CREATE TRIGGER {name}_search_i AFTER INSERT ON {name} BEGIN {put} END;
                 CREATE TRIGGER {name}_search_d AFTER DELETE ON {name} BEGIN {take} END;
                 CREATE TRIGGER {name}_search_u AFTER UPDATE ON {name} BEGIN {take} {put} END;\n"
            );
        }
        sql
    }

    /// The search index of a variant.
    pub fn search(&self, variant: usize) -> Option<String> {
        self.extras[variant].search.then(|| format!("{}_search", self.name))
    }

    /// Whether rows of a variant are checked.
    pub fn is_checked(&self, variant: usize) -> bool {
        self.extras[variant].check
    }

    /// The migration that lets a CHECK come or go: a new table, the rows that fit copied, the old one dropped.
    pub fn migrate(&mut self, variant: usize) -> String {
        self.extras[variant].check ^= true;
        let name = &self.name;
        let search = self.search(variant).map(|s| format!("DROP TABLE {s};")).unwrap_or_default();
        let filled = self
            .search(variant)
            .map(|s| format!("INSERT INTO {s}({s}) VALUES ('rebuild');"))
            .unwrap_or_default();
        let check = if self.extras[variant].check { "WHERE c < 5 OR c IS NULL" } else { "" };
        format!(
            "PRAGMA foreign_keys = OFF; BEGIN; {search} {} INSERT INTO {name}_new SELECT * FROM {name} {check};
             DROP TABLE {name}; ALTER TABLE {name}_new RENAME TO {name}; {} {filled} COMMIT",
            self.create(&format!("{name}_new"), variant),
            self.around(variant)
        )
    }

    fn write(&self, rng: &mut Rng, token: &str) -> String {
        let name = &self.name;
        let mut key = || match self.key {
            Key::Integer => rng.below(KEYS).to_string(),
            _ => format!("'{}'", rng.below(KEYS)),
        };
        let (id, other) = (key(), key());
        let parent = if rng.one_in(4) { "NULL".into() } else { format!("'{}'", rng.below(KEYS)) };
        let u = if rng.one_in(3) { "NULL".to_owned() } else { format!("'u{}'", rng.below(4)) };
        let n = if rng.one_in(4) { "NULL".to_owned() } else { format!("'n{}'", rng.below(4)) };
        let c = rng.below(8);
        let v = match rng.below(6) {
            0 => format!("'x{token}'"),
            1 => format!("'{{\"a\": \"{token}\"}}'"),
            2 => "NULL".to_owned(),
            _ => format!("'{token}'"),
        };
        match rng.below(12) {
            0..=3 => format!("INSERT INTO {name} VALUES ({id}, {u}, {n}, {c}, {parent}, {v})"),
            4 => format!("INSERT OR REPLACE INTO {name} VALUES ({id}, {u}, {n}, {c}, {parent}, {v})"),
            5 => format!("UPDATE {name} SET v = {v} WHERE id = {id}"),
            6 => format!("UPDATE {name} SET u = {u}, c = {c} WHERE id = {id}"),
            7 => format!("UPDATE {name} SET n = {n}, v = {v} WHERE id >= {id}"),
            8 => format!("UPDATE {name} SET p = {parent} WHERE id = {id}"),
            9 => format!("DELETE FROM {name} WHERE id = {id}"),
            10 => format!("UPDATE {name} SET id = {other} WHERE id = {id}"),
            _ => format!("UPDATE {name} SET c = c + 1"),
        }
    }
}
