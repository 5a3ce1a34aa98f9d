//! `server <port> <block> <timeout>`: arguments, run, exit code.

use std::io::Write;
use std::net::{IpAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use chinwag::args;
use chinwag::args::rendezvous::Rendezvous;
use chinwag::server::state::MAILBOX_MESSAGES_MAX;
use chinwag::server::store::Place;
use chinwag::server::{self, Config, Running, StartError, credentials, udp};
use clap::{Args, Parser, Subcommand};

/// A chat server for many users: netcat is all they need.
#[derive(Debug, Parser)]
#[command(
    name = "server",
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    disable_help_subcommand = true,
    after_help = EXAMPLES
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Sub>,
    /// TCP port to listen on; 0 takes any free one and says which
    #[arg(required = true)]
    port: Option<u16>,
    /// Seconds for which three wrong passwords block a user name; 0 blocks nobody
    #[arg(required = true)]
    block: Option<u32>,
    /// Seconds without a command after which a user is logged out; at least 1
    #[arg(required = true, value_parser = parse_timeout)]
    timeout: Option<u32>,
    /// UDP port where clients find each other; 0 takes any free one
    #[arg(long, value_name = "PORT")]
    udp_port: Option<u16>,
    /// Address to listen on instead of loopback; may be given more than once
    #[arg(long, value_name = "ADDR")]
    bind: Vec<IpAddr>,
    /// TCP port for framed clients (Columbia W4119); 0 takes any free one and says which
    #[arg(long, value_name = "PORT")]
    framed_port: Option<u16>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Subcommand)]
enum Sub {
    /// Serve framed clients alone (Columbia W4119)
    Framed(Framed),
    /// Only the rendezvous for UDP clients: names, rooms, multicast groups
    Udp(Rendezvous),
}

#[derive(Debug, Args)]
struct Framed {
    /// Name or address to listen on
    host: String,
    /// TCP port to listen on; 0 takes any free one and says which
    port: u16,
    /// Seconds for which three wrong passwords block a user name; 0 blocks nobody
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    block: u32,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Common {
    /// Seconds without a sign of life after which a framed client is logged out
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = parse_timeout)]
    heartbeat_timeout: u32,
    /// File with a name and a password per line [default: Credentials.txt, then credentials.txt]
    #[arg(long, value_name = "FILE")]
    credentials: Option<PathBuf>,
    /// Let unknown names log in: the first password they give becomes theirs
    #[arg(long)]
    allow_new_users: bool,
    /// Hide users who have blocked the asker from whoelse, whoelsesince, status and searches for files
    #[arg(long)]
    hide_blockers: bool,
    /// Ask a user before somebody begins a private session with him
    #[arg(long)]
    ask_private: bool,
    /// Messages that may wait for one user, of about 1 KiB each
    #[arg(long, value_name = "N", default_value_t = MAILBOX_MESSAGES_MAX, value_parser = clap::value_parser!(u32).range(1..))]
    mailbox_max: u32,
    /// File for what must survive a restart [default: chinwag.db beside the credentials]
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Keep nothing on disk
    #[arg(long, conflicts_with = "data")]
    ephemeral: bool,
    /// If the data file is damaged, go on with what can be read of it
    #[arg(long, conflicts_with = "ephemeral")]
    salvage: bool,
    /// Log what happens, to standard error; RUST_LOG chooses more finely
    #[arg(short = 'd', long)]
    debug: bool,
}

const EXAMPLES: &str = "\
Examples:
  server 4000 60 120                      block for 60 s, log out after 120 s of silence
  server 4000 60 120 --ephemeral          a clean server for a marking run
  server 4000 60 120 --bind 0.0.0.0       let other machines connect
  server 4000 60 120 --framed-port 5000   serve framed clients as well
  server framed localhost 5000            serve framed clients alone
  server 4000 60 120 --udp-port 4001      UDP clients find each other there
  server udp 4001                         that alone
Join with: nc 127.0.0.1 4000";

