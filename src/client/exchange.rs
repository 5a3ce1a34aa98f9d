//! The hands of the framed client: a thread that asks the server, one request after the other and
//! each on a connection of its own; a listener for what is pushed; and short connections to
//! others. Threads around [`state::framed`].
//!
//! [`state::framed`]: super::state::framed

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, select, unbounded};
use socket2::{Domain, SockRef, Socket, Type};

use super::console::{self, Console};
use super::state::framed::{Effect, Event, State};
use super::state::{Code, End};
use super::{Input, Look, Memory, can_edit};
use crate::clock::Clock;
use crate::wire::framed::{self, FrameCutter, LOG_IN};

/// How long a connection may take to come about.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// Time for a request and its answer, in milliseconds.
const ANSWER_MILLIS_MAX: i64 = 10_000;

/// Time for another to push a frame, in milliseconds.
const PUSH_MILLIS_MAX: i64 = 5_000;

/// Pushes that are read at the same time; more wait to be accepted.
const PUSHES_MAX: usize = 16;

/// Wait after an error of `accept` that a retry would only repeat.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// News that may wait for the mind; then those who push wait.
const NEWS_MAX: usize = 64;

/// Who talks to whom.
#[derive(Debug, Clone)]
pub struct Options {
    /// Name or address of the server.
    pub host: String,
    /// Its port for framed clients.
    pub port: u16,
    /// Where the server shall push to: an address of this machine, or localhost.
    pub own_host: String,
    /// A port there; 0 for any free one.
    pub own_port: u16,
    /// Where to remember what was typed.
    pub memory: Memory,
    /// How things look.
    pub look: Look,
}

/// What the threads tell the mind.
#[derive(Debug)]
enum News {
    Answered(Result<Vec<String>, String>),
    Pushed(TcpStream, IpAddr, String),
    Dialled(Result<(), String>),
}

/// What the asking thread is to do.
enum Errand {
    LogIn { name: String, password: String },
    Request(String),
}

/// Runs the client to its end.
pub fn run(options: Options) -> io::Result<End> {
    let (look, memory) = (options.look.clone(), options.memory.clone());
    let server = match addresses(&options.host, options.port) {
        Ok(all) => all,
        Err(error) => {
            let error = format!("{}: {error}", options.host);
            return Ok(End::error(Code::CannotConnect, error, "is that the name or address of the server?"));
        }
    };
    console::run(look, memory, "client framed", move |console| Hands::new(options, server).drive(console))
}

struct Hands {
    options: Options,
    server: Vec<SocketAddr>,
    news: (Sender<News>, Receiver<News>),
    /// Pushes that have not been displayed.
    pushes: HashMap<u64, TcpStream>,
    next_push: u64,
    /// What is to be asked; dropped at the end.
    errands: Option<Sender<Errand>>,
    /// Private texts; the same.
    dials: Option<Sender<(SocketAddr, String)>>,
    end: Option<End>,
}

impl Hands {
    fn new(options: Options, server: Vec<SocketAddr>) -> Self {
        Self {
            options,
            server,
            news: bounded(NEWS_MAX),
            pushes: HashMap::new(),
            next_push: 0,
            errands: None,
            dials: None,
            end: None,
        }
    }

    fn drive(mut self, console: &mut Console) -> End {
        let mut state = State::new(can_edit() || is_person());
        let listener = match self.start(console.clock) {
            Ok(listener) => {
                self.handle(console, &mut state, Event::Start);
                Some(listener)
            }
            Err(error) => {
                let why = format!("cannot listen on {} port {}: {error}", self.options.own_host, self.options.own_port);
                self.handle(console, &mut state, Event::NotListening(why));
                None
            }
        };
        let news = self.news.1.clone();
        let inputs = console.inputs.clone();
        let end = loop {
            if let Some(end) = self.end.take() {
                break end;
            }
            let wait = state.deadline().map(|at| console.clock.at(at));
            let timer = wait.map_or_else(crossbeam_channel::never, crossbeam_channel::at);
            select! {
                recv(inputs) -> input => match input {
                    Ok(Input::Typed(question, line)) => {
                        console.answered();
                        self.handle(console, &mut state, Event::Typed(question, &line));
                    }
                    Ok(Input::Leave) => self.handle(console, &mut state, Event::Leave),
                    Ok(Input::OutputClosed(why)) => self.handle(console, &mut state, Event::OutputClosed(why)),
                    Ok(Input::Displayed(mark)) => self.handle(console, &mut state, Event::Displayed(mark)),
                    Ok(Input::Ended) | Err(_) => self.handle(console, &mut state, Event::EndOfInput),
                },
                recv(news) -> item => if let Ok(item) = item {
                    self.take_news(console, &mut state, item);
                },
                recv(timer) -> _ => self.handle(console, &mut state, Event::Tick),
            }
        };
        if let Some(listener) = listener {
            // Ends the blocked `accept`; fails only if that has ended already.
            let _ = SockRef::from(&*listener).shutdown(Shutdown::Both);
        }
        end
    }

