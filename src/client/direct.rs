//! The hands of the direct talk: one TCP connection to another client or to netcat, and the
//! listener for it. Threads around [`state::direct`]: `caller` connects, `listener` accepts, `link`
//! reads and `writer` writes the connection, so that the mind waits for nobody.
//!
//! [`state::direct`]: super::state::direct

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, select, unbounded};
use socket2::{Domain, SockRef, Socket, Type};

use super::console::{self, Console};
use super::state::End;
use super::state::direct::{BUSY, Effect, Event, FAREWELL_MAX, Rules, State};
use super::{Input, Look, Memory, can_edit};

/// How long the other side may take to answer a call.
pub const CALL_MAX: Duration = Duration::from_secs(3);

/// Time for the other side to take what is sent; then the connection counts as broken.
const SEND_MAX: Duration = Duration::from_secs(20);

/// Reads of the connection that may wait for the mind; then TCP holds the other side back.
const NEWS_MAX: usize = 64;

/// Read from the other side at once, in bytes.
const READ_BYTES: usize = 16 * 1024;

/// Callers that are being told that they come too late; more are just closed.
const REFUSALS_MAX: usize = 8;

/// Who talks to whom.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whom to call, if anybody.
    pub peer: Option<(String, u16)>,
    /// Where to wait for a call if there is nobody, or nobody answers.
    pub own_port: u16,
    /// Where to remember what was typed.
    pub memory: Memory,
    /// How things look.
    pub look: Look,
}

/// What the threads tell the mind.
#[derive(Debug)]
enum News {
    Up(TcpStream),
    Down(String),
    Called(TcpStream, SocketAddr),
    Heard(Vec<u8>),
    Ended,
    Broken(String),
    Sent,
    OutputEnded,
}

/// Runs the client to its end.
pub fn run(options: Options) -> io::Result<End> {
    let (look, memory) = (options.look.clone(), options.memory.clone());
    console::run(look, memory, "client direct", move |console| Hands::new(options).drive(console))
}

struct Hands {
    options: Options,
    news: (Sender<News>, Receiver<News>),
    /// Callers of whom the mind has not decided yet.
    calls: HashMap<u64, TcpStream>,
    next_call: u64,
    /// Lines for the writer; dropped to end the output.
    lines: Option<Sender<String>>,
    listeners: Vec<TcpListener>,
    /// Counts those that are being refused.
    refusals: Arc<()>,
    end: Option<End>,
}

impl Hands {
    fn new(options: Options) -> Self {
        Self {
            options,
            news: bounded(NEWS_MAX),
            calls: HashMap::new(),
            next_call: 0,
            lines: None,
            listeners: Vec::new(),
            refusals: Arc::new(()),
            end: None,
        }
    }

    fn drive(mut self, console: &mut Console) -> End {
        let mut state = State::new(Rules { person: can_edit(), calls: self.options.peer.is_some() });
        self.handle(console, &mut state, Event::Start);
        let news = self.news.1.clone();
        loop {
            if let Some(end) = self.end.take() {
                for listener in &self.listeners {
                    // Ends the blocked `accept`.
                    let _ = SockRef::from(listener).shutdown(Shutdown::Both);
                }
                return end;
            }
            let wait = state.deadline().map(|at| console.clock.at(at));
            let timer = wait.map_or_else(crossbeam_channel::never, crossbeam_channel::at);
            let inputs = console.inputs.clone();
            select! {
                recv(inputs) -> input => match input {
                    Ok(Input::Typed(_, line)) => {
                        console.answered();
                        self.handle(console, &mut state, Event::Typed(&line));
                    }
                    Ok(Input::Leave) => self.handle(console, &mut state, Event::Leave),
                    Ok(Input::OutputClosed(_)) => self.handle(console, &mut state, Event::OutputClosed),
                    Ok(Input::Displayed(_)) => {}
                    Ok(Input::Ended) | Err(_) => self.handle(console, &mut state, Event::EndOfInput),
                },
                recv(news) -> item => if let Ok(item) = item {
                    self.take_news(console, &mut state, item);
                },
                recv(timer) -> _ => self.handle(console, &mut state, Event::Tick),
            }
        }
    }

