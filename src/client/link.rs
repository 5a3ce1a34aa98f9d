//! The connection: a thread that makes it and then reads it.

use std::io::{self, ErrorKind, Read};
use std::net::{Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::Sender;

use crate::wire::control::CONTROL_BYTES_MAX;

/// Read from the server at once, in bytes.
const READ_BYTES: usize = 16 * 1024;

/// Time for one address to answer.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// Time for the server to take what is sent; then the link counts as dead.
const SEND_MAX: Duration = Duration::from_secs(20);

/// Where the server is.
#[derive(Debug, Clone)]
pub struct Target {
    /// Name or address, IPv6 with or without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Only addresses of this family.
    pub family: Option<Family>,
}

/// A version of the Internet protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// What there is to say about a connection.
#[derive(Debug)]
pub(super) enum News {
    /// It is there.
    Up(Arc<TcpStream>),
    /// It could not be made, and why.
    Down(String),
    /// Whole lines arrived.
    Lines(Vec<u8>),
    /// A line is longer than any that our server sends.
    Overlong,
    /// It has ended, and how; the last word.
    Ended(String),
}

/// Makes connection `number` and reads it until it ends. Every news carries the number, so that
/// what an abandoned connection still says is told apart.
pub(super) fn open(target: Target, number: u64, news: Sender<(u64, News)>) -> io::Result<()> {
    let run = move || match connect(&target) {
        Ok(stream) => {
            let stream = Arc::new(stream);
            if news.send((number, News::Up(Arc::clone(&stream)))).is_ok() {
                read(&stream, number, &news);
            }
        }
        Err(error) => {
            let why = format!("cannot connect to {} port {}: {error}", target.host, target.port);
            let _ = news.send((number, News::Down(why)));
        }
    };
    thread::Builder::new().name("link".into()).spawn(run).map(drop)
}

/// Connects to the first address that answers.
fn connect(target: &Target) -> io::Result<TcpStream> {
    let host = &target.host;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let mut last = io::Error::new(ErrorKind::NotFound, "the name has no such address");
    for address in (bare, target.port).to_socket_addrs()?.filter(|address| fits(address, target.family)) {
        match TcpStream::connect_timeout(&address, CONNECT_MAX) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_write_timeout(Some(SEND_MAX))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn fits(address: &SocketAddr, family: Option<Family>) -> bool {
    match family {
        None => true,
        Some(Family::V4) => address.is_ipv4(),
        Some(Family::V6) => address.is_ipv6(),
    }
}

fn read(mut stream: &TcpStream, number: u64, news: &Sender<(u64, News)>) {
    let mut bytes = vec![0; READ_BYTES];
    let mut started = Vec::new();
    loop {
        let count = match stream.read(&mut bytes) {
            Ok(0) => break drop(news.send((number, News::Ended("closed without a word".to_owned())))),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => break drop(news.send((number, News::Ended(error.to_string())))),
        };
        let fresh = started.len();
        started.extend_from_slice(&bytes[..count]);
        let Some(end) = started[fresh..].iter().rposition(|&byte| byte == b'\n') else {
            if started.len() > CONTROL_BYTES_MAX {
                break drop(news.send((number, News::Overlong)));
            }
            continue;
        };
        let rest = started.split_off(fresh + end + 1);
        if news.send((number, News::Lines(std::mem::replace(&mut started, rest)))).is_err() {
            break;
        }
    }
    // Fails only if the other end was faster.
    let _ = stream.shutdown(Shutdown::Both);
}
