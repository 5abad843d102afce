//! Table: lines in columns; words stand left, figures right.

use super::{Tone, paint};
use crate::say;
use unicode_width::UnicodeWidthStr;

/// A column's title and where its cells stand.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    title: &'static str,
    is_right: bool,
}

/// A column of words.
pub fn left(title: &'static str) -> Column {
    Column { title, is_right: false }
}

/// A column of figures.
pub fn right(title: &'static str) -> Column {
    Column { title, is_right: true }
}

/// Lines in columns.
#[derive(Debug)]
pub struct Table {
    columns: Vec<Column>,
    lines: Vec<Vec<String>>,
}

impl Table {
    /// A table without lines.
    pub fn new(columns: &[Column]) -> Self {
        Self { columns: columns.to_vec(), lines: vec![] }
    }

    /// Adds a line, with a cell for each column.
    pub fn add(&mut self, cells: impl IntoIterator<Item = String>) {
        self.lines.push(cells.into_iter().collect());
    }

    /// Prints titles and lines.
    pub fn print(&self) {
        let titles: Vec<_> = self.columns.iter().map(|column| column.title.to_owned()).collect();
        let width = |n: usize| {
            let cells = self.lines.iter().chain([&titles]).filter_map(|line| line.get(n));
            cells.map(|cell| cell.width()).max().unwrap_or(0)
        };
        let widths: Vec<_> = (0..self.columns.len()).map(width).collect();
        say!("{}", paint(Tone::Title, &self.line(&titles, &widths)));
        self.lines.iter().for_each(|line| say!("{}", self.line(line, &widths)));
    }

    fn line(&self, cells: &[String], widths: &[usize]) -> String {
        let cell = |((cell, column), width): ((&String, &Column), &usize)| {
            let gap = " ".repeat(width.saturating_sub(cell.width()));
            if column.is_right { format!("{gap}{cell}") } else { format!("{cell}{gap}") }
        };
        let cells: Vec<_> = cells.iter().zip(&self.columns).zip(widths).map(cell).collect();
        cells.join("  ").trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_stand_right_and_wide_letters_count_twice() {
        let mut table = Table::new(&[left("table"), right("rows"), left("")]);
        table.add(["顧客".into(), "1,000".into(), "read only".into()]);
        table.add(["a".into(), "7".into(), String::new()]);
        let widths = [5, 5, 9];
        assert_eq!(table.line(&table.lines[0], &widths), "顧客   1,000  read only");
        assert_eq!(table.line(&table.lines[1], &widths), "a          7");
    }
}