    /// Listens, and starts the threads.
    fn start(&mut self, clock: Clock) -> io::Result<Arc<TcpListener>> {
        let listener = Arc::new(listen(&self.options, &self.server)?);
        self.options.own_port = listener.local_addr()?.port();
        let (for_thread, news) = (Arc::clone(&listener), self.news.0.clone());
        spawn("listener", move || accept(&for_thread, clock, &news))?;
        let (errands, from_mind) = unbounded();
        let (caller, news) = (Caller::new(clock, &self.options, &self.server), self.news.0.clone());
        spawn("exchange", move || caller.run(&from_mind, &news))?;
        let (dials, from_mind) = unbounded();
        let news = self.news.0.clone();
        spawn("dial", move || dial(clock, &from_mind, &news))?;
        (self.errands, self.dials) = (Some(errands), Some(dials));
        Ok(listener)
    }

    fn take_news(&mut self, console: &mut Console, state: &mut State, news: News) {
        match news {
            News::Answered(answer) => self.handle(console, state, Event::Answered(answer)),
            News::Dialled(result) => self.handle(console, state, Event::Dialled(result)),
            News::Pushed(stream, from, text) => {
                self.next_push += 1;
                let push = self.next_push;
                self.pushes.insert(push, stream);
                let from_server = self.server.iter().any(|server| server.ip().to_canonical() == from);
                self.handle(console, state, Event::Pushed { push, from_server, text: &text });
            }
        }
    }

    fn handle(&mut self, console: &mut Console, state: &mut State, event: Event<'_>) {
        let mut effects = Vec::new();
        state.handle(console.clock.now(), event, &mut effects);
        for effect in effects {
            match effect {
                Effect::Ask(question) => console.ask_for(question),
                Effect::Show(mark, told) => console.show_marked(mark, told),
                Effect::Offer(offer) => console.offer(offer),
                Effect::LogIn { name, password } => self.ask(Errand::LogIn { name, password }),
                Effect::Request(frame) => self.ask(Errand::Request(frame)),
                Effect::Dial(address, frame) => {
                    // A thread that is gone takes the program with it.
                    let _ = self.dials.as_ref().map(|dials| dials.send((address, frame)));
                }
                Effect::Took(push) => drop(self.pushes.remove(&push)),
                Effect::End(end) => self.end = Some(end),
            }
        }
    }

    fn ask(&self, errand: Errand) {
        // A thread that is gone takes the program with it.
        let _ = self.errands.as_ref().map(|errands| errands.send(errand));
    }
}

/// Whether a person types, also where lines cannot be edited.
fn is_person() -> bool {
    use std::io::IsTerminal;
    io::stdin().is_terminal()
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.into()).spawn(body).map(drop)
}

/// The addresses of a host, given by name or address, IPv6 with or without brackets.
fn addresses(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Ok((bare, port).to_socket_addrs()?.collect())
}

/// Listens at our own address; `localhost` is that of the family in which the server is called.
fn listen(options: &Options, server: &[SocketAddr]) -> io::Result<TcpListener> {
    let is_v6 = server.first().is_some_and(SocketAddr::is_ipv6);
    let all = match options.own_host.as_str() {
        "localhost" if is_v6 => vec![SocketAddr::new(Ipv6Addr::LOCALHOST.into(), options.own_port)],
        "localhost" => vec![SocketAddr::new(Ipv4Addr::LOCALHOST.into(), options.own_port)],
        host => addresses(host, options.own_port)?,
    };
    TcpListener::bind(&all[..])
}

/// What asks the server.
struct Caller {
    clock: Clock,
    server: Vec<SocketAddr>,
    own_host: String,
    own_port: u16,
}

impl Caller {
    fn new(clock: Clock, options: &Options, server: &[SocketAddr]) -> Self {
        let (own_host, own_port) = (options.own_host.clone(), options.own_port);
        Self { clock, server: server.to_vec(), own_host, own_port }
    }

    /// Does errands until nobody has any more.
    fn run(&self, errands: &Receiver<Errand>, news: &Sender<News>) {
        while let Ok(errand) = errands.recv() {
            let answer = match errand {
                Errand::LogIn { name, password } => self.log_in(&name, &password),
                Errand::Request(frame) => self.ask(&frame),
            };
            if news.send(News::Answered(answer.map_err(|error| error.to_string()))).is_err() {
                return;
            }
        }
    }

    /// One request: what the server says to it until it closes.
    fn ask(&self, frame: &str) -> io::Result<Vec<String>> {
        let mut line = self.connect()?;
        line.write(&[frame])?;
        line.read_to_end()
    }

    /// A log-in: the answer, and if it is good the token, and what the server says to our address.
    fn log_in(&self, name: &str, password: &str) -> io::Result<Vec<String>> {
        let mut line = self.connect()?;
        line.write(&[LOG_IN])?;
        line.write(&[name, password])?;
        let Some(first) = line.read()? else { return Ok(Vec::new()) };
        let is_in = framed::parse_reply(&first) == framed::Reply::LoggedIn;
        let mut frames = vec![first];
        if is_in {
            frames.extend(line.read()?);
            // The original server reads them one by one, and no more than a piece at a time.
            line.write(&[&self.own_host])?;
            line.write(&[&self.own_port.to_string()])?;
            frames.extend(line.read_to_end()?);
        }
        Ok(frames)
    }

