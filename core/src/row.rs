//! Row: what a document shows, as the values of a table's columns, and a row's new values as a change.

use crate::change::Change;
use crate::document::{Cell, Content, View};
use crate::id::Actor;
use crate::store::user_table::{RowValues, UserTable};
use crate::value::Value;

/// The values that a document shows in this table; None if its row is not alive.
///
/// A column that the document does not have holds its literal default, or NULL.
pub(crate) fn shown(view: &View, user: &UserTable) -> Option<RowValues> {
    Some(values_of(&view.shown()?, user))
}

/// The values of some cells in this table.
pub(crate) fn values_of(cells: &std::collections::BTreeMap<&str, &Cell>, user: &UserTable) -> RowValues {
    let value = |key: &str, absent: &Value| cells.get(key).map_or(absent.clone(), |cell| plain(cell));
    user.columns.iter().map(|c| value(&c.key, &c.absent)).collect()
}

/// Whether two rows, or none, are one value by value.
pub(crate) fn is_same(a: Option<&RowValues>, b: Option<&RowValues>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => a.iter().zip(b).all(|(a, b)| a.as_ref().same(b.as_ref())),
        _ => false,
    }
}

/// A cell's content as an SQL value.
pub(crate) fn plain(cell: &Cell) -> Value {
    match &cell.content {
        Content::Value(value) => value.clone(),
        Content::Counter(total) => Value::Integer(*total),
        Content::Text(text) => Value::Text(text.clone()),
        _ => Value::Null,
    }
}

/// The change that makes a document show `values`; None if it does already.
///
/// `before` is what the table showed until now, None for no row.
pub(crate) fn edit(
    view: &View,
    user: &UserTable,
    before: Option<&RowValues>,
    values: Option<&RowValues>,
) -> Option<Change> {
    let column = |n: usize, value: &Value| {
        let column = &user.columns[n];
        (column.key.clone(), column.merge, value.clone())
    };
    match (before, values) {
        (_, None) => (before.is_some() && view.is_live()).then(|| view.delete()),
        (Some(before), Some(values)) if view.is_live() => {
            let changed: Vec<_> = values
                .iter()
                .enumerate()
                .filter(|(n, value)| !before[*n].as_ref().same(value.as_ref()))
                .map(|(n, value)| column(n, value))
                .collect();
            (!changed.is_empty()).then(|| view.edit(&changed))
        }
        (_, Some(values)) => {
            let all: Vec<_> = values.iter().enumerate().map(|(n, value)| column(n, value)).collect();
            // Rows that live and that the table does not show are held, and are others than this unless they say the same.
            Some(view.insert_beside(&all, row_with(view, user, values)))
        }
    }
}

/// Of the rows that live under a key, one that has these values.
fn row_with(view: &View, user: &UserTable, values: &RowValues) -> Option<Actor> {
    let has_them = |row: &RowValues| is_same(Some(row), Some(values));
    if shown(view, user).as_ref().is_some_and(has_them) {
        return view.incarnation();
    }
    let others = view.other_rows();
    others.into_iter().find(|(_, cells)| has_them(&values_of(cells, user))).map(|(life, _)| life)
}

/// The entries of a description's document: for each key the value of the greatest actor.
///
/// A description has no lives: what any writer added stays.
pub(crate) fn description_entries(view: &View) -> Vec<(String, Value)> {
    let greatest = |cells: &Vec<Cell>| cells.iter().max_by_key(|c| (c.id.actor, c.id.counter)).map(plain);
    view.cells
        .iter()
        .filter(|(key, _)| !key.is_empty())
        .filter_map(|(key, cells)| Some((key.clone(), greatest(cells)?)))
        .collect()
}
