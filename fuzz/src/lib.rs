//! Fuzz targets: what reads policy text, captures, frames and the words of a command line, held to
//! what it promises, on any bytes at all. A target returns where all is well, and panics where not.
//!
//! libFuzzer drives them (`cargo xtask fuzz`, feature `libfuzzer`); `tests/short.rs` runs them for
//! some seconds without it.

pub mod capture;
pub mod frames;
pub mod frames_kernel;
pub mod mutation;
pub mod policies;
pub mod policy_text;
pub mod random;
pub mod seeds;
pub mod vocabulary;
pub mod wire;
pub mod words;

/// A fuzz target.
#[derive(Clone, Copy)]
pub struct Target {
    /// As `cargo xtask fuzz` calls it, and its folders.
    pub name: &'static str,
    /// Reads an input; panics where a promise is broken.
    pub run: fn(&[u8]),
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Parts of inputs that mean something.
    pub vocabulary: fn() -> Vec<Vec<u8>>,
    /// Bytes of an input, at most.
    pub most: usize,
}

macro_rules! target {
    ($name:ident, $most:expr) => {
        Target {
            name: stringify!($name),
            run: $name::run,
            seeds: seeds::$name,
            vocabulary: vocabulary::$name,
            most: $most,
        }
    };
}

/// All targets.
pub const TARGETS: [Target; 5] = [
    target!(policy_text, 3 << 10),
    target!(capture, 4 << 10),
    target!(frames, 2 << 10),
    target!(frames_kernel, 2 << 10),
    target!(words, 512),
];
