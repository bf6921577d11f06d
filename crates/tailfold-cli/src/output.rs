//! What goes to stdout.

use std::fmt::Display;
use std::io::{self, BufWriter, Write};

use serde::Serialize;

use crate::error::{Error, Result};
use crate::table::Table;

/// Stdout, buffered, as text or as JSON. Whoever closes the other end ends the command without a complaint.
pub(crate) struct Output {
    out: BufWriter<Box<dyn Write + Send>>,
    json: bool,
}

impl Output {
    pub(crate) fn stdout(json: bool) -> Self {
        Self { out: BufWriter::new(Box::new(io::stdout())), json }
    }

    /// Whether JSON was asked for.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// A line of text.
    pub(crate) fn line(&mut self, text: impl Display) -> Result<()> {
        writeln!(self.out, "{text}").map_err(Error::output)
    }

    /// A table.
    pub(crate) fn table(&mut self, table: &Table) -> Result<()> {
        write!(self.out, "{table}").map_err(Error::output)
    }

    /// A value as one line of JSON.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<()> {
        serde_json::to_writer(&mut self.out, value).map_err(|error| Error::output(error.into()))?;
        self.out.write_all(b"\n").map_err(Error::output)
    }

    /// Hands everything on.
    pub(crate) fn finish(&mut self) -> Result<()> {
        self.out.flush().map_err(Error::output)
    }
}

/// A number with its thousands told apart: `80,789`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of bytes as people say it: `1.2 MiB`.
pub(crate) fn bytes(number: u64) -> String {
    let mut rest = number as f64;
    let mut unit = "B";
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if rest < 1024.0 {
            break;
        }
        rest /= 1024.0;
        unit = larger;
    }
    if unit == "B" { format!("{number} B") } else { format!("{rest:.1} {unit}") }
}

/// Text from a store, made harmless for a terminal: one line, no control characters.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\r' | '\t' => ' ',
            c if c.is_control() => char::REPLACEMENT_CHARACTER,
            c => c,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_bytes_get_a_unit() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0, 1023, 1024, 1_572_864].map(bytes), ["0 B", "1023 B", "1.0 KiB", "1.5 MiB"]);
    }

    #[test]
    fn what_could_move_the_cursor_is_not_printed() {
        assert_eq!(printable("a\n\u{1b}[2J\u{9b}b"), "a \u{fffd}[2J\u{fffd}b");
    }
}