    /// A connection to the first address that answers, from our own address if that is possible:
    /// the server compares them.
    fn connect(&self) -> io::Result<Line> {
        let own: Option<IpAddr> = self.own_host.parse().ok();
        let mut last = io::Error::new(ErrorKind::NotFound, "the name has no address");
        for &server in &self.server {
            match connect(server, own) {
                Ok(stream) => return Ok(Line::new(stream, self.clock, ANSWER_MILLIS_MAX)),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

fn connect(to: SocketAddr, from: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    if let Some(from) = from.filter(|from| from.is_ipv4() == to.is_ipv4()) {
        socket.bind(&SocketAddr::new(from, 0).into())?;
    }
    socket.connect_timeout(&to.into(), CONNECT_MAX)?;
    Ok(socket.into())
}

/// Frames on one connection, until a deadline that does not move.
struct Line {
    stream: TcpStream,
    clock: Clock,
    until: i64,
    cutter: FrameCutter,
    rest: Vec<u8>,
}

impl Line {
    fn new(stream: TcpStream, clock: Clock, millis: i64) -> Self {
        let until = clock.now().elapsed + millis;
        Self { stream, clock, until, cutter: FrameCutter::default(), rest: Vec::new() }
    }

    /// Sends these frames in one piece.
    fn write(&mut self, frames: &[&str]) -> io::Result<()> {
        let mut bytes = Vec::new();
        frames.iter().for_each(|frame| framed::encode(frame, &mut bytes));
        self.stream.set_nodelay(true)?;
        self.stream.set_write_timeout(Some(self.left()?))?;
        self.stream.write_all(&bytes)
    }

    /// The next frame; `None` at the end.
    fn read(&mut self) -> io::Result<Option<String>> {
        let mut bytes = [0; 4096];
        loop {
            let mut rest = &self.rest[..];
            let frame = self.cutter.next(&mut rest);
            self.rest = rest.to_vec();
            if let Some(frame) = frame {
                let frame = frame.map_err(|_| io::Error::new(ErrorKind::InvalidData, "no frame, or one too long"))?;
                return Ok(Some(String::from_utf8_lossy(&frame).into_owned()));
            }
            self.stream.set_read_timeout(Some(self.left()?))?;
            match self.stream.read(&mut bytes) {
                Ok(0) if self.cutter.is_between() => return Ok(None),
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.rest.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn read_to_end(&mut self) -> io::Result<Vec<String>> {
        let mut frames = Vec::new();
        while let Some(frame) = self.read()? {
            frames.push(frame);
        }
        Ok(frames)
    }

    fn left(&self) -> io::Result<Duration> {
        let left = u64::try_from(self.until - self.clock.now().elapsed).unwrap_or(0);
        if left == 0 { Err(ErrorKind::TimedOut.into()) } else { Ok(Duration::from_millis(left)) }
    }
}

/// Delivers private texts, each on a connection of its own, until nobody has any more.
fn dial(clock: Clock, dials: &Receiver<(SocketAddr, String)>, news: &Sender<News>) {
    while let Ok((address, frame)) = dials.recv() {
        let result = connect(address, None).and_then(|stream| {
            let mut line = Line::new(stream, clock, PUSH_MILLIS_MAX);
            line.write(&[&frame])?;
            // The other side closes when it has shown it; a reset says that it has not.
            line.read_to_end()
        });
        if news.send(News::Dialled(result.map(drop).map_err(|error| error.to_string()))).is_err() {
            return;
        }
    }
}

/// Takes pushes until the listener is shut down.
fn accept(listener: &TcpListener, clock: Clock, news: &Sender<News>) {
    let places = Arc::new(());
    let (freed, wait) = bounded::<()>(PUSHES_MAX);
    loop {
        while Arc::strong_count(&places) > PUSHES_MAX {
            // A reader that has ended says so.
            let _ = wait.recv_timeout(Duration::from_millis(PUSH_MILLIS_MAX.unsigned_abs()));
        }
        match listener.accept() {
            Ok((stream, peer)) => {
                let (place, freed, news) = (Arc::clone(&places), freed.clone(), news.clone());
                let read = move || {
                    let mut line = Line::new(stream, clock, PUSH_MILLIS_MAX);
                    // What is no frame is not for us.
                    if let Ok(Some(text)) = line.read() {
                        // The mind closes the connection when the text has been shown.
                        let _ = news.send(News::Pushed(line.stream, peer.ip().to_canonical(), text));
                    }
                    drop(place);
                    let _ = freed.try_send(());
                };
                // Without a thread the push fails, and the server keeps it.
                let _ = spawn("push", read);
            }
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
            // Shut down: the end.
            Err(error) if error.kind() == ErrorKind::InvalidInput => return,
            // No descriptors, perhaps: later there may be some.
            Err(_) => drop(wait.recv_timeout(ACCEPT_BACKOFF)),
        }
    }
}
