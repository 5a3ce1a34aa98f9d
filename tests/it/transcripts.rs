//! Every transcript on the pure state; those in which no time passes over sockets as well.

use crate::play::Play;
use crate::pure::Pure;
use crate::socket::{Sockets, without_time};

fn play_pure(name: &str) {
    let play = Play::load(name);
    play.perform(&mut Pure::new(&play.setup), |line| Some(line.to_owned()), true);
}

fn play_over_sockets(name: &str) {
    let play = Play::load(name);
    if play.fits_sockets() {
        play.perform(&mut Sockets::new(&play.setup), without_time, false);
    }
}

macro_rules! transcripts {
    ($($name:ident)*) => {
        mod pure {
            $(#[test] fn $name() { super::play_pure(stringify!($name)); })*
        }
        mod sockets {
            $(#[test] fn $name() { super::play_over_sockets(stringify!($name)); })*
        }
        const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}

transcripts! {
    login
}

#[test]
fn every_transcript_is_played() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut files: Vec<String> = std::fs::read_dir(folder)
        .expect("the folder is there")
        .map(|entry| entry.expect("an entry").path().file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    files.sort();
    let mut names = NAMES.to_vec();
    names.sort_unstable();
    assert_eq!(files, names);
}
