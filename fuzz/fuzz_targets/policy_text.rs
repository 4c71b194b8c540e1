#![no_main]
//! See [`clinigate_fuzz::policy_text`].

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| clinigate_fuzz::policy_text::run(bytes));
