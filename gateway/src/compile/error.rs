//! What a policy may not exceed.

/// Bytes that all tables of a generation may take together. During a change two generations
/// are in memory.
pub const TABLE_BYTES: u64 = 256 << 20;

/// Why a policy cannot be turned into tables.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// The tables would take too much memory.
    #[error(
        "the tables would take at least {bytes} bytes once those for {table} are added, more than the limit of \
         {limit}; {remedy}"
    )]
    TableBytes {
        /// The table that no longer fits.
        table: &'static str,
        /// Bytes of the tables so far, this one included.
        bytes: u64,
        /// The limit.
        limit: u64,
        /// What to do.
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

/// What is left of [`TABLE_BYTES`].
#[derive(Debug)]
pub(super) struct Budget {
    taken: u64,
}

impl Budget {
    pub(super) fn new() -> Self {
        Self { taken: 0 }
    }

    /// Refuses a table that would not fit, before memory is spent on it.
    pub(super) fn allow(&self, table: &'static str, bytes: u64) -> Result<(), CompileError> {
        let total = self.taken.saturating_add(bytes);
        if total <= TABLE_BYTES {
            return Ok(());
        }
        Err(CompileError::TableBytes { table, bytes: total, limit: TABLE_BYTES, remedy: remedy(table) })
    }

    /// Counts a table of this many bytes.
    pub(super) fn take(&mut self, table: &'static str, bytes: u64) -> Result<(), CompileError> {
        self.allow(table, bytes)?;
        self.taken += bytes;
        Ok(())
    }

    pub(super) fn taken(&self) -> u64 {
        self.taken
    }
}

fn remedy(table: &str) -> &'static str {
    match table {
        "IPv4 addresses" | "IPv6 addresses" => "name prefixes instead of single addresses",
        "services" => "use fewer or less overlapping port ranges",
        _ => "give devices that are treated alike one group, and rules groups instead of single devices",
    }
}
