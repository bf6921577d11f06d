//! What a workload finds out.

use super::median;

/// What a ratio must reach.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bar {
    AtLeast(f64),
    AtMost(f64),
}

#[derive(Clone, Debug)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    /// Medians; not a number where that side was not run.
    pub(crate) value: f64,
    pub(crate) limit: f64,
    /// Median of the ratios of the pairs.
    pub(crate) ratio: f64,
    pub(crate) bar: Bar,
    /// Value and limit of each pair.
    pub(crate) samples: Vec<(f64, f64)>,
}

impl Figure {
    /// From samples that were taken pair by pair.
    pub(crate) fn of_pairs(
        name: &str,
        unit: &'static str,
        bar: Bar,
        values: impl IntoIterator<Item = f64>,
        limits: impl IntoIterator<Item = f64>,
    ) -> Self {
        let samples: Vec<_> = values.into_iter().zip(limits).collect();
        Self {
            name: name.to_owned(),
            unit,
            value: median(samples.iter().map(|pair| pair.0)),
            limit: median(samples.iter().map(|pair| pair.1)),
            ratio: median(samples.iter().map(|pair| pair.0 / pair.1)),
            bar,
            samples,
        }
    }

    /// The limit alone.
    pub(crate) fn of_limit(
        name: &str,
        unit: &'static str,
        bar: Bar,
        limits: impl IntoIterator<Item = f64>,
    ) -> Self {
        Self::of_pairs(name, unit, bar, std::iter::repeat(f64::NAN), limits)
    }

    /// A value that stands on its own against a fixed limit.
    pub(crate) fn of_value(name: &str, unit: &'static str, value: f64, limit: f64) -> Self {
        Self::of_pairs(name, unit, Bar::AtMost(1.0), [value], [limit])
    }

    /// What must not happen at all: how often it did.
    pub(crate) fn of_never(name: &str, unit: &'static str, times: f64) -> Self {
        let samples = vec![(times, 0.0)];
        Self {
            name: name.to_owned(),
            unit,
            value: times,
            limit: 0.0,
            ratio: times,
            bar: Bar::AtMost(0.0),
            samples,
        }
    }

    /// Whether the bar is reached; true where there was nothing to compare.
    pub(crate) fn is_met(&self) -> bool {
        match self.bar {
            _ if self.ratio.is_nan() => true,
            Bar::AtLeast(least) => self.ratio >= least,
            Bar::AtMost(most) => self.ratio <= most,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_the_median_of_the_pairs_and_not_the_ratio_of_the_medians() {
        let figure = Figure::of_pairs("f", "s", Bar::AtMost(1.5), [1.0, 4.0, 9.0], [1.0, 1.0, 3.0]);
        assert_eq!((figure.value, figure.limit, figure.ratio), (4.0, 1.0, 3.0));
        assert!(!figure.is_met());
        assert!(Figure::of_value("f", "MiB", 31.0, 32.0).is_met());
        assert!(Figure::of_limit("f", "s", Bar::AtLeast(1.0), [2.0]).is_met());
        assert!(Figure::of_never("f", "rows", 0.0).is_met());
        assert!(!Figure::of_never("f", "rows", 1.0).is_met());
    }
}
