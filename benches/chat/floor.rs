//! The least that a relay with a thread per client can do: a thread blocks in `read` and writes
//! what it got straight into the target's socket. No rules, no state, no order between senders,
//! and whoever does not read holds up whoever writes to him.
//!
//! The first line of a client is its name and its target's, or `*` for all others who said `*`.
//! It is answered by a line `!`; every further line goes to the target as it is.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rustix::buffer::spare_capacity;

/// Makes this program the relay instead of the bench.
pub(crate) const ARGUMENT: &str = "floor";

/// As much as the readers of the server have.
const STACK_BYTES: usize = 64 * 1024;

/// What one read may bring.
const READ_BYTES: usize = 16 * 1024;

type Shared = Arc<TcpStream>;

#[derive(Default)]
struct Clients {
    by_name: HashMap<String, Shared>,
    room: Arc<Vec<Shared>>,
}

/// Where the lines of a client go.
enum Target {
    Unknown,
    /// A name, and its socket once that has been needed.
    One(String, Option<Shared>),
    Room,
}

/// Relays until it is killed.
pub(crate) fn run() -> crate::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("listening on {}", listener.local_addr()?);
    let clients: &Mutex<Clients> = Box::leak(Box::default());
    for stream in listener.incoming() {
        let stream = Arc::new(stream?);
        thread::Builder::new().stack_size(STACK_BYTES).spawn(move || relay(&stream, clients))?;
    }
    Ok(())
}

/// Serves one client. What fails ends it, and the load sees the end.
fn relay(stream: &Shared, clients: &Mutex<Clients>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let lock = || clients.lock().unwrap_or_else(PoisonError::into_inner);
    let mut target = Target::Unknown;
    let mut name = String::new();
    // Memory that is reserved and not written costs an idle client nothing.
    let mut bytes = Vec::with_capacity(READ_BYTES);
    while rustix::io::read(stream, spare_capacity(&mut bytes))? > 0 {
        let Some(last) = bytes.iter().rposition(|&byte| byte == b'\n') else { continue };
        let lines = &bytes[..=last];
        match &mut target {
            Target::Unknown => {
                let text = String::from_utf8_lossy(lines);
                let (me, to) = text.trim_end().split_once(' ').ok_or(io::ErrorKind::InvalidData)?;
                name = me.to_owned();
                let mut clients = lock();
                clients.by_name.insert(name.clone(), stream.clone());
                target = if to == "*" {
                    Arc::make_mut(&mut clients.room).push(stream.clone());
                    Target::Room
                } else {
                    Target::One(to.to_owned(), None)
                };
                drop(clients);
                (&**stream).write_all(b"!\n")?;
            }
            Target::One(to, known) => {
                if known.is_none() {
                    *known = lock().by_name.get(to).cloned();
                }
                let mut receiver = known.as_deref().ok_or(io::ErrorKind::NotFound)?;
                receiver.write_all(lines)?;
            }
            Target::Room => {
                let room = lock().room.clone();
                for receiver in room.iter().filter(|receiver| !Arc::ptr_eq(receiver, stream)) {
                    (&**receiver).write_all(lines)?;
                }
            }
        }
        bytes.drain(..=last);
    }
    // Only who comes and goes gets here; rooms stay as they are to the end.
    lock().by_name.remove(&name);
    Ok(())
}
