//! Arguments of `server udp`: the rendezvous for datagrams by itself.

use std::io;
use std::net::{IpAddr, ToSocketAddrs};

use clap::Args;

/// Where the rendezvous listens.
#[derive(Debug, Args)]
pub struct Rendezvous {
    /// UDP port to listen on; 0 takes any free one and says which
    #[arg(required_unless_present = "old_port", conflicts_with = "old_port")]
    port: Option<u16>,
    /// The same, as the Basel programs spell it; also -p and -port
    #[arg(id = "old_port", long = "port", value_name = "PORT")]
    old_port: Option<u16>,
    /// Name or address to listen on instead of loopback; also -ip
    #[arg(long, value_name = "ADDR")]
    ip: Option<String>,
    /// Address to listen on instead of loopback; may be given more than once
    #[arg(long, value_name = "ADDR", conflicts_with = "ip")]
    bind: Vec<IpAddr>,
    /// Log what happens, to standard error; RUST_LOG chooses more finely
    #[arg(short = 'd', long)]
    pub debug: bool,
}

impl Rendezvous {
    /// The port.
    pub fn port(&self) -> u16 {
        self.port.or(self.old_port).unwrap_or_default()
    }

    /// The addresses; none for loopback.
    pub fn addresses(&self) -> io::Result<Vec<IpAddr>> {
        let Some(name) = &self.ip else { return Ok(self.bind.clone()) };
        let mut addresses = Vec::new();
        for address in (name.as_str(), 0).to_socket_addrs()? {
            if !addresses.contains(&address.ip()) {
                addresses.push(address.ip());
            }
        }
        Ok(addresses)
    }
}
