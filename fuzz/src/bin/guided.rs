//! One target in libFuzzer's hands; `cargo dev fuzz --minutes` builds and starts it. Which target it is, the environment says.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use ringkeeper_fuzz::{Target, guided, target};

static TARGET: LazyLock<&'static Target> = LazyLock::new(|| {
    let name = std::env::var(guided::TARGET_VARIABLE).expect("the target's name in the environment");
    target(&name).expect("a target")
});

fuzz_target!(|bytes: &[u8]| (TARGET.run)(bytes));
