//! `client [<ip>] <port>` and its sisters: arguments, run, exit code.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use chinwag::args;
use chinwag::args::direct::Direct;
use chinwag::args::framed::Framed;
use chinwag::args::look::{self, When};
use chinwag::args::udp::Udp;
use chinwag::client::{
    self, Code, End, Errand, Family, Folder, Look, Memory, Options, Target, Task, direct, exchange, udp,
};
use clap::{Args, Parser, Subcommand};
use jiff::tz::TimeZone;

/// Joins a chat server: what you type goes there, what others say comes here.
#[derive(Debug, Parser)]
#[command(
    name = "client",
    version,
    allow_missing_positional = true,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    disable_help_subcommand = true,
    after_help = EXAMPLES
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Sub>,
    /// Name or address of the server
    #[arg(default_value = "127.0.0.1")]
    ip: String,
    /// TCP port of the server
    #[arg(required = true)]
    port: Option<u16>,
    #[command(flatten)]
    common: Common,
    /// Start in general mode: what you type goes to everybody
    #[arg(long)]
    chat: bool,
    /// No times before what others say and do
    #[arg(long)]
    no_times: bool,
    /// Colour senders and your own name
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    color: When,
    /// Ring the bell of the terminal at every message
    #[arg(long)]
    bell: bool,
}

#[derive(Debug, Subcommand)]
enum Sub {
    /// Send one message and end: for scripts
    Send(Send),
    /// Fetch one file and end: for scripts
    Get(Get),
    /// Join by requests of one connection each, and listen for the answers (Columbia W4119)
    Framed(Framed),
    /// Talk to one other over TCP, without a server
    Direct(Direct),
    /// Find others by a rendezvous server and talk by datagrams: names, rooms, multicast groups
    Udp(Udp),
}

/// The password comes from the variable CHINWAG_PASSWORD or from a file.
#[derive(Debug, Args)]
struct Get {
    /// Name or address of the server
    ip: String,
    /// TCP port of the server
    port: u16,
    /// Who fetches
    #[arg(long, value_name = "NAME")]
    user: String,
    /// File with the password in its first line
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Which file
    file: String,
    /// Only these chunks, counted from 0
    chunks: Vec<u32>,
    #[command(flatten)]
    common: Common,
}

