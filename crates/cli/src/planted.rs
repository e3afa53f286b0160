//! `quorate-planted`: the same, in which a fault can be planted on purpose, for tests of the tests. It
//! has a name of its own, so that building it never overwrites the real binary. The environment
//! variable `QUORATE_PLANTED_FAULT` names the fault; without it there is none.

use std::process::ExitCode;

fn main() -> ExitCode {
    quorate_cli::main_planted()
}
