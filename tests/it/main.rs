//! One test binary: transcripts on the pure state and over sockets, real processes, crashes,
//! and the rules of the house.

mod abuse;
mod basel;
mod basel_loss;
mod basel_minds;
mod between_clients;
mod client;
mod client_links;
mod client_mind;
mod client_terminal;
mod crash;
mod crowd;
mod damage;
mod dice;
mod disk;
mod download_plan;
mod files;
mod framed;
mod framed_mind;
mod framed_worlds;
mod guard;
mod handshake;
mod limits;
mod meetings;
mod netns;
mod notices;
mod play;
mod private_sessions;
mod private_terminal;
mod programs;
mod pure;
mod races;
mod rendezvous;
mod socket;
mod tidy;
mod transcripts;
