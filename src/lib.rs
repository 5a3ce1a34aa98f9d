//! chinwag: the chat system that networking courses build.
//!
//! Two questions find the room for any line of code: *which program?* and *does it decide or
//! does it do?* Modules in reading order:
//!
//! * [`wire`]: words. Bytes to values and back, for both programs; pure.
//! * [`server::state`]: the mind of the server. `(now, event)` in, effects out; pure.
//! * [`server`]: the hands of the server. Sockets, threads, files, the state thread.
//! * [`client`]: the client program.
//! * [`args`]: how both programs read their arguments.
//! * `port`: a UDP socket and its reader, for both programs.
//! * [`clock`]: the only file that asks the time.

pub mod args;
pub mod client;
pub mod clock;
mod port;
pub mod server;
pub mod wire;
