//! What a policy may not exceed.

use std::collections::BTreeMap;

/// Bytes that all tables of a generation may take together. During a change two generations
/// are in memory.
pub const TABLE_BYTES: u64 = 256 << 20;

/// Why a policy cannot be turned into tables.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// The tables would take too much memory.
    #[error(
        "the tables would take at least {} MiB, more than the limit of {} MiB; {} MiB of it is for {largest}: \
         {remedy}",
        .bytes.div_ceil(MIB), .limit / MIB, .largest_bytes.div_ceil(MIB)
    )]
    TableBytes {
        /// Bytes of the tables up to the one that no longer fits, as far as that one was made.
        bytes: u64,
        /// The limit.
        limit: u64,
        /// The largest of these tables.
        largest: &'static str,
        /// Its bytes.
        largest_bytes: u64,
        /// What makes it smaller.
        remedy: &'static str,
    },
    /// Too many classes of services.
    #[error(
        "the services' ports fall into {count} {what} classes, more than the limit of {limit}; use fewer or \
         less overlapping port ranges"
    )]
    ServiceClasses {
        /// Which classes.
        what: &'static str,
        /// How many there are, at least.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// Rules overlap in too many ways.
    #[error(
        "the rules overlap in more than {limit} ways, which no tables can hold; let fewer rules name wide ranges \
         on one side and single devices on the other"
    )]
    Overlaps {
        /// In how many ways, at least.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// Too many rules that hold only at times meet.
    #[error(
        "{count} rules that hold only at times decide about the same packets, more than the limit of {limit}; release \
         what is in quarantine twice, close grants, or merge vendor accesses"
    )]
    Choices {
        /// How many.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// Too many segments.
    #[error(
        "the policy has {count} segments, built-in ones included, more than the limit of {limit}; merge some"
    )]
    Segments {
        /// How many there are.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// Too many rules.
    #[error("the policy has {count} rules, more than the limit of {limit}; use groups to merge some")]
    Rules {
        /// How many there are.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// The resolved model lacks the built-in segments.
    #[error(
        "the resolved policy lacks the built-in segments; this is a defect of the program, please report it"
    )]
    NoBuiltInSegments,
    /// A rule refers to a segment or a service that the resolved model does not have.
    #[error(
        "rule {rule:?} refers to a segment or a service that the resolved policy does not have; this is a \
         defect of the program, please report it"
    )]
    DanglingRule {
        /// The rule's name.
        rule: String,
    },
    /// An interface refers to a segment that the resolved model does not have.
    #[error(
        "interface {interface:?} refers to a segment that the resolved policy does not have; this is a defect \
         of the program, please report it"
    )]
    DanglingInterface {
        /// The interface's name.
        interface: String,
    },
}

const MIB: u64 = 1 << 20;

/// What the tables take, at most of [`TABLE_BYTES`].
#[derive(Clone, Debug)]
pub(super) struct Budget {
    tables: BTreeMap<&'static str, u64>,
    limit: u64,
}

impl Budget {
    pub(super) fn new() -> Self {
        Self { tables: BTreeMap::new(), limit: TABLE_BYTES }
    }

    /// The same budget, of which at most so many bytes more may be taken.
    pub(super) fn narrowed(&self, bytes: u64) -> Self {
        Self { tables: self.tables.clone(), limit: self.limit.min(self.taken().saturating_add(bytes)) }
    }

    /// Refuses so many bytes more for a table where they would not fit, before memory is spent on them.
    pub(super) fn allow(&self, table: &'static str, bytes: u64) -> Result<(), CompileError> {
        let total = self.taken().saturating_add(bytes);
        if total <= self.limit {
            return Ok(());
        }
        let mut tables = self.tables.clone();
        add(&mut tables, table, bytes);
        let (largest, largest_bytes) =
            tables.into_iter().max_by_key(|&(_, bytes)| bytes).expect("one was added just now");
        let remedy = remedy(largest);
        Err(CompileError::TableBytes { bytes: total, limit: self.limit, largest, largest_bytes, remedy })
    }

