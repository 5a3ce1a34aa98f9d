//! The client program on the line port: lines from the keyboard to the server, and back.
//!
//! Two threads: one reads the server and prints, one reads the keyboard and sends. The end of
//! the server's output ends the program, even in the middle of a typed line.

use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::thread;

/// Read from the server at once, in bytes.
const READ_BYTES: usize = 16 * 1024;

/// Connects to the first address of `host` that answers.
pub fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let mut last = io::Error::new(ErrorKind::NotFound, "the name has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect(address) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Carries lines both ways until the server ends the connection or standard output is closed.
pub fn run(stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let typed = stream.try_clone()?;
    thread::Builder::new().name("keyboard".into()).spawn(move || keyboard(typed))?;
    screen(stream)
}

/// Sends what is typed, line by line; the end of input is passed on, answers still come.
fn keyboard(mut stream: TcpStream) {
    let mut lines = io::stdin().lock();
    let mut line = Vec::new();
    loop {
        line.clear();
        match lines.read_until(b'\n', &mut line) {
            Ok(count) if count > 0 && stream.write_all(&line).is_ok() => {}
            _ => break,
        }
    }
    // Fails only if the server was faster in ending the connection.
    let _ = stream.shutdown(Shutdown::Write);
}

/// Prints what the server sends, prompts included.
fn screen(mut stream: TcpStream) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let mut bytes = vec![0; READ_BYTES];
    loop {
        let count = match stream.read(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        match out.write_all(&bytes[..count]).and_then(|()| out.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            result => result?,
        }
    }
}
