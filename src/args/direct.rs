//! Arguments of `client direct`: one talk over TCP, without a server.

use clap::Args;

use super::look::Look;

/// Who talks to whom: `--ip`, `--port` and `--myport`, or as many words as needed.
#[derive(Debug, Args)]
pub struct Direct {
    /// PORT: wait there to be called. IP PORT: call there, and wait on PORT if nobody answers
    #[arg(value_names = ["IP", "PORT"], num_args = 1..=2, required_unless_present = "port",
          conflicts_with_all = ["ip", "port", "myport"])]
    words: Vec<String>,
    /// Name or address to call; also -ip
    #[arg(long, value_name = "IP", requires = "port")]
    ip: Option<String>,
    /// Port to call; also -port and -p
    #[arg(long, value_name = "PORT", requires = "ip")]
    port: Option<u16>,
    /// Port to wait on if nobody answers, without it the same; also -myport and -mp
    #[arg(long, value_name = "PORT", requires = "ip")]
    myport: Option<u16>,
    #[command(flatten)]
    pub(super) look: Look,
}

impl Direct {
    /// How things look, and where to remember what is typed.
    pub fn look(&self) -> &Look {
        &self.look
    }

    /// Whom to call, if anybody, and where to wait; or which word is no port.
    pub fn places(&self) -> Result<(Option<(String, u16)>, u16), String> {
        let port = |word: &String| word.parse().map_err(|_| format!("{word} is not a port"));
        match (&self.words[..], &self.ip, self.port) {
            ([own], ..) => Ok((None, port(own)?)),
            ([ip, peer], ..) => Ok((Some((ip.clone(), port(peer)?)), port(peer)?)),
            (_, Some(ip), Some(peer)) => Ok((Some((ip.clone(), peer)), self.myport.unwrap_or(peer))),
            _ => Err("there is neither a port nor an address".to_owned()),
        }
    }
}
