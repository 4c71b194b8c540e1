#![no_main]
//! See [`clinigate_fuzz::frames_kernel`].

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| clinigate_fuzz::frames_kernel::run(bytes));
