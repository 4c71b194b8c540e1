//! Set algebra on inclusive ranges.
//!
//! A set is a slice of ranges that is sorted, disjoint and merged: no two of its ranges overlap
//! or touch, so equal sets are equal slices. Every function here takes and returns such slices;
//! only [`normalise`] takes anything.

use super::model::Ranges;

/// A number that ranges run over.
pub trait Value: Copy + Ord {
    /// The next one, unless this is the last.
    fn successor(self) -> Option<Self>;
    /// The one before, unless this is the first.
    fn predecessor(self) -> Option<Self>;
}

macro_rules! values {
    ($($number:ty),+) => {$(
        impl Value for $number {
            fn successor(self) -> Option<Self> {
                self.checked_add(1)
            }

            fn predecessor(self) -> Option<Self> {
                self.checked_sub(1)
            }
        }
    )+};
}

values!(u8, u16, u32, u128);

/// Sorts and merges ranges of any order; those whose end is before their start are empty.
pub fn normalise<T: Value>(mut ranges: Vec<(T, T)>) -> Vec<(T, T)> {
    ranges.retain(|range| range.0 <= range.1);
    ranges.sort_unstable();
    let mut merged: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for range in ranges {
        append(&mut merged, range);
    }
    merged
}

/// What is in `a` or in `b`.
pub fn union<T: Value>(a: &[(T, T)], b: &[(T, T)]) -> Vec<(T, T)> {
    let mut merged = Vec::with_capacity(a.len() + b.len());
    let (mut left, mut right) = (a.iter().copied().peekable(), b.iter().copied().peekable());
    loop {
        let next = match (left.peek(), right.peek()) {
            (Some(l), Some(r)) if l.0 <= r.0 => left.next(),
            (Some(_), None) => left.next(),
            _ => right.next(),
        };
        match next {
            Some(range) => append(&mut merged, range),
            None => return merged,
        }
    }
}

/// What is in `a` and in `b`.
pub fn intersection<T: Value>(a: &[(T, T)], b: &[(T, T)]) -> Vec<(T, T)> {
    let mut common = Vec::new();
    let (mut i, mut j) = (0, 0);
    while let (Some(left), Some(right)) = (a.get(i), b.get(j)) {
        let (first, last) = (left.0.max(right.0), left.1.min(right.1));
        if first <= last {
            common.push((first, last));
        }
        if left.1 < right.1 { i += 1 } else { j += 1 }
    }
    common
}

/// What is in `a` and not in `b`.
pub fn difference<T: Value>(a: &[(T, T)], b: &[(T, T)]) -> Vec<(T, T)> {
    let mut rest = Vec::new();
    let mut skipped = 0;
    for &(first, last) in a {
        skipped += b[skipped..].partition_point(|cut| cut.1 < first);
        // Where the part that is still uncut begins; `None` when nothing of it is left.
        let mut begin = Some(first);
        for cut in b[skipped..].iter().take_while(|cut| cut.0 <= last) {
            if let (Some(from), Some(to)) = (begin, cut.0.predecessor())
                && from <= to
            {
                rest.push((from, to));
            }
            begin = cut.1.successor();
        }
        if let Some(from) = begin
            && from <= last
        {
            rest.push((from, last));
        }
    }
    rest
}

/// Whether all of `a` is in `b`.
pub fn is_subset<T: Value>(a: &[(T, T)], b: &[(T, T)]) -> bool {
    let mut skipped = 0;
    a.iter().all(|range| {
        skipped += b[skipped..].partition_point(|outer| outer.1 < range.1);
        b.get(skipped).is_some_and(|outer| outer.0 <= range.0)
    })
}

/// Whether nothing is in both.
pub fn is_disjoint<T: Value>(a: &[(T, T)], b: &[(T, T)]) -> bool {
    let (mut i, mut j) = (0, 0);
    while let (Some(left), Some(right)) = (a.get(i), b.get(j)) {
        if left.1 < right.0 {
            i += 1;
        } else if right.1 < left.0 {
            j += 1;
        } else {
            return false;
        }
    }
    true
}

/// Whether `value` is in `a`.
pub fn contains<T: Value>(a: &[(T, T)], value: T) -> bool {
    let at = a.partition_point(|range| range.1 < value);
    a.get(at).is_some_and(|range| range.0 <= value)
}

/// Appends a range that begins at or after the start of the last one.
fn append<T: Value>(merged: &mut Vec<(T, T)>, range: (T, T)) {
    if let Some(last) = merged.last_mut()
        && last.1.successor().is_none_or(|next| range.0 <= next)
    {
        last.1 = last.1.max(range.1);
    } else {
        merged.push(range);
    }
}

impl Ranges {
    /// Every address.
    pub fn all() -> Self {
        Self { v4: vec![(0, u32::MAX)], v6: vec![(0, u128::MAX)] }
    }

