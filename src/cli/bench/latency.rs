//! Latencies in a histogram of three significant digits, and the few figures a report
//! shows of it.

use hdrhistogram::Histogram;
use serde::Serialize;

/// Latencies of one thread; merged at the end.
#[derive(Clone, Debug)]
pub struct Latencies(Histogram<u64>);

impl Latencies {
    /// No latencies.
    pub fn new() -> Self {
        // The bounds are constants, which the histogram takes.
        Self(
            Histogram::new_with_bounds(FINEST_NS, LONGEST_NS, 3)
                .expect("the bounds are a factor of two apart and the digits at most five"),
        )
    }

    /// Adds one; what is above an hour counts as an hour.
    #[inline]
    pub fn record(&mut self, ns: u64) {
        self.0.saturating_record(ns);
    }

    /// Adds all of another thread's.
    pub fn merge(&mut self, other: &Self) {
        self.0
            .add(&other.0)
            .expect("both histograms have the same bounds");
    }

    /// The figures for the report; `None` if nothing was recorded.
    pub fn figures(&self) -> Option<LatencyFigures> {
        let histogram = &self.0;
        let us = |ns: u64| ns as f64 / 1_000.0;
        (!histogram.is_empty()).then(|| LatencyFigures {
            samples: histogram.len(),
            mean_us: histogram.mean() / 1_000.0,
            p50_us: us(histogram.value_at_quantile(0.5)),
            p99_us: us(histogram.value_at_quantile(0.99)),
            p99_9_us: us(histogram.value_at_quantile(0.999)),
            max_us: us(histogram.max()),
        })
    }
}

/// What a report shows of many latencies, in microseconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LatencyFigures {
    /// How many messages were measured.
    pub samples: u64,
    /// Arithmetic mean.
    pub mean_us: f64,
    /// Half were faster.
    pub p50_us: f64,
    /// 99 of 100 were faster.
    pub p99_us: f64,
    /// 999 of 1,000 were faster.
    pub p99_9_us: f64,
    /// The slowest.
    pub max_us: f64,
}

/// Finer than what a system call costs.
const FINEST_NS: u64 = 64;
const LONGEST_NS: u64 = 3_600_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_within_a_thousandth() {
        let (mut low, mut high) = (Latencies::new(), Latencies::new());
        (1..=500).for_each(|us| low.record(us * 1_000));
        (501..=1_000).for_each(|us| high.record(us * 1_000));
        low.merge(&high);
        let figures = low.figures().expect("there are a thousand");
        assert_eq!(figures.samples, 1_000);
        for (figure, expected) in [
            (figures.mean_us, 500.5),
            (figures.p50_us, 500.0),
            (figures.p99_us, 990.0),
            (figures.p99_9_us, 999.0),
            (figures.max_us, 1_000.0),
        ] {
            assert!(
                (figure / expected - 1.0).abs() < 2e-3,
                "{figure} {expected}"
            );
        }
    }

    #[test]
    fn nothing_measured_gives_no_figures() {
        assert_eq!(Latencies::new().figures(), None);
    }

    #[test]
    fn beyond_an_hour_counts_as_an_hour() {
        let mut latencies = Latencies::new();
        latencies.record(u64::MAX);
        let max_us = latencies.figures().map(|figures| figures.max_us);
        assert!(
            max_us.is_some_and(|us| (3.6e9..3.7e9).contains(&us)),
            "{max_us:?}"
        );
    }
}