    fn take_news(&mut self, console: &mut Console, state: &mut State, news: News) {
        let event = match news {
            News::Up(stream) => match stream.peer_addr().and_then(|peer| self.take(stream).map(|()| peer)) {
                Ok(peer) => Event::Connected(peer),
                Err(error) => Event::NotConnected(error.to_string()),
            },
            News::Down(why) => Event::NotConnected(why),
            News::Called(stream, peer) => {
                self.next_call += 1;
                self.calls.insert(self.next_call, stream);
                Event::Called(self.next_call, peer)
            }
            News::Heard(bytes) => return self.handle(console, state, Event::Heard(&bytes)),
            News::Ended => Event::Ended,
            News::Broken(why) => Event::Broken(why),
            News::Sent => Event::Sent,
            News::OutputEnded => Event::OutputEnded,
        };
        self.handle(console, state, event);
    }

    fn handle(&mut self, console: &mut Console, state: &mut State, event: Event<'_>) {
        let mut effects = Vec::new();
        state.handle(console.clock.now(), event, &mut effects);
        for effect in effects {
            if let Some(event) = self.carry_out(console, effect) {
                self.handle(console, state, event);
            }
        }
    }

    fn carry_out(&mut self, console: &mut Console, effect: Effect) -> Option<Event<'static>> {
        match effect {
            Effect::Connect => {
                let (host, port) = self.options.peer.clone()?;
                let news = self.news.0.clone();
                let call = move || drop(news.send(call(&host, port).map_or_else(News::Down, News::Up)));
                return spawn("caller", call).err().map(|error| Event::NotConnected(error.to_string()));
            }
            Effect::Listen => return Some(self.listen()),
            Effect::Adopt(call) => {
                let taken = self.calls.remove(&call).map_or(Ok(()), |stream| self.take(stream));
                return taken.err().map(|error| Event::Broken(error.to_string()));
            }
            Effect::Refuse(call) => self.refuse(call),
            Effect::Send(line) => {
                // A writer that is gone has said why.
                let _ = self.lines.as_ref().map(|lines| lines.send(line));
            }
            Effect::EndOutput => self.lines = None,
            Effect::Ask => console.ask(),
            Effect::Show(told) => console.show(told),
            Effect::End(end) => self.end = Some(end),
        }
        None
    }

    /// Starts the two threads of the connection.
    fn take(&mut self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(SEND_MAX))?;
        let stream = Arc::new(stream);
        let (lines, from_lines) = unbounded();
        let (for_writer, news) = (Arc::clone(&stream), self.news.0.clone());
        spawn("writer", move || write(&for_writer, &from_lines, &news))?;
        let news = self.news.0.clone();
        spawn("link", move || read(&stream, &news))?;
        self.lines = Some(lines);
        Ok(())
    }

    fn listen(&mut self) -> Event<'static> {
        let local = self.options.peer.as_ref().is_some_and(|(host, port)| is_loopback(host, *port));
        match listeners(local, self.options.own_port) {
            Ok(listeners) => self.listeners = listeners,
            Err(error) => {
                return Event::NotListening(format!("cannot wait on port {}: {error}", self.options.own_port));
            }
        }
        for listener in &self.listeners {
            let accepting = listener.try_clone().and_then(|listener| {
                let news = self.news.0.clone();
                spawn("listener", move || accept(&listener, &news))
            });
            if let Err(error) = accepting {
                return Event::NotListening(error.to_string());
            }
        }
        Event::Listening(self.listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect())
    }

    /// Says why and closes, without a reset that could destroy what was said.
    fn refuse(&mut self, call: u64) {
        let Some(stream) = self.calls.remove(&call) else { return };
        if Arc::strong_count(&self.refusals) > REFUSALS_MAX {
            return;
        }
        let count = Arc::clone(&self.refusals);
        let farewell = Duration::from_millis(FAREWELL_MAX.unsigned_abs());
        let refuse = move || {
            let _counted = count;
            let limits =
                stream.set_write_timeout(Some(farewell)).and_then(|()| stream.set_read_timeout(Some(farewell)));
            let said = limits.and_then(|()| (&stream).write_all(format!("{BUSY}\n").as_bytes()));
            // Whoever does not get the line finds the connection closed.
            if said.and_then(|()| stream.shutdown(Shutdown::Write)).is_ok() {
                let _ = io::copy(&mut (&stream).take(READ_BYTES as u64), &mut io::sink());
            }
        };
        // The same if there is no thread to be had.
        let _ = spawn("refusal", refuse);
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.into()).spawn(body).map(drop)
}

