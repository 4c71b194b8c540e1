//! What many rounds of one measurement come to.

use serde::Serialize;

/// Median and quartiles.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    /// A quarter of the rounds was below this.
    pub(crate) low: f64,
    /// A quarter was above this.
    pub(crate) high: f64,
    pub(crate) minimum: f64,
}

impl Summary {
    /// Of at least one value.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_unstable_by(f64::total_cmp);
        let at = |quarter: usize| values[(values.len() - 1) * quarter / 4];
        Self { median: at(2), low: at(1), high: at(3), minimum: at(0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_rounds_does_not_matter() {
        let summary = Summary::of([9.0, 1.0, 3.0, 5.0, 7.0]);
        assert_eq!(summary, Summary { median: 5.0, low: 3.0, high: 7.0, minimum: 1.0 });
        assert_eq!(Summary::of([2.0]), Summary { median: 2.0, low: 2.0, high: 2.0, minimum: 2.0 });
    }
}
