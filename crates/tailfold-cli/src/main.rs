//! The command `tailfold`.

use std::process::ExitCode;

fn main() -> ExitCode {
    tailfold_cli::main()
}
