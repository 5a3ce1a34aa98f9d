//! The figures of all rounds as a table for people and as a picture.

use std::fmt::Write;

use crate::servers::Side;
use crate::workloads::{Better, Row, Workload, quantile};

/// What was measured in each round, one figure per row.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    yardstick: Vec<Vec<f64>>,
    chinwag: Vec<Vec<f64>>,
}

impl Rounds {
    pub(crate) fn add(&mut self, side: Side, figures: Vec<f64>) {
        match side {
            Side::Yardstick => self.yardstick.push(figures),
            Side::Chinwag => self.chinwag.push(figures),
        }
    }
}

/// A line of the table.
pub(crate) struct Line {
    row: &'static Row,
    /// Medians.
    yardstick: f64,
    chinwag: f64,
    /// Of each round's own ratio: the smallest, the median, the largest.
    ratio: [f64; 3],
}

pub(crate) fn lines(figures: &[(&'static Workload, Rounds)]) -> Vec<Line> {
    let lines = figures.iter().flat_map(|(workload, rounds)| {
        workload.rows.iter().enumerate().map(|(at, row)| {
            let column = |rounds: &[Vec<f64>]| -> Vec<f64> { rounds.iter().map(|figures| figures[at]).collect() };
            let (yardstick, chinwag) = (column(&rounds.yardstick), column(&rounds.chinwag));
            let ratios: Vec<f64> = chinwag.iter().zip(&yardstick).map(|(ours, floor)| ours / floor).collect();
            let ratio = [0.0, 0.5, 1.0].map(|part| quantile(ratios.clone(), part));
            Line { row, yardstick: quantile(yardstick, 0.5), chinwag: quantile(chinwag, 0.5), ratio }
        })
    });
    lines.collect()
}

/// Markdown that is aligned as plain text too.
pub(crate) fn table(lines: &[Line], rounds: u32) -> String {
    let mut cells = vec![["workload", "floor", "chinwag", "ratio", "range", "unit"].map(str::to_owned)];
    cells.extend(lines.iter().map(|line| {
        let [least, median, most] = line.ratio;
        let range = format!("{least:.2}-{most:.2}");
        let [floor, chinwag] = [line.yardstick, line.chinwag].map(number);
        [line.row.what.to_owned(), floor, chinwag, format!("{median:.2}"), range, line.row.unit.to_owned()]
    }));
    let widths: [usize; 6] =
        std::array::from_fn(|at| cells.iter().map(|row| row[at].chars().count()).max().unwrap_or(0));
    let mut text = String::new();
    for (number, row) in cells.iter().enumerate() {
        for (at, (cell, width)) in row.iter().zip(widths).enumerate() {
            // Words to the left, figures to the right.
            let is_word = at == 0 || at == 5;
            let _ = if is_word { write!(text, "| {cell:<width$} ") } else { write!(text, "| {cell:>width$} ") };
        }
        text.push_str("|\n");
        if number == 0 {
            for (at, width) in widths.iter().enumerate() {
                let line = "-".repeat(width + 1);
                let _ = if at == 0 || at == 5 { write!(text, "|{line}-") } else { write!(text, "|{line}:") };
            }
            text.push_str("|\n");
        }
    }
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let _ = write!(
        text,
        "\nMedians of {rounds} rounds on {cpus} CPUs, both sides in turns. Ratio: chinwag by floor, within a round.\n\
         (*) Compared with the same durable server when the receivers are present."
    );
    text
}

/// Three digits that count, or all before the point.
fn number(value: f64) -> String {
    let decimals = match value {
        100.0.. => 0,
        10.0.. => 1,
        _ => 2,
    };
    let text = format!("{value:.decimals$}");
    if decimals > 0 {
        return text;
    }
    let mut grouped = String::new();
    for (at, digit) in text.chars().enumerate() {
        if at > 0 && (text.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Pixels of the picture.
const WIDTH: f64 = 860.0;
const ROW: f64 = 24.0;
const BARS_LEFT: f64 = 330.0;
const BARS_WIDTH: f64 = 300.0;

/// The ratios as bars: first where less is better, then where more is. Grey and blue can be read
/// on a white page and on a black one.
pub(crate) fn svg(lines: &[Line]) -> String {
    let groups = [(Better::Less, "less is better"), (Better::More, "more is better")];
    let longest = lines.iter().map(|line| line.ratio[1]).fold(1.0, f64::max);
    let x = |ratio: f64| BARS_LEFT + ratio / longest * BARS_WIDTH;
    let mut body = String::new();
    let mut y = 2.0 * ROW;
    for (better, title) in groups {
        let mut rows = lines.iter().filter(|line| line.row.better == better).peekable();
        if rows.peek().is_none() {
            continue;
        }
        let _ = writeln!(body, r#"<text x="12" y="{y}" font-weight="bold">{title}</text>"#);
        let top = y + 8.0;
        for line in rows {
            y += ROW;
            let Row { what, unit, .. } = line.row;
            let (end, ratio) = (x(line.ratio[1]), line.ratio[1]);
            let [floor, chinwag] = [line.yardstick, line.chinwag].map(number);
            let (height, bar) = (ROW - 8.0, y - 13.0);
            let bar_width = end - BARS_LEFT;
            let _ = writeln!(body, r#"<text x="12" y="{y}">{what}, {unit}</text>"#);
            let _ = writeln!(
                body,
                r##"<rect x="{BARS_LEFT}" y="{bar}" width="{bar_width:.1}" height="{height}" rx="2" fill="#4184e4"/>"##
            );
            let after = end.max(x(1.0)) + 8.0;
            let _ = writeln!(body, r#"<text x="{after:.1}" y="{y}">{ratio:.2} ({chinwag}, floor {floor})</text>"#);
        }
        let one = x(1.0);
        let _ = writeln!(body, r##"<path d="M{one:.1} {top}V{y}" stroke="#808890" stroke-dasharray="3 3"/>"##);
        y += 2.0 * ROW;
    }
    let height = y - ROW;
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"
 font-family="sans-serif" font-size="13" fill="#808890">
<title>chinwag in relation to a relay that only copies bytes</title>
<text x="12" y="20">chinwag by floor, medians; the dashed line is the floor, or (*) the same server with receivers present</text>
{body}</svg>
"##
    )
}
