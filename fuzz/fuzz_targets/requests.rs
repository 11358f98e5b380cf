//! libFuzzer feeds `denali_fuzz_targets::requests`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| denali_fuzz_targets::requests(bytes));
