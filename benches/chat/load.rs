//! All clients in one thread: what the load costs is little, and the same for both servers.
//!
//! Nothing is parsed. Each kind of line that is waited for holds one byte that no other line
//! holds, its mark, and marks are counted.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use crate::Result;

/// Users that have an account: `u0`, `u1` ...
pub(crate) const USERS: usize = 3000;

/// In every text.
pub(crate) const TEXT: u8 = b'~';

/// In the answer to a log-in.
pub(crate) const WELCOME: u8 = b'!';

/// In the answer `u1 is offline (never online yet), message stored`.
pub(crate) const STORED: u8 = b')';

/// A server that says nothing for so long is broken.
pub(crate) const PATIENCE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// Silence after which nothing more is on its way.
const QUIET: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// Set by a signal; the run then fails, so that it ends its servers and removes its files.
pub(crate) static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Something came from a client's connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heard {
    pub(crate) client: usize,
    pub(crate) marks: usize,
    /// The server has closed it.
    pub(crate) ended: bool,
}

/// Clients by number, in the order in which they connected.
pub(crate) struct Load {
    epoll: OwnedFd,
    ready: Vec<epoll::Event>,
    buffer: Vec<u8>,
    clients: Vec<Option<TcpStream>>,
    /// How much of the buffer came last, for an error message.
    last: usize,
}

impl Load {
    pub(crate) fn new() -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let (ready, buffer) = (Vec::with_capacity(256), vec![0; 64 * 1024]);
        Ok(Self { epoll, ready, buffer, clients: Vec::new(), last: 0 })
    }

    pub(crate) fn len(&self) -> usize {
        self.clients.len()
    }

    pub(crate) fn connect(&mut self, address: SocketAddr, first_line: &str) -> Result<()> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let data = epoll::EventData::new_u64(self.clients.len() as u64);
        epoll::add(&self.epoll, &stream, data, epoll::EventFlags::IN)?;
        self.clients.push(Some(stream));
        self.send(self.clients.len() - 1, first_line.as_bytes())
    }

    pub(crate) fn send(&mut self, client: usize, lines: &[u8]) -> Result<()> {
        Ok(self.stream(client)?.write_all(lines)?)
    }

    /// Ends the output of a client; the server then closes.
    pub(crate) fn end(&mut self, client: usize) -> Result<()> {
        Ok(self.stream(client)?.shutdown(Shutdown::Write)?)
    }

    /// Waits until something comes, and counts the marks in it by client.
    pub(crate) fn wait(&mut self, mark: u8, heard: &mut Vec<Heard>) -> Result<()> {
        self.wait_for(&PATIENCE, mark, heard)?;
        if heard.is_empty() {
            let last = String::from_utf8_lossy(&self.buffer[..self.last.min(200)]);
            return Err(format!("nothing came for {} s; the last was {last:?}", PATIENCE.tv_sec).into());
        }
        Ok(())
    }

    /// Drops what is still on its way: who has come, who has gone.
    pub(crate) fn settle(&mut self) -> Result<()> {
        let mut heard = Vec::new();
        loop {
            self.wait_for(&QUIET, 0, &mut heard)?;
            if heard.is_empty() {
                return Ok(());
            }
        }
    }

    fn wait_for(&mut self, limit: &Timespec, mark: u8, heard: &mut Vec<Heard>) -> Result<()> {
        if INTERRUPTED.load(Ordering::Relaxed) {
            return Err("interrupted".into());
        }
        heard.clear();
        self.ready.clear();
        while let Err(error) = epoll::wait(&self.epoll, spare_capacity(&mut self.ready), Some(limit)) {
            if error != Errno::INTR {
                return Err(error.into());
            }
        }
        for event in &self.ready {
            let client = usize::try_from(event.data.u64())?;
            let Some(mut stream) = self.clients[client].as_ref() else { continue };
            let count = stream.read(&mut self.buffer)?;
            self.last = count;
            let bytes = &self.buffer[..count];
            let marks = bytes.iter().filter(|&&byte| byte == mark).count();
            heard.push(Heard { client, marks, ended: count == 0 });
            if count == 0 {
                self.clients[client] = None;
            }
        }
        Ok(())
    }

    fn stream(&mut self, client: usize) -> Result<&mut TcpStream> {
        Ok(self.clients[client].as_mut().ok_or("a client was closed that is still needed")?)
    }
}
