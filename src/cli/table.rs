//! Columns of text: as wide as what is in them, two spaces apart, nothing behind the last one.

use std::fmt;

/// Rows under a header.
pub(super) struct Table<const N: usize> {
    header: [&'static str; N],
    rows: Vec<Row<N>>,
}

struct Row<const N: usize> {
    cells: [String; N],
    /// Whole lines below the row.
    notes: Vec<String>,
}

impl<const N: usize> Table<N> {
    /// A table without rows.
    pub(super) fn new(header: [&'static str; N]) -> Self {
        let rows = Vec::new();
        Self { header, rows }
    }

    /// Adds a row.
    pub(super) fn row(&mut self, cells: [String; N]) {
        self.noted(cells, Vec::new());
    }

    /// Adds a row with lines below it.
    pub(super) fn noted(&mut self, cells: [String; N], notes: Vec<String>) {
        self.rows.push(Row { cells, notes });
    }

    fn widths(&self) -> [usize; N] {
        std::array::from_fn(|column| {
            let cells = self.rows.iter().map(|row| row.cells[column].as_str());
            let all = cells.chain([self.header[column]]);
            all.map(|cell| cell.chars().count())
                .max()
                .unwrap_or_default()
        })
    }
}

impl<const N: usize> fmt::Display for Table<N> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        writeln!(formatter, "{}", line(self.header, widths))?;
        for row in &self.rows {
            writeln!(
                formatter,
                "{}",
                line(row.cells.each_ref().map(String::as_str), widths)
            )?;
            for note in &row.notes {
                writeln!(formatter, "  {note}")?;
            }
        }
        Ok(())
    }
}

fn line<const N: usize>(cells: [&str; N], widths: [usize; N]) -> String {
    let padded = cells.iter().zip(widths);
    let padded = padded.map(|(cell, width)| format!("{cell:<width$}"));
    let line = padded.collect::<Vec<_>>().join("  ");
    line.trim_end().to_owned()
}
