//! `quorate-planted`: the same with faults planted on purpose, for tests of the tests. It has a
//! name of its own, so that building it never overwrites the real binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    quorate_cli::main()
}
