//! The hands of the UDP client: its own socket, and two more while it is in a multicast group,
//! one that many on this machine can share to hear it and one to send to it. A thread `udp` reads
//! each; the mind sends by itself, for a datagram makes nobody wait.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, ToSocketAddrs, UdpSocket};
use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded, select};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::console::{self, Console};
use super::state::udp::{Effect, Event, Rules, State};
use super::state::{Code, End};
use super::{Family, Input, Look, Memory, can_edit};
use crate::port::Port;

/// Datagrams that may wait for the mind; more wait in the kernel, until that drops them.
const NEWS_MAX: usize = 256;

/// Routers a datagram to a group may pass, plus one: it stays in this network.
const GROUP_TTL: u32 = 1;

/// Who is asked, and from where.
#[derive(Debug, Clone)]
pub struct Options {
    /// Name or address of the server.
    pub host: String,
    /// Its UDP port.
    pub port: u16,
    /// Only addresses of this family.
    pub family: Option<Family>,
    /// Our own UDP port; 0 for any.
    pub own_port: u16,
    /// The address of the interface for groups; without it, the one that leads to the server.
    pub interface: Option<Ipv4Addr>,
    /// A name to be registered at once.
    pub name: Option<String>,
    /// Where to remember what was typed.
    pub memory: Memory,
    /// How things look.
    pub look: Look,
}

/// A datagram: in which group, from where, what.
#[derive(Debug)]
struct News {
    /// The number of the group; 0 for our own port.
    group: u64,
    from: SocketAddr,
    bytes: Vec<u8>,
}

/// Runs the client to its end.
pub fn run(options: Options) -> io::Result<End> {
    let opened = resolve(&options).and_then(|server| Ok((server, open(server, options.own_port)?)));
    let (server, socket) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            let error = format!("cannot send to {} port {}: {error}", options.host, options.port);
            return Ok(End::error(Code::CannotConnect, error, "check --ip, and whether --myport is in use"));
        }
    };
    let (look, memory) = (options.look.clone(), options.memory.clone());
    let rules = Rules { person: can_edit(), server, name: options.name.clone() };
    let hands = Hands::new(socket, server, options.interface)?;
    console::run(look, memory, "client udp", move |console| hands.drive(rules, console))
}

/// The server's address, at best of IPv4: the original servers have no other.
fn resolve(options: &Options) -> io::Result<SocketAddr> {
    let host = &options.host;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let fits = |address: &SocketAddr| match options.family {
        None => true,
        Some(Family::V4) => address.is_ipv4(),
        Some(Family::V6) => address.is_ipv6(),
    };
    let all: Vec<SocketAddr> = (bare, options.port).to_socket_addrs()?.filter(fits).collect();
    let best = all.iter().find(|address| address.is_ipv4()).or(all.first());
    best.copied().ok_or_else(|| io::Error::new(ErrorKind::NotFound, "the name has no such address"))
}

/// Our own socket, on the address that leads to the server: on loopback if that is there.
fn open(server: SocketAddr, port: u16) -> io::Result<UdpSocket> {
    UdpSocket::bind((local_address(server)?, port))
}

/// The address of this machine from which `to` is reached; nothing is sent for that.
fn local_address(to: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let probe = UdpSocket::bind((any, 0))?;
    probe.connect(to)?;
    Ok(probe.local_addr()?.ip())
}

/// Starts the thread that reads a socket.
fn read(socket: UdpSocket, group: u64, news: Sender<News>) -> io::Result<Arc<Port>> {
    let port = Arc::new(Port::new(socket));
    let for_reader = Arc::clone(&port);
    let hear = move |from, bytes: &[u8]| news.send(News { group, from, bytes: bytes.to_vec() }).is_ok();
    thread::Builder::new().name("udp".into()).spawn(move || for_reader.read(hear))?;
    Ok(port)
}

/// A group that we are in.
#[derive(Debug)]
struct Group {
    place: SocketAddrV4,
    hearing: Arc<Port>,
    sending: UdpSocket,
}

