//! Arguments of `client framed`: Columbia's system without lasting connections.

use clap::Args;

use super::look::Look;

/// Where the server is, and where it can reach this client.
#[derive(Debug, Args)]
pub struct Framed {
    /// Name or address of the server
    pub server: String,
    /// Its TCP port for framed clients
    pub port: u16,
    /// Address of this machine as the server sees it, or localhost: the server pushes to it
    pub my_addr: String,
    /// TCP port to listen on there; 0 takes any free one
    pub my_port: u16,
    /// How things look
    #[command(flatten)]
    pub look: Look,
}
