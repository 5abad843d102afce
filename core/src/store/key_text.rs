//! Keys as people write and read them: values joined by commas; where that could be misread, in SQL's quotes.

use super::schema::{literal, read_literal};
use super::user_table::UserTable;
use crate::key::RowKey;
use crate::table::{Affinity, Column};
use crate::value::{Value, ValueRef};

impl UserTable {
    /// A value of a column (by its index in the table) as people write it.
    pub(crate) fn parse_value(&self, index: usize, text: &str) -> Value {
        parse_value(&self.table.columns[index], text)
    }

    /// A key as `parse_key` reads it.
    pub(crate) fn key_text(&self, key: &RowKey) -> String {
        let values = self.table.key_values(key).unwrap_or_default();
        let columns = self.key_columns();
        let text = |(n, value): (&usize, &Value)| {
            let plain = value.to_string();
            let cut = columns.len() > 1 && (plain.contains(',') || plain.starts_with('\''));
            let read = parse_value(&self.table.columns[*n], &plain);
            if !cut && read.as_ref().same(value.as_ref()) { plain } else { literal(value) }
        };
        columns.iter().zip(&values).map(text).collect::<Vec<_>>().join(",")
    }

    /// The key that a person means; an error says what it should be like.
    pub(crate) fn parse_key(&self, text: &str) -> Result<RowKey, String> {
        let columns = self.key_columns();
        let parts = if columns.len() == 1 { vec![text] } else { split(text) };
        let values: Vec<_> =
            columns.iter().zip(&parts).map(|(n, part)| parse_value(&self.table.columns[*n], part)).collect();
        let refs: Vec<ValueRef<'_>> = values.iter().map(Value::as_ref).collect();
        let key = (parts.len() == columns.len()).then(|| self.table.row_key(&refs).ok()).flatten();
        key.ok_or_else(|| {
            let names: Vec<_> = columns.iter().map(|n| self.table.columns[*n].name.as_str()).collect();
            let kind = if self.has_integer_key() { ", an integer" } else { "" };
            format!("{text:?} is no key of {}; its key is {}{kind}", self.table.name, names.join(","))
        })
    }
}

/// Cuts at commas outside of quotes. A quote that does not begin a value is a character like others.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut quoted, mut closed) = (vec![], 0, false, None);
    for (at, c) in text.char_indices() {
        match c {
            '\'' if quoted => (quoted, closed) = (false, Some(at + 1)),
            '\'' => quoted = at == start || closed == Some(at),
            ',' if !quoted => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// A value as SQLite would store its text in a column.
fn parse_value(column: &Column, text: &str) -> Value {
    use Affinity::{Blob, Integer, Numeric, Real, Text};
    if text.len() > 1
        && text.starts_with('\'')
        && let Some(Value::Text(text)) = read_literal(text)
    {
        return Value::Text(text);
    }
    match (column.affinity(), text.parse::<i64>(), text.parse::<f64>()) {
        (Integer | Numeric | Blob, Ok(i), _) => Value::Integer(i),
        (Integer | Numeric | Real | Blob, _, Ok(f)) if f.is_finite() => Value::Real(f),
        (Text, ..) => Value::Text(text.to_owned()),
        _ => {
            read_literal(text).filter(|v| matches!(v, Value::Blob(_))).unwrap_or(Value::Text(text.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::store::schema::read_table;
    use crate::store::user_table::UserTable;
    use crate::value::ValueRef::{self, Blob, Integer, Real, Text};
    use rusqlite::Connection;

    fn table(sql: &str) -> UserTable {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(sql).unwrap();
        UserTable::new(read_table(&conn, "t").unwrap(), str::to_owned)
    }

    #[test]
    fn every_key_that_is_printed_can_be_typed() {
        let check = |user: &UserTable, values: &[ValueRef<'_>], wanted: &str| {
            let key = user.table.row_key(values).unwrap();
            assert_eq!(user.key_text(&key), wanted);
            assert_eq!(user.parse_key(wanted), Ok(key));
        };
        let text = table("CREATE TABLE t(id TEXT PRIMARY KEY)");
        for plain in ["", "a,b", "it's", "12", "x'00'", "'"] {
            check(&text, &[Text(plain)], plain);
        }
        check(&text, &[Text("'quoted'")], "'''quoted'''");
        let any = table("CREATE TABLE t(id PRIMARY KEY)");
        check(&any, &[Integer(5)], "5");
        check(&any, &[Text("5")], "'5'");
        check(&any, &[Real(1.5)], "1.5");
        check(&any, &[Blob(&[0])], "x'00'");
        check(&any, &[Text("x'00'")], "'x''00'''");
        let two = table("CREATE TABLE t(a INT, b TEXT, PRIMARY KEY (b, a))");
        check(&two, &[Text("x"), Integer(1)], "x,1");
        check(&two, &[Text("x,'y"), Integer(1)], "'x,''y',1");
        check(&two, &[Text("it's"), Integer(-1)], "it's,-1");
        check(&two, &[Text("'"), Integer(2)], "'''',2");
        assert!(two.parse_key("x").unwrap_err().contains("b,a"));
        let rowid = table("CREATE TABLE t(id INTEGER PRIMARY KEY)");
        check(&rowid, &[Integer(-7)], "-7");
        assert!(rowid.parse_key("seven").unwrap_err().contains("an integer"));
    }
}
