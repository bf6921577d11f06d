//! Aligned columns.

use std::fmt;

/// Rows of text under a head; columns are as wide as their widest cell.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

/// On which side a column's cells stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

impl Table {
    pub(crate) fn new(columns: impl IntoIterator<Item = (&'static str, Align)>) -> Self {
        Self { columns: columns.into_iter().collect(), rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = self.columns.iter().map(|(name, _)| name.chars().count()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        widths
    }

    fn line<'a>(&'a self, widths: &[usize], cells: impl Iterator<Item = &'a str>) -> String {
        let mut line = String::new();
        for ((cell, width), (_, align)) in cells.zip(widths).zip(&self.columns) {
            let padding = " ".repeat(width.saturating_sub(cell.chars().count()));
            match align {
                Align::Left => line.extend([cell, &padding, "  "]),
                Align::Right => line.extend([&padding, cell, "  "]),
            }
        }
        line.truncate(line.trim_end().len());
        line
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        if self.columns.iter().any(|(name, _)| !name.is_empty()) {
            writeln!(f, "{}", self.line(&widths, self.columns.iter().map(|(name, _)| *name)))?;
        }
        self.rows
            .iter()
            .try_for_each(|row| writeln!(f, "{}", self.line(&widths, row.iter().map(String::as_str))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_end_with_their_text() {
        let mut table =
            Table::new([("stream", Align::Left), ("events", Align::Right), ("note", Align::Left)]);
        table.row(["a/1".to_owned(), "7".to_owned(), "é".to_owned()]);
        table.row(["airport/JFK".to_owned(), "27,279".to_owned(), String::new()]);
        assert_eq!(
            table.to_string(),
            "stream       events  note\na/1               7  é\nairport/JFK  27,279\n"
        );
    }
}