/// The addresses of a host, given by name or address, IPv6 with or without brackets.
fn addresses(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Ok((bare, port).to_socket_addrs()?.collect())
}

fn is_loopback(host: &str, port: u16) -> bool {
    addresses(host, port).is_ok_and(|all| !all.is_empty() && all.iter().all(|address| address.ip().is_loopback()))
}

/// Calls the first address that answers, within [`CALL_MAX`] for all of them.
fn call(host: &str, port: u16) -> Result<TcpStream, String> {
    let failed = |why: &dyn std::fmt::Display| format!("{host} port {port} does not answer: {why}");
    let all = addresses(host, port).map_err(|error| failed(&error))?;
    let time = CALL_MAX / u32::try_from(all.len().max(1)).unwrap_or(u32::MAX);
    let mut last = failed(&"the name has no address");
    for address in all {
        match TcpStream::connect_timeout(&address, time) {
            // A call to a free port of this machine can end at its own beginning.
            Ok(stream) if stream.local_addr().ok() == stream.peer_addr().ok() => last = failed(&"nobody is there"),
            Ok(stream) => return Ok(stream),
            Err(error) => last = failed(&error),
        }
    }
    Err(last)
}

/// Listens on loopback alone, or for everybody.
fn listeners(local: bool, port: u16) -> io::Result<Vec<TcpListener>> {
    let [first, second]: [IpAddr; 2] = if local {
        [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
    } else {
        [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()]
    };
    let first = listener(SocketAddr::new(first, port))?;
    // The port is the same for both; a machine without IPv6 does without.
    let second = listener(SocketAddr::new(second, first.local_addr()?.port()));
    Ok(std::iter::once(first).chain(second).collect())
}

fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(REFUSALS_MAX as i32)?;
    Ok(socket.into())
}

/// Accepts until the listener is shut down.
fn accept(listener: &TcpListener, news: &Sender<News>) {
    loop {
        match listener.accept() {
            Ok((stream, peer)) => {
                if news.send(News::Called(stream, peer)).is_err() {
                    return;
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
            Err(_) => return,
        }
    }
}

fn read(mut stream: &TcpStream, news: &Sender<News>) {
    let mut bytes = vec![0; READ_BYTES];
    loop {
        let (item, is_last) = match stream.read(&mut bytes) {
            Ok(0) => (News::Ended, true),
            Ok(count) => (News::Heard(bytes[..count].to_vec()), false),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => (News::Broken(error.to_string()), true),
        };
        if news.send(item).is_err() || is_last {
            return;
        }
    }
}

/// Writes line by line, then tells the other side that no more will come.
fn write(mut stream: &TcpStream, lines: &Receiver<String>, news: &Sender<News>) {
    while let Ok(line) = lines.recv() {
        let written = stream.write_all(format!("{line}\n").as_bytes());
        let item = written.map_or_else(|error| News::Broken(error.to_string()), |()| News::Sent);
        let is_broken = matches!(item, News::Broken(_));
        if news.send(item).is_err() || is_broken {
            return;
        }
    }
    // Fails only if the connection is gone, which the reader hears.
    let _ = stream.shutdown(Shutdown::Write);
    let _ = news.send(News::OutputEnded);
}