/// The password comes from the variable CHINWAG_PASSWORD or from a file.
#[derive(Debug, Args)]
struct Send {
    /// Name or address of the server
    ip: String,
    /// TCP port of the server
    port: u16,
    /// Who sends
    #[arg(long, value_name = "NAME")]
    user: String,
    /// File with the password in its first line
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Who gets the message
    to: String,
    /// What is said
    text: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Common {
    /// Use IPv4 only
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    ipv4: bool,
    /// Use IPv6 only
    #[arg(short = '6', long)]
    ipv6: bool,
    /// Folder that remembers what was shown, typed and offered [default: chinwag in the XDG state folder]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Folder of the files that are shared and fetched [default: the current one]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// One JSON object per event and line
    #[arg(long)]
    json: bool,
    /// End when the connection is lost
    #[arg(long)]
    no_reconnect: bool,
}

const EXAMPLES: &str = "\
Examples:
  client 4000                 the server on this machine
  client 192.0.2.7 4000       another machine
  printf 'hans\\nfalcon\\nwhoelse\\n' | client 4000
  client send 127.0.0.1 4000 --user hans --password-file pw yoda 'the lab is open'
  client get 127.0.0.1 4000 --user hans --password-file pw --dir in a.bin
  client framed 127.0.0.1 5000 localhost 5001
  client direct --ip 192.0.2.7 --port 2020 --myport 2021
  client udp --ip 127.0.0.1 --port 4001 --myport 4002
Exit codes: 0 ok, 1 other, 2 usage, 3 cannot connect, 4 login refused, 5 login blocked, 6 already
logged in, 7 timed out, 8 recipient refused, 9 protocol error, 10 server stopped, 11 not (all)
fetched, 130 Ctrl-C";

fn main() -> ExitCode {
    let arguments = match args::parse() {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    let end = run(arguments).unwrap_or_else(|end| end);
    client::complain(&end);
    ExitCode::from(end.code as u8)
}

fn run(arguments: Arguments) -> Result<End, End> {
    let ended = match &arguments.command {
        Some(Sub::Framed(arguments)) => exchange::run(configure_framed(arguments)?),
        Some(Sub::Direct(arguments)) => direct::run(configure_direct(arguments)?),
        Some(Sub::Udp(arguments)) => udp::run(configure_udp(arguments)?),
        None | Some(Sub::Send(_) | Sub::Get(_)) => client::run(configure(arguments)?),
    };
    ended.map_err(|error| End::error(Code::Other, format!("cannot go on: {error}"), ""))
}

fn configure_framed(arguments: &Framed) -> Result<exchange::Options, End> {
    Ok(exchange::Options {
        host: arguments.server.clone(),
        port: arguments.port,
        own_host: arguments.my_addr.clone(),
        own_port: arguments.my_port,
        memory: memory(arguments.look.state.as_deref())?,
        look: plain_look(&arguments.look),
    })
}

fn configure_direct(arguments: &Direct) -> Result<direct::Options, End> {
    let (peer, own_port) = arguments.places().map_err(no_place)?;
    let memory = memory(arguments.look().state.as_deref())?;
    Ok(direct::Options { peer, own_port, memory, look: plain_look(arguments.look()) })
}

fn configure_udp(arguments: &Udp) -> Result<udp::Options, End> {
    let (host, port) = arguments.server().map_err(no_place)?;
    Ok(udp::Options {
        host,
        port,
        family: arguments.family(),
        own_port: arguments.myport,
        interface: arguments.interface,
        name: arguments.name.clone(),
        memory: memory(arguments.look().state.as_deref())?,
        look: plain_look(arguments.look()),
    })
}

fn no_place(error: String) -> End {
    End::error(Code::Usage, error, "--help shows how it is written")
}

fn plain_look(look: &look::Look) -> Look {
    let times = client::can_edit() && !look.no_times;
    let (colour, zone) = (is_coloured(look.color), TimeZone::system());
    Look { json: look.json, times, colour, bell: look.bell, bar: false, zone }
}

fn configure(arguments: Arguments) -> Result<Options, End> {
    let Arguments { command, ip, port, common, chat, no_times, color, bell } = arguments;
    let (target, common, errand) = match command {
        None | Some(Sub::Framed(_) | Sub::Direct(_) | Sub::Udp(_)) => {
            let target = Target { host: ip, port: port.unwrap_or_default(), family: common.family() };
            (target, common, None)
        }
        Some(Sub::Send(send)) => {
            let target = Target { host: send.ip.clone(), port: send.port, family: send.common.family() };
            let errand = sending(&send)?;
            (target, send.common, Some(errand))
        }
        Some(Sub::Get(get)) => {
            let target = Target { host: get.ip.clone(), port: get.port, family: get.common.family() };
            let errand = getting(&get)?;
            (target, get.common, Some(errand))
        }
    };
    let bar = errand.as_ref().is_some_and(|errand| matches!(errand.task, Task::Get { .. }));
    let edits = client::can_edit() && !common.json;
    let look = Look {
        json: common.json,
        times: edits && !no_times,
        colour: is_coloured(color),
        bell,
        bar,
        zone: TimeZone::system(),
    };
    let memory = memory(common.state.as_deref())?;
    let folder = folder(common.dir.as_deref())?;
    Ok(Options { target, memory, look, reconnect: !common.no_reconnect, chat, errand, folder })
}

impl Common {
    fn family(&self) -> Option<Family> {
        match (self.ipv4, self.ipv6) {
            (true, _) => Some(Family::V4),
            (_, true) => Some(Family::V6),
            _ => None,
        }
    }
}

fn is_coloured(when: When) -> bool {
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    match when {
        When::Always => true,
        When::Never => false,
        When::Auto => !no_color && client::can_edit(),
    }
}

fn memory(asked_for: Option<&Path>) -> Result<Memory, End> {
    if let Some(folder) = asked_for {
        return Memory::open(folder).map_err(|error| {
            let error = format!("cannot use the folder {}: {error}", folder.display());
            End::error(Code::Other, error, "choose another with --state")
        });
    }
    let Some(folder) = Memory::default_folder() else { return Ok(Memory::none()) };
    Ok(Memory::open(&folder).unwrap_or_else(|error| {
        client::remark(&format!("nothing will be remembered: {}: {error}", folder.display()));
        Memory::none()
    }))
}

fn folder(asked_for: Option<&Path>) -> Result<Folder, End> {
    let path = asked_for.unwrap_or(Path::new("."));
    Folder::open(path).map_err(|error| {
        let error = format!("cannot use the folder {}: {error}", path.display());
        End::error(Code::Other, error, "choose another with --dir")
    })
}

fn usage(error: &str, hint: &str) -> End {
    End::error(Code::Usage, error, hint)
}

fn sending(send: &Send) -> Result<Errand, End> {
    if send.text.contains(['\n', '\r']) || send.to.contains(char::is_whitespace) || send.to.is_empty() {
        return Err(usage("a message is one line of text to one user", "send one line at a time"));
    }
    errand(&send.user, send.password_file.as_deref(), Task::Send { to: send.to.clone(), text: send.text.clone() })
}

fn getting(get: &Get) -> Result<Errand, End> {
    let chunks: Vec<String> = get.chunks.iter().map(u32::to_string).collect();
    errand(&get.user, get.password_file.as_deref(), Task::Get { file: get.file.clone(), chunks: chunks.join(" ") })
}

fn errand(user: &str, password_file: Option<&Path>, task: Task) -> Result<Errand, End> {
    let password = match password_file {
        Some(file) => std::fs::read_to_string(file)
            .map_err(|error| usage(&format!("cannot read {}: {error}", file.display()), "check --password-file"))?,
        None => std::env::var("CHINWAG_PASSWORD")
            .map_err(|_| usage("there is no password", "set CHINWAG_PASSWORD or use --password-file FILE"))?,
    };
    let password = password.lines().next().unwrap_or_default().to_owned();
    if password.is_empty() || user.is_empty() || user.contains(char::is_whitespace) {
        return Err(usage("name or password is empty or of several words", "check --user and the password"));
    }
    Ok(Errand { user: user.to_owned(), password, task })
}
