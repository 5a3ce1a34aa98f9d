//! The datagrams of the Basel systems: sockets and threads around [`rendezvous`].
//!
//! A thread per socket (`udp`) reads; one thread (`rendezvous`) decides and sends. They are not
//! the hub's: what is known of UDP clients has nothing to do with the users of the line port, so
//! a flood of datagrams waits in its own channel, and then in the kernel, which drops it.
//!
//! [`rendezvous`]: super::state::rendezvous

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::listener;
use super::state::rendezvous::{Counts, Event, Peer, Rendezvous, Transmit};
use super::{StartError, StopError};
use crate::clock::Clock;
use crate::port::Port;

/// Datagrams that may wait to be decided; more wait in the kernel, until that drops them.
const INPUTS_MAX: usize = 256;

/// Between two lines of the log about what is dropped, in milliseconds.
const LOG_EVERY: i64 = 60_000;

/// What the threads tell the one that decides.
#[derive(Debug)]
enum Input {
    Heard(Peer, Vec<u8>),
    Stop,
}

/// A rendezvous server at work.
#[derive(Debug)]
pub struct Service {
    /// Where it listens.
    pub addresses: Vec<SocketAddr>,
    /// What the operator should know, a line each.
    pub notes: Vec<String>,
    stopper: Stopper,
    thread: JoinHandle<()>,
}

/// Stops a rendezvous server.
#[derive(Debug, Clone)]
pub struct Stopper {
    inputs: Sender<Input>,
    ports: Arc<Vec<Port>>,
}