impl Group {
    fn enter(place: SocketAddrV4, interface: Ipv4Addr, number: u64, news: Sender<News>) -> io::Result<Self> {
        let hearing = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        // Many on this machine hear the same group.
        hearing.set_reuse_address(true)?;
        // On this address, not on any: what goes to other groups on the port is not heard.
        hearing.bind(&SocketAddr::V4(place).into())?;
        hearing.join_multicast_v4(place.ip(), &interface)?;
        let sending = UdpSocket::bind((interface, 0))?;
        SockRef::from(&sending).set_multicast_if_v4(&interface)?;
        sending.set_multicast_ttl_v4(GROUP_TTL)?;
        let hearing = read(hearing.into(), number, news)?;
        Ok(Self { place, hearing, sending })
    }
}

struct Hands {
    own: Arc<Port>,
    server: SocketAddr,
    interface: Option<Ipv4Addr>,
    news: (Sender<News>, Receiver<News>),
    group: Option<Group>,
    /// The number of the last group.
    groups: u64,
    end: Option<End>,
}

impl Hands {
    fn new(socket: UdpSocket, server: SocketAddr, interface: Option<Ipv4Addr>) -> io::Result<Self> {
        let news = bounded(NEWS_MAX);
        let own = read(socket, 0, news.0.clone())?;
        Ok(Self { own, server, interface, news, group: None, groups: 0, end: None })
    }

    fn drive(mut self, rules: Rules, console: &mut Console) -> End {
        let mut state = State::new(rules);
        self.handle(console, &mut state, Event::Start);
        let news = self.news.1.clone();
        loop {
            if let Some(end) = self.end.take() {
                self.leave();
                self.own.stop();
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
                recv(news) -> item => match item {
                    Ok(News { group: 0, from, bytes }) => self.handle(console, &mut state, Event::Heard(from, &bytes)),
                    // A group that we have left may still have something on its way.
                    Ok(News { group, from, bytes }) if group == self.groups => {
                        self.handle(console, &mut state, Event::GroupHeard(from, &bytes));
                    }
                    _ => {}
                },
                // What has come is looked at first: an answer that waits is no silence.
                recv(timer) -> _ => if news.is_empty() {
                    self.handle(console, &mut state, Event::Tick);
                },
            }
        }
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
            Effect::Transmit(to, datagram) => return unsent(self.own.socket.send_to(datagram.as_bytes(), to)),
            Effect::Shout(datagram) => {
                let group = self.group.as_ref()?;
                return unsent(group.sending.send_to(datagram.as_bytes(), group.place));
            }
            Effect::Enter(place) => {
                return Some(
                    self.enter(place).map_or_else(|error| Event::NotEntered(error.to_string()), Event::Entered),
                );
            }
            Effect::LeaveGroup => self.leave(),
            Effect::Ask => console.ask(),
            Effect::Offer(offer) => console.offer(offer),
            Effect::Show(told) => console.show(told),
            Effect::End(end) => self.end = Some(end),
        }
        None
    }

    /// Enters a group, out of the one before; tells from where we send to it.
    fn enter(&mut self, place: SocketAddrV4) -> io::Result<SocketAddr> {
        let interface = self.interface(place)?;
        self.leave();
        self.groups += 1;
        let group = Group::enter(place, interface, self.groups, self.news.0.clone())?;
        let own = group.sending.local_addr()?;
        self.group = Some(group);
        Ok(own)
    }

    /// The interface that was asked for; else the one that leads to the server, and if that is
    /// of IPv6, the one that leads to the group. So does 0.0.0.0: our messages come back from a
    /// certain address, and are known by it.
    fn interface(&self, place: SocketAddrV4) -> io::Result<Ipv4Addr> {
        let towards = match self.interface {
            Some(interface) if !interface.is_unspecified() => return Ok(interface),
            None if self.server.ip().is_loopback() => return Ok(Ipv4Addr::LOCALHOST),
            None if self.server.is_ipv4() => self.server,
            _ => place.into(),
        };
        match local_address(towards)? {
            IpAddr::V4(address) => Ok(address),
            IpAddr::V6(_) => {
                Err(io::Error::new(ErrorKind::AddrNotAvailable, "no IPv4 here; name one with --interface"))
            }
        }
    }

    fn leave(&mut self) {
        if let Some(group) = self.group.take() {
            group.hearing.stop();
        }
    }
}

fn unsent(sent: io::Result<usize>) -> Option<Event<'static>> {
    sent.err().map(|error| Event::Unsent(error.to_string()))
}
