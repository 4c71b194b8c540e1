#![no_main]
//! See [`clinigate_fuzz::capture`].

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| clinigate_fuzz::capture::run(bytes));