    /// Addresses in `self` or in `other`.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self { v4: union(&self.v4, &other.v4), v6: union(&self.v6, &other.v6) }
    }

    /// Addresses in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        Self { v4: intersection(&self.v4, &other.v4), v6: intersection(&self.v6, &other.v6) }
    }

    /// Addresses in `self` and not in `other`.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        Self { v4: difference(&self.v4, &other.v4), v6: difference(&self.v6, &other.v6) }
    }

    /// Whether all addresses of `self` are in `other`.
    pub fn is_subset(&self, other: &Self) -> bool {
        is_subset(&self.v4, &other.v4) && is_subset(&self.v6, &other.v6)
    }

    /// Whether no address is in both.
    pub fn is_disjoint(&self, other: &Self) -> bool {
        is_disjoint(&self.v4, &other.v4) && is_disjoint(&self.v6, &other.v6)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Ends at 0 and 255 are drawn often: that is where arithmetic could wrap.
    fn end() -> impl Strategy<Value = u8> {
        prop_oneof![4 => any::<u8>(), 1 => Just(0), 1 => Just(255), 1 => Just(1), 1 => Just(254)]
    }

    fn set() -> impl Strategy<Value = Vec<(u8, u8)>> {
        prop::collection::vec((end(), end()), 0..6).prop_map(normalise)
    }

    fn members(ranges: &[(u8, u8)]) -> Vec<bool> {
        (0..=255u8).map(|v| ranges.iter().any(|range| range.0 <= v && v <= range.1)).collect()
    }

    fn is_normal(ranges: &[(u8, u8)]) -> bool {
        ranges.iter().all(|range| range.0 <= range.1)
            && ranges.windows(2).all(|pair| pair[0].1.successor().is_some_and(|next| next < pair[1].0))
    }

    fn combine(a: &[(u8, u8)], b: &[(u8, u8)], op: fn(bool, bool) -> bool) -> Vec<bool> {
        members(a).into_iter().zip(members(b)).map(|(a, b)| op(a, b)).collect()
    }

    proptest! {
        #[test]
        fn normalise_keeps_members(ranges in prop::collection::vec((end(), end()), 0..8)) {
            let normal = normalise(ranges.clone());
            prop_assert!(is_normal(&normal));
            prop_assert_eq!(members(&normal), members(&ranges));
        }

        #[test]
        fn operations_agree_with_membership(a in set(), b in set()) {
            for (result, op) in [
                (union(&a, &b), (|a, b| a || b) as fn(bool, bool) -> bool),
                (intersection(&a, &b), |a, b| a && b),
                (difference(&a, &b), |a, b| a && !b),
            ] {
                prop_assert!(is_normal(&result), "{:?}", result);
                prop_assert_eq!(members(&result), combine(&a, &b, op));
            }
            prop_assert_eq!(is_subset(&a, &b), !combine(&a, &b, |a, b| a && !b).contains(&true));
            prop_assert_eq!(is_disjoint(&a, &b), !combine(&a, &b, |a, b| a && b).contains(&true));
        }

        #[test]
        fn contains_agrees_with_membership(a in set(), value in end()) {
            prop_assert_eq!(contains(&a, value), members(&a)[usize::from(value)]);
        }
    }

    #[test]
    fn whole_address_spaces_do_not_overflow() {
        let all = Ranges::all();
        assert_eq!(all.union(&all), all);
        assert_eq!(all.difference(&all), Ranges::default());
        let but_last = Ranges { v4: vec![(0, u32::MAX - 1)], v6: vec![(0, u128::MAX - 1)] };
        let last = Ranges { v4: vec![(u32::MAX, u32::MAX)], v6: vec![(u128::MAX, u128::MAX)] };
        assert_eq!(all.difference(&but_last), last);
        assert_eq!(but_last.union(&last), all);
    }

    /// Both families count: a set that differs in one of them only is another set.
    #[test]
    fn address_sets_are_compared_in_both_families() {
        let set = |v4: u32, v6: u128| Ranges { v4: vec![(1, v4)], v6: vec![(1, v6)] };
        let (small, large) = (set(5, 5), set(9, 9));
        assert_eq!(small.intersection(&large), small);
        assert_eq!(large.difference(&small), Ranges { v4: vec![(6, 9)], v6: vec![(6, 9)] });
        assert!(small.is_subset(&large) && small.is_subset(&small));
        assert!(!set(9, 5).is_subset(&set(5, 9)) && !set(5, 9).is_subset(&set(9, 5)));
        let (v4, v6) = (Ranges { v6: Vec::new(), ..set(5, 5) }, Ranges { v4: Vec::new(), ..set(5, 5) });
        assert!(v4.is_disjoint(&v6));
        assert!(!v4.is_disjoint(&large) && !v6.is_disjoint(&large));
    }
}
