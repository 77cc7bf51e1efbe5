//! A figure: what was measured in every round, beside its baseline, as a line of a table and as JSON.

use serde_json::{Value, json};

/// One thing that was measured.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    /// What it is called with `ONLY=`.
    pub(crate) name: String,
    /// In what it is counted.
    pub(crate) unit: &'static str,
    /// Each round.
    pub(crate) rounds: Vec<f64>,
    /// What it is held against, round by round.
    pub(crate) baseline: Option<(&'static str, Vec<f64>)>,
    /// What to know about it.
    pub(crate) conditions: String,
}

impl Figure {
    /// The middle of the rounds.
    pub(crate) fn value(&self) -> f64 {
        median(&self.rounds)
    }

    /// The middle of the rounds' own ratios.
    pub(crate) fn ratio(&self) -> Option<f64> {
        let (_, baseline) = self.baseline.as_ref()?;
        Some(median(&self.rounds.iter().zip(baseline).map(|(value, base)| value / base).collect::<Vec<_>>()))
    }

    /// As `target/bench.json` has it.
    pub(crate) fn json(&self) -> Value {
        let baseline =
            self.baseline.as_ref().map(|(name, rounds)| json!({"name": name, "value": round(median(rounds))}));
        json!({
            "name": self.name,
            "unit": self.unit,
            "value": round(self.value()),
            "rounds": self.rounds.iter().copied().map(round).collect::<Vec<_>>(),
            "baseline": baseline,
            "ratio": self.ratio().map(round),
            "conditions": self.conditions,
        })
    }

    fn row(&self) -> [String; 5] {
        let spread = |rounds: &[f64]| {
            let (least, most) = rounds.iter().fold((f64::MAX, f64::MIN), |(l, m), x| (l.min(*x), m.max(*x)));
            format!("{} [{} .. {}]", number(median(rounds)), number(least), number(most))
        };
        [
            self.name.clone(),
            format!("{} {}", spread(&self.rounds), self.unit),
            self.baseline.as_ref().map(|(name, rounds)| format!("{} {name}", spread(rounds))).unwrap_or_default(),
            self.ratio().map(|ratio| format!("{ratio:.2}")).unwrap_or_default(),
            self.conditions.clone(),
        ]
    }
}

/// All figures, one a line.
pub(crate) fn table(figures: &[Figure]) -> String {
    let head = ["name", "median [min .. max]", "baseline", "ratio", "conditions"].map(str::to_owned);
    let rows: Vec<_> = std::iter::once(head).chain(figures.iter().map(Figure::row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths = [0, 1, 2, 3].map(width);
    let line = |row: &[String; 5]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}  "));
        format!("{}{}", cells.collect::<String>(), row[4])
    };
    rows.iter().map(|row| line(row).trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// The middle one; of an even number the mean of the two in the middle.
pub(crate) fn median(rounds: &[f64]) -> f64 {
    let mut sorted = rounds.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// What this share of them does not exceed.
pub(crate) fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get((sorted.len().saturating_sub(1) as f64 * share) as usize).copied().unwrap_or(f64::NAN)
}

fn number(value: f64) -> String {
    if value.abs() >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

/// Three digits behind the point are more than any of this is worth.
fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
