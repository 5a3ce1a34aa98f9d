//! Arguments of both programs: what clap makes of them, and how a mistake is answered.

pub mod direct;
pub mod framed;
pub mod look;
pub mod rendezvous;
pub mod spellings;
pub mod udp;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;

/// The exit code for wrong arguments.
const USAGE: u8 = 2;

/// Reads the arguments of this process. A mistake is answered with the reason and, always, the
/// usage; what was asked for, like `--help`, is no mistake.
pub fn parse<A: Parser>() -> Result<A, ExitCode> {
    A::try_parse_from(spellings::modern(std::env::args_os())).map_err(|error| {
        // With standard error closed there is nobody left to tell.
        let _ = error.print();
        if !error.use_stderr() {
            return ExitCode::SUCCESS;
        }
        if !error.to_string().contains("Usage:") {
            let _ = writeln!(std::io::stderr(), "{}", A::command().render_usage());
        }
        ExitCode::from(USAGE)
    })
}