fn main() -> ExitCode {
    let arguments: Arguments = match args::parse() {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    match arguments.command {
        None => serve(arguments.common.debug, || configure(arguments)),
        Some(Sub::Framed(framed)) => serve(framed.common.debug, || configure_framed(framed)),
        Some(Sub::Udp(rendezvous)) => serve_datagrams(&rendezvous),
    }
}

/// Why a server cannot be configured, and what to do about it.
type Mistake = (String, String);

fn serve(debug: bool, configure: impl FnOnce() -> Result<Config, Mistake>) -> ExitCode {
    start_log(debug);
    let config = match configure() {
        Ok(config) => config,
        Err((error, hint)) => return fail(&error, &hint),
    };
    let running = match server::start(&config) {
        Ok(running) => running,
        Err(error) => return refuse(&error),
    };
    let stopper = running.stopper();
    if let Err(error) = stop_on_signal(move || stopper.stop()) {
        return fail(&format!("cannot catch signals: {error}"), "");
    }
    announce(&running);
    conclude(running.wait().is_ok())
}

/// `server udp`.
fn serve_datagrams(arguments: &Rendezvous) -> ExitCode {
    start_log(arguments.debug);
    let addresses = match arguments.addresses() {
        Ok(addresses) => addresses,
        Err(error) => {
            return fail(&format!("no such address: {error}"), "--ip takes a name or address of this machine");
        }
    };
    let service = match udp::start(&addresses, arguments.port()) {
        Ok(service) => service,
        Err(error) => return refuse(&error),
    };
    let stopper = service.stopper();
    if let Err(error) = stop_on_signal(move || stopper.stop()) {
        return fail(&format!("cannot catch signals: {error}"), "");
    }
    say(service.describe().chain(service.notes.iter().cloned()));
    conclude(service.wait().is_ok())
}

fn refuse(error: &StartError) -> ExitCode {
    fail(&error.to_string(), &error.hint())
}

fn conclude(in_order: bool) -> ExitCode {
    if in_order {
        ExitCode::SUCCESS
    } else {
        fail("a thread of the server died", "run again with -d and report what it says")
    }
}

fn parse_timeout(word: &str) -> Result<u32, String> {
    match word.parse() {
        Ok(0) => Err("it must be at least 1 second".to_owned()),
        Ok(seconds) => Ok(seconds),
        Err(error) => Err(error.to_string()),
    }
}

fn start_log(debug: bool) {
    let level = if debug { "debug" } else { "error" };
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(level)).init();
}

fn configure(arguments: Arguments) -> Result<Config, Mistake> {
    let Arguments { port, block, timeout, udp_port, bind, framed_port, common, .. } = arguments;
    let config = configure_common(common, block.unwrap_or_default(), bind)?;
    Ok(Config { port, framed_port, udp_port, timeout: timeout.unwrap_or_default(), ..config })
}

fn configure_framed(Framed { host, port, block, common }: Framed) -> Result<Config, Mistake> {
    let config = configure_common(common, block, addresses(&host)?)?;
    Ok(Config { framed_port: Some(port), ..config })
}

/// The addresses of a host; none for this machine alone.
fn addresses(host: &str) -> Result<Vec<IpAddr>, Mistake> {
    if host == "localhost" {
        return Ok(Vec::new());
    }
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let found = (host, 0).to_socket_addrs().map_err(|error| {
        let hint = "it takes an address of this machine, 0.0.0.0 for all of them, or localhost".to_owned();
        (format!("cannot find the address of {host}: {error}"), hint)
    })?;
    Ok(found.map(|address| address.ip()).collect())
}

/// A server without any port.
fn configure_common(arguments: Common, block: u32, bind: Vec<IpAddr>) -> Result<Config, Mistake> {
    let credentials = match arguments.credentials {
        Some(path) => path,
        None => credentials::find_default(Path::new("")).ok_or_else(|| {
            let error = "there is no Credentials.txt in this folder".to_owned();
            (error, "write one with a line `name password` per user, or use --credentials FILE".to_owned())
        })?,
    };
    let data = match arguments.data {
        _ if arguments.ephemeral => Place::Memory,
        Some(path) => Place::File(path),
        None => Place::File(credentials.with_file_name("chinwag.db")),
    };
    Ok(Config {
        port: None,
        framed_port: None,
        heartbeat_timeout: arguments.heartbeat_timeout,
        block,
        timeout: 1,
        bind,
        credentials,
        data,
        salvage: arguments.salvage,
        allow_new_users: arguments.allow_new_users,
        hide_blockers: arguments.hide_blockers,
        udp_port: None,
        ask_private: arguments.ask_private,
        mailbox_max: arguments.mailbox_max,
    })
}

/// The first signal stops in order, the second at once.
fn stop_on_signal(stop_server: impl FnOnce() + Send + 'static) -> Result<(), Box<dyn std::error::Error>> {
    let (asked, stop) = std::sync::mpsc::sync_channel::<()>(0);
    // In a thread of its own, so that a second signal is heard meanwhile; and started now, when
    // there surely is one to be had.
    std::thread::Builder::new().name("stopper".into()).spawn(move || {
        // The sender is dropped by the first signal.
        let _ = stop.recv();
        stop_server();
    })?;
    let mut asked = Some(asked);
    ctrlc::set_handler(move || {
        if asked.take().is_none() {
            #[allow(clippy::disallowed_methods, reason = "the second signal asks for just this")]
            std::process::exit(130);
        }
    })?;
    Ok(())
}

fn announce(running: &Running) {
    let framed = running.framed.iter().map(|address| format!("listening on {address} for framed clients"));
    let lines = running.addresses.iter().map(|address| format!("listening on {address}")).chain(framed);
    say(lines.chain(running.notes.iter().cloned()));
}

fn say(lines: impl Iterator<Item = String>) {
    let mut out = std::io::stdout().lock();
    for line in lines {
        // A server whose standard output is closed serves all the same.
        let _ = writeln!(out, "{line}");
    }
    let _ = out.flush();
}

fn fail(error: &str, hint: &str) -> ExitCode {
    let mut err = std::io::stderr().lock();
    // With standard error closed there is nobody left to tell.
    let _ = writeln!(err, "error: {error}");
    if !hint.is_empty() {
        let _ = writeln!(err, "hint: {hint}");
    }
    ExitCode::FAILURE
}
