#![no_main]
//! See [`clinigate_fuzz::words`].

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| clinigate_fuzz::words::run(bytes));
