//! The figures of one series of durations.

use std::time::Duration;

/// Order statistics of a series.
#[derive(Debug, Clone, Copy, Default)]
pub struct Summary {
    /// The smallest value.
    pub min: Duration,
    /// A tenth is smaller.
    pub p10: Duration,
    /// Half are smaller.
    pub median: Duration,
    /// A tenth is larger.
    pub p90: Duration,
}

impl Summary {
    /// Of an empty series all is zero.
    pub fn of(series: impl Iterator<Item = Duration>) -> Self {
        let mut sorted: Vec<Duration> = series.collect();
        sorted.sort_unstable();
        let at = |percent: usize| match sorted.len() {
            0 => Duration::ZERO,
            length => sorted[(length - 1) * percent / 100],
        };
        Self { min: at(0), p10: at(10), median: at(50), p90: at(90) }
    }

    /// How far the middle four fifths lie apart, as a share of the median.
    #[must_use]
    pub fn spread(&self) -> f64 {
        (self.p90 - self.p10).as_secs_f64() / self.median.as_secs_f64().max(1e-9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_statistics_of_a_shuffled_series() {
        let series = [7, 1, 9, 3, 5, 11, 2, 8, 4, 6, 10].map(Duration::from_millis);
        let summary = Summary::of(series.into_iter());
        assert_eq!(summary.min, Duration::from_millis(1));
        assert_eq!(summary.p10, Duration::from_millis(2));
        assert_eq!(summary.median, Duration::from_millis(6));
        assert_eq!(summary.p90, Duration::from_millis(10));
        assert!((summary.spread() - 8.0 / 6.0).abs() < 1e-9);
    }

    #[test]
    fn an_empty_series_is_zero() {
        assert_eq!(Summary::of(std::iter::empty()).median, Duration::ZERO);
    }
}
