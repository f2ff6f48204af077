//! Weights: binding keys that are numbers, and the plugin's words for others.

use crate::model::erlang_binary;

/// How often a destination is chosen, compared with the others; at least 1.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Weight(u32);

impl Weight {
    /// Reads a binding key. What is too high for us is as high as it gets.
    pub fn of(key: &str) -> Result<Self, String> {
        let not_an_integer = || {
            let key = erlang_binary(key.as_bytes());
            format!("The binding key must be an integer: {key}")
        };
        let (negative, digits) = match key.as_bytes() {
            [b'-', digits @ ..] => (true, digits),
            [b'+', digits @ ..] => (false, digits),
            digits => (false, digits),
        };
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return Err(not_an_integer());
        }
        let number = digits.iter().fold(0u32, |number, digit| {
            let digit = u32::from(digit - b'0');
            number.saturating_mul(10).saturating_add(digit)
        });
        if negative || number == 0 {
            return Err("The binding key must be greater than 0".to_owned());
        }
        Ok(Self(number))
    }

    /// How good a draw is when it is weighed; the lowest one wins. Of numbers
    /// drawn evenly each wins in proportion to its weight (the logarithm makes
    /// waiting times of them, and the weight how often something comes).
    pub fn score(self, draw: u64) -> f64 {
        // Above 0, so that the logarithm is finite.
        let evenly = ((draw >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        -evenly.ln() / f64::from(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts are RabbitMQ 3.10's, read off the wire.
    #[test]
    fn weights_are_positive_integers() {
        for (key, weight) in [
            ("1", 1),
            ("+3", 3),
            ("007", 7),
            ("10001", 10_001),
            ("99999999999999999999", u32::MAX),
        ] {
            assert_eq!(Weight::of(key), Ok(Weight(weight)), "{key}");
        }
        for key in ["0", "-1", "-0", "00"] {
            let text = "The binding key must be greater than 0";
            assert_eq!(Weight::of(key), Err(text.to_owned()), "{key}");
        }
        for (key, shown) in [
            ("", "<<>>"),
            ("a", "<<\"a\">>"),
            ("1.5", "<<\"1.5\">>"),
            (" 1", "<<\" 1\">>"),
            ("+", "<<\"+\">>"),
            ("1_000", "<<\"1_000\">>"),
        ] {
            let text = format!("The binding key must be an integer: {shown}");
            assert_eq!(Weight::of(key), Err(text), "{key}");
        }
    }
}
