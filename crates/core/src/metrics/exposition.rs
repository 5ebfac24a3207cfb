//! Prometheus' text format, version 0.0.4.
//!
//! Owns the text: what is escaped, and that the samples of a family stand together under their HELP and TYPE.
//! Must never know what is measured.

use super::histogram::{BOUNDS, Counts};
use std::fmt::Write;

/// What a family's TYPE says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; its name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by bucket: see [`Exposition::histogram`].
    Histogram,
}

/// A text that grows by families.
///
/// ```
/// use aioxide_core::metrics::{Exposition, Kind};
///
/// let mut text = Exposition::new();
/// text.family("turns_total", Kind::Counter, "Turns of the loop.");
/// text.sample("turns_total", &[("loop", "0")], 12.0);
/// assert_eq!(
///     text.finish(),
///     "# HELP turns_total Turns of the loop.\n# TYPE turns_total counter\nturns_total{loop=\"0\"} 12\n"
/// );
/// ```
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
}

impl Exposition {
    /// No families yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins a family: all its samples follow, before the next family begins.
    pub fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.text.push_str("# HELP ");
        self.text.push_str(name);
        self.text.push(' ');
        escape(&mut self.text, help, false);
        self.line(&format!("\n# TYPE {name} {kind}"));
    }

    /// One value. Counts up to 2⁵³ are exact.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.text.push_str(name);
        self.labels(labels, None);
        self.line(&format!(" {}", number(value)));
    }

    /// The samples of a histogram of durations, in seconds.
    pub fn histogram(&mut self, name: &str, labels: &[(&str, &str)], counts: &Counts) {
        let mut sum = 0;
        let ends = BOUNDS.iter().map(|&bound| number(bound as f64 / 1e9));
        for (count, end) in counts.buckets.iter().zip(ends.chain(["+Inf".to_owned()])) {
            sum += count;
            self.text.push_str(name);
            self.text.push_str("_bucket");
            self.labels(labels, Some(&end));
            self.line(&format!(" {sum}"));
        }
        self.sample(&format!("{name}_sum"), labels, counts.sum as f64 / 1e9);
        self.sample(&format!("{name}_count"), labels, sum as f64);
    }

    /// The text.
    #[must_use]
    pub fn finish(self) -> String {
        self.text
    }

    fn labels(&mut self, labels: &[(&str, &str)], bound: Option<&str>) {
        let mut before = '{';
        for (name, value) in labels.iter().copied().chain(bound.map(|bound| ("le", bound))) {
            self.text.push(before);
            self.text.push_str(name);
            self.text.push_str("=\"");
            escape(&mut self.text, value, true);
            self.text.push('"');
            before = ',';
        }
        if before == ',' {
            self.text.push('}');
        }
    }

    fn line(&mut self, text: &str) {
        self.text.push_str(text);
        self.text.push('\n');
    }
}

/// As Prometheus spells it.
fn number(value: f64) -> String {
    let mut text = String::new();
    let _ = if value.is_nan() {
        write!(text, "NaN")
    } else if value.is_infinite() {
        write!(text, "{}Inf", if value > 0.0 { '+' } else { '-' })
    } else {
        write!(text, "{value}")
    };
    text
}

fn escape(text: &mut String, value: &str, quoted: bool) {
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '"' if quoted => text.push_str("\\\""),
            _ => text.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Histogram;

    #[test]
    fn labels_and_help_are_escaped() {
        let mut text = Exposition::new();
        text.family("a", Kind::Gauge, "a \"line\"\nand \\ another");
        text.sample("a", &[("task", "x\"\n\\y"), ("loop", "1")], 0.5);
        text.sample("a", &[], f64::INFINITY);
        assert_eq!(
            text.finish(),
            "# HELP a a \"line\"\\nand \\\\ another\n# TYPE a gauge\na{task=\"x\\\"\\n\\\\y\",loop=\"1\"} 0.5\na +Inf\n"
        );
    }

    #[test]
    fn buckets_are_cumulative_and_end_with_all() {
        let histogram = Histogram::default();
        for nanoseconds in [1000, 3000, 1 << 40] {
            histogram.record(nanoseconds);
        }
        let mut text = Exposition::new();
        text.histogram("d", &[("loop", "0")], &histogram.counts());
        let text = text.finish();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), BOUNDS.len() + 3);
        assert_eq!(lines[0], "d_bucket{loop=\"0\",le=\"0.000001024\"} 1");
        assert_eq!(lines[2], "d_bucket{loop=\"0\",le=\"0.000004096\"} 2");
        assert_eq!(
            lines[BOUNDS.len() - 1],
            "d_bucket{loop=\"0\",le=\"68.719476736\"} 2"
        );
        assert_eq!(lines[BOUNDS.len()], "d_bucket{loop=\"0\",le=\"+Inf\"} 3");
        assert_eq!(lines[BOUNDS.len() + 1], "d_sum{loop=\"0\"} 1099.511631776");
        assert_eq!(lines[BOUNDS.len() + 2], "d_count{loop=\"0\"} 3");
    }
}
