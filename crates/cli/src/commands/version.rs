//! `quorate version`.

use crate::exit::Failure;
use crate::output::Output;
use serde_json::json;

pub(super) fn run(output: Output) -> Result<(), Failure> {
    let version = env!("CARGO_PKG_VERSION");
    let planted = quorate_server::HAS_PLANTED_FAULTS;
    output.result(
        || json!({ "version": version, "planted_faults": planted }),
        || match planted {
            true => format!("quorate {version} WITH PLANTED FAULTS, for tests only"),
            false => format!("quorate {version}"),
        },
    )
}
