//! `quorate`: the one binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    quorate_cli::main()
}
