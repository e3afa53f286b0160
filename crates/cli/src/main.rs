//! `quorate`: the one binary.

#[cfg(feature = "planted-faults")]
compile_error!(
    "quorate never has planted faults; the binary for tests that may have them is built by \
     `cargo build --bin quorate-planted --features quorate-cli/planted-faults`"
);

use std::process::ExitCode;

fn main() -> ExitCode {
    quorate_cli::main()
}
