//! What becomes of the numbers of several rounds (no I/O).

use serde::Serialize;

/// Several measurements of the same.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Half are below; the mean of the two in the middle where they are even.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Of these; `None` if there are none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (first, last) = (sorted.first()?, sorted.last()?);
        let upper = sorted.get(sorted.len() / 2)?;
        let lower = sorted.get((sorted.len() - 1) / 2)?;
        Some(Self {
            median: (lower + upper) / 2.0,
            min: *first,
            max: *last,
        })
    }
}

/// Three digits that count, and commas: `4,060,000`, `9.42`, `0.0713`.
pub fn rounded(value: f64) -> String {
    let scientific = format!("{value:.2e}");
    let (Some((_, exponent)), Ok(value)) = (scientific.split_once('e'), scientific.parse::<f64>())
    else {
        return value.to_string();
    };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if value == 0.0 {
        return "0".to_owned();
    }
    let decimals = usize::try_from(2 - exponent).unwrap_or(0);
    let digits = format!("{value:.decimals$}");
    if exponent < 3 {
        return digits;
    }
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
