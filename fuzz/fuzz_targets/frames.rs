#![no_main]
//! See [`clinigate_fuzz::frames`].

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| clinigate_fuzz::frames::run(bytes));
