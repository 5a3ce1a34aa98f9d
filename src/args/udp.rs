//! Arguments of `client udp`: names, rooms and groups by datagrams.

use std::net::Ipv4Addr;

use clap::Args;

use super::look::Look;
use crate::client::Family;

/// Which server, and from which port.
#[derive(Debug, Args)]
pub struct Udp {
    /// Name or address of the server, and its UDP port
    #[arg(value_names = ["IP", "PORT"], num_args = 2, required_unless_present = "port",
          conflicts_with_all = ["ip", "port"])]
    words: Vec<String>,
    /// Name or address of the server; also -ip
    #[arg(long, value_name = "IP", requires = "port")]
    ip: Option<String>,
    /// UDP port of the server; also -port and -p
    #[arg(long, value_name = "PORT", requires = "ip")]
    port: Option<u16>,
    /// Own UDP port, without it any free one; also -myport and -mp
    #[arg(long, value_name = "PORT", default_value_t = 0, hide_default_value = true)]
    pub myport: u16,
    /// Register this name at once
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Address of the interface for groups [default: the one that leads to the server]
    #[arg(long, value_name = "ADDR")]
    pub interface: Option<Ipv4Addr>,
    /// Use IPv4 only
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    ipv4: bool,
    /// Use IPv6 only
    #[arg(short = '6', long)]
    ipv6: bool,
    #[command(flatten)]
    pub(super) look: Look,
}

impl Udp {
    /// How things look, and where to remember what is typed.
    pub fn look(&self) -> &Look {
        &self.look
    }

    /// The kind of address that was asked for.
    pub fn family(&self) -> Option<Family> {
        match (self.ipv4, self.ipv6) {
            (true, _) => Some(Family::V4),
            (_, true) => Some(Family::V6),
            _ => None,
        }
    }

    /// The server; or which word is no port.
    pub fn server(&self) -> Result<(String, u16), String> {
        match (&self.words[..], &self.ip, self.port) {
            ([ip, port], ..) => Ok((ip.clone(), port.parse().map_err(|_| format!("{port} is not a port"))?)),
            (_, Some(ip), Some(port)) => Ok((ip.clone(), port)),
            _ => Err("there is no server".to_owned()),
        }
    }
}
