//! `client [<ip>] <port>`: arguments, run, exit code.

use std::io::Write;
use std::process::ExitCode;

use chinwag::{args, client};
use clap::Parser;

/// Joins a chat server: what you type goes there, what others say comes here.
#[derive(Debug, Parser)]
#[command(name = "client", version, allow_missing_positional = true, after_help = EXAMPLES)]
struct Arguments {
    /// Name or address of the server
    #[arg(default_value = "127.0.0.1")]
    ip: String,
    /// TCP port of the server
    port: u16,
}

const EXAMPLES: &str = "\
Examples:
  client 4000                 the server on this machine
  client 192.0.2.7 4000       another machine
  printf 'hans\\nfalcon\\nwhoelse\\n' | client 4000";

/// The exit code for a server that cannot be reached.
const CANNOT_CONNECT: u8 = 3;

fn main() -> ExitCode {
    let Arguments { ip, port } = match args::parse() {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    let stream = match client::connect(&ip, port) {
        Ok(stream) => stream,
        Err(error) => {
            let hint = "is the server running, and on this address and port?";
            return fail(CANNOT_CONNECT, &format!("cannot connect to {ip} port {port}: {error}"), hint);
        }
    };
    match client::run(stream) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &format!("the connection broke: {error}"), "log in again; what was stored still waits"),
    }
}

fn fail(code: u8, error: &str, hint: &str) -> ExitCode {
    // With standard error closed there is nobody left to tell.
    let _ = writeln!(std::io::stderr().lock(), "error: {error}\nhint: {hint}");
    ExitCode::from(code)
}