/// Starts a rendezvous server on these addresses; on loopback if there are none.
pub fn start(bind: &[IpAddr], port: u16) -> Result<Service, StartError> {
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let addresses = if bind.is_empty() { &loopback } else { bind };
    let may_lack = |address: IpAddr| bind.is_empty() && address.is_ipv6();
    let port_of = |socket: &UdpSocket| socket.local_addr().map(|address| address.port());
    let (sockets, mut notes) =
        listener::bind_by(addresses, port, may_lack, open, port_of).map_err(StartError::ListenUdp)?;
    if addresses.iter().all(IpAddr::is_loopback) {
        notes.push("only this machine can send datagrams; --bind 0.0.0.0 opens the server to others".to_owned());
    }
    let bound = sockets.iter().map(UdpSocket::local_addr).collect::<Result<_, _>>().map_err(StartError::System)?;
    let ports: Arc<Vec<Port>> = Arc::new(sockets.into_iter().map(Port::new).collect());
    let (inputs, from_inputs) = bounded(INPUTS_MAX);
    for via in 0..ports.len() {
        let (ports, inputs) = (Arc::clone(&ports), inputs.clone());
        let hear =
            move |address, bytes: &[u8]| inputs.send(Input::Heard(Peer { address, via }, bytes.to_vec())).is_ok();
        spawn("udp", move || ports[via].read(hear))?;
    }
    let for_sending = Arc::clone(&ports);
    let thread = spawn("rendezvous", move || decide(&from_inputs, &for_sending))?;
    Ok(Service { addresses: bound, notes, stopper: Stopper { inputs, ports }, thread })
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StartError> {
    thread::Builder::new().name(name.into()).spawn(body).map_err(StartError::System)
}

/// One socket, for both families if `dual`.
fn open(address: SocketAddr, dual: bool) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!dual)?;
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Lets the state decide, and sends, until the server stops.
fn decide(inputs: &Receiver<Input>, ports: &[Port]) {
    let clock = Clock::start();
    let mut state = Rendezvous::default();
    let mut effects = Vec::new();
    let (mut logged, mut logged_at) = (Counts::default(), 0);
    loop {
        let input = match state.deadline() {
            Some(at) => inputs.recv_deadline(clock.at(at)),
            None => inputs.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        let now = clock.now().elapsed;
        match input {
            Ok(Input::Heard(peer, bytes)) => state.handle(now, Event::Heard(peer, &bytes), &mut effects),
            Err(RecvTimeoutError::Timeout) => {}
            Ok(Input::Stop) | Err(RecvTimeoutError::Disconnected) => break,
        }
        if state.deadline().is_some_and(|at| at <= now) {
            state.handle(now, Event::Tick, &mut effects);
        }
        effects.drain(..).for_each(|transmit| send(ports, &transmit));
        let counts = state.counts();
        if counts.dropped > logged.dropped && now - logged_at >= LOG_EVERY {
            log::warn!("{} answers dropped, too much for who seems to ask", counts.dropped - logged.dropped);
            (logged, logged_at) = (counts, now);
        }
    }
    let Counts { heard, senseless, sent, dropped } = state.counts();
    log::info!("datagrams: {heard} came, {senseless} of them without meaning; {sent} went out, {dropped} were dropped");
}

/// Sends without waiting: what the kernel does not take is lost, as datagrams may be.
fn send(ports: &[Port], Transmit { to, datagram }: &Transmit) {
    let Some(Port { socket, .. }) = ports.get(to.via) else { return };
    let is_ipv6 = socket.local_addr().is_ok_and(|address| address.is_ipv6());
    let address = match to.address {
        SocketAddr::V4(address) if is_ipv6 => (address.ip().to_ipv6_mapped(), address.port()).into(),
        address => address,
    };
    if let Err(error) =
        SockRef::from(socket).send_to_with_flags(datagram.as_bytes(), &address.into(), libc::MSG_DONTWAIT)
    {
        log::debug!("cannot send to {address}: {error}");
    }
}

impl Service {
    /// A line for each address.
    pub fn describe(&self) -> impl Iterator<Item = String> {
        self.addresses.iter().map(|address| format!("rendezvous for datagrams on {address}"))
    }

    /// What stops this server.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Waits until the server has stopped; an error means that its thread has died.
    pub fn wait(self) -> Result<(), StopError> {
        let ended = self.thread.join();
        self.stopper.stop();
        ended.map_err(|_| StopError)
    }
}

impl Stopper {
    /// Stops the server; nobody is told, for nobody is connected.
    pub fn stop(&self) {
        // Whoever decides may have ended already.
        let _ = self.inputs.send(Input::Stop);
        self.ports.iter().for_each(Port::stop);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn an_answer_leaves_the_socket_that_was_asked_and_a_stop_ends_all_threads() {
        let service = start(&["127.0.0.1".parse().expect("an address"), "127.0.0.2".parse().expect("an address")], 0);
        let service = service.expect("loopback");
        assert_eq!(service.addresses[0].port(), service.addresses[1].port());
        let client = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        client.set_read_timeout(Some(Duration::from_secs(20))).expect("an option");
        for address in &service.addresses {
            client.send_to(b"GRP:", address).expect("it listens");
            let mut bytes = [0; 100];
            let (count, from) = client.recv_from(&mut bytes).expect("an answer in time");
            assert_eq!((&bytes[..count], from), (&b"GTA:"[..], *address));
        }
        let ports = Arc::downgrade(&service.stopper.ports);
        service.stopper().stop();
        service.wait().expect("it stops in order");
        // The readers hold the sockets to their last moment.
        let clock = Clock::start();
        while ports.strong_count() > 0 {
            assert!(clock.now().elapsed < 20_000, "a reader does not end");
            thread::yield_now();
        }
    }

    #[test]
    fn one_socket_for_both_families_answers_both() {
        let Ok(service) = start(&[Ipv6Addr::UNSPECIFIED.into()], 0) else {
            return println!("skipped: this machine has no IPv6");
        };
        let port = service.addresses[0].port();
        for ip in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
            let client = UdpSocket::bind((ip, 0)).expect("loopback");
            client.set_read_timeout(Some(Duration::from_secs(20))).expect("an option");
            client.send_to(b"ul", (ip, port)).expect("it listens");
            let mut bytes = [0; 100];
            let count = client.recv(&mut bytes).expect("an answer in time");
            assert_eq!(&bytes[..count], b"ul");
        }
        service.stopper().stop();
        service.wait().expect("it stops in order");
    }
}