    /// Counts so many bytes more for a table.
    pub(super) fn take(&mut self, table: &'static str, bytes: u64) -> Result<(), CompileError> {
        self.allow(table, bytes)?;
        add(&mut self.tables, table, bytes);
        Ok(())
    }

    /// Bytes of all tables so far.
    pub(super) fn taken(&self) -> u64 {
        self.tables.values().sum()
    }
}

fn add(tables: &mut BTreeMap<&'static str, u64>, table: &'static str, bytes: u64) {
    let of_table = tables.entry(table).or_default();
    *of_table = of_table.saturating_add(bytes);
}

fn remedy(table: &str) -> &'static str {
    match table {
        "IPv4 addresses" | "IPv6 addresses" => "name prefixes instead of single addresses",
        "services" => "use fewer or less overlapping port ranges",
        _ => "give devices that are treated alike one group, and rules groups instead of single devices",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// What the message names as the largest, and its remedy.
    fn refusal(
        budget: &mut Budget,
        table: &'static str,
        bytes: u64,
    ) -> (u64, &'static str, u64, &'static str) {
        match budget.take(table, bytes) {
            Err(CompileError::TableBytes { bytes, limit: TABLE_BYTES, largest, largest_bytes, remedy }) => {
                (bytes, largest, largest_bytes, remedy)
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn tables_may_take_the_limit_and_not_a_byte_more() {
        let mut budget = Budget::new();
        budget.take("services", 100).unwrap();
        budget.take("services", 50).unwrap();
        budget.take("verdicts", TABLE_BYTES - 150).unwrap();
        assert_eq!(budget.taken(), TABLE_BYTES);
        let (bytes, largest, largest_bytes, _) = refusal(&mut budget, "services", 1);
        assert_eq!((bytes, largest, largest_bytes), (TABLE_BYTES + 1, "verdicts", TABLE_BYTES - 150));
        assert_eq!(budget.taken(), TABLE_BYTES);
    }

    #[test]
    fn only_what_is_taken_counts() {
        let mut budget = Budget::new();
        budget.allow("verdicts", TABLE_BYTES).unwrap();
        budget.allow("verdicts", TABLE_BYTES).unwrap();
        assert_eq!(budget.taken(), 0);
        assert!(budget.allow("verdicts", u64::MAX).is_err());
        budget.take("verdicts", TABLE_BYTES).unwrap();
    }

    #[test]
    fn a_narrowed_budget_allows_so_much_more_and_never_more_than_the_whole() {
        let mut budget = Budget::new();
        budget.take("services", 100).unwrap();
        let narrow = budget.narrowed(50);
        narrow.allow("verdicts", 50).unwrap();
        let error = narrow.allow("verdicts", 51).unwrap_err();
        assert!(matches!(error, CompileError::TableBytes { bytes: 151, limit: 150, .. }), "{error:?}");
        assert!(narrow.narrowed(u64::MAX).allow("verdicts", 51).is_err());
        assert!(budget.narrowed(u64::MAX).allow("verdicts", TABLE_BYTES - 99).is_err());
    }

    #[test]
    fn the_remedy_is_that_of_the_largest_table() {
        let remedies: Vec<&str> = ["IPv4 addresses", "IPv6 addresses", "services", "verdicts", "atoms"]
            .into_iter()
            .map(|table| {
                let (_, largest, _, remedy) = refusal(&mut Budget::new(), table, TABLE_BYTES + 1);
                assert_eq!(largest, table);
                remedy
            })
            .collect();
        let prefixes = "name prefixes instead of single addresses";
        let groups =
            "give devices that are treated alike one group, and rules groups instead of single devices";
        assert_eq!(
            remedies,
            [prefixes, prefixes, "use fewer or less overlapping port ranges", groups, groups]
        );
    }
}
