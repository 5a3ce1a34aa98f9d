//! How the plays of the client's mind spell what happens to files: see `client_mind.rs`.

use std::sync::Arc;

use chinwag::client::state::PeerId;
use chinwag::client::state::download::{Manifest, Why};
use chinwag::client::state::sharing::{Chore, Event, Offered, Trouble};
use chinwag::wire::chunks::{ChunkSet, Digest};
use chinwag::wire::name::FileName;

/// A hash of 32 equal bytes, by one of them.
fn digest(word: &str) -> Digest {
    let byte = u8::from_str_radix(word, 16).expect("two digits");
    Digest([byte; 32])
}

fn file(word: &str) -> FileName {
    FileName::parse(word).expect("a name")
}

fn number<T: std::str::FromStr>(word: &str) -> T {
    word.parse().unwrap_or_else(|_| panic!("{word} is no number"))
}

fn chunks(words: &[&str]) -> ChunkSet {
    let range = |word: &&str| match word.split_once('-') {
        Some((first, last)) => number::<u32>(first)..=number(last),
        None => number(word)..=number(word),
    };
    words.iter().flat_map(range).collect()
}

fn trouble(word: &str) -> Trouble {
    let known = [
        Trouble::NoSuchFile,
        Trouble::Changed,
        Trouble::InUse,
        Trouble::HaveAll,
        Trouble::Taken,
        Trouble::DiskFull,
        Trouble::WrongDigest,
    ];
    known.into_iter().find(|trouble| trouble.word() == word).unwrap_or_else(|| panic!("{word} is no trouble"))
}

/// What stands behind `file`.
pub(crate) fn of_file(act: &str) -> Event {
    let words: Vec<&str> = act.split(' ').collect();
    let name = file(words[0]);
    match &words[1..] {
        ["read", bytes, whole, hashes @ ..] => {
            let hashes = hashes.iter().map(|word| digest(word)).collect();
            let manifest = Manifest { file: name.clone(), bytes: number(bytes), digest: digest(whole), hashes };
            Event::Read(name, Ok(Arc::new(manifest)))
        }
        ["unread", why] => Event::Read(name, Err(trouble(why))),
        ["opened", there @ ..] => Event::Opened(name, Ok(chunks(there))),
        ["unopened", why] => Event::Opened(name, Err(trouble(why))),
        ["finished", whole] => Event::Finished(name, Ok(digest(whole))),
        ["unfinished", why] => Event::Finished(name, Err(trouble(why))),
        ["unwritten", why] => Event::NotWritten(name, trouble(why)),
        ["spoiled"] => Event::Spoiled(name),
        _ => panic!("{act:?} happens to no file"),
    }
}

/// What stands behind a connection, if it is one for files.
pub(crate) fn of_link(peer: PeerId, act: &str) -> Option<Event> {
    let words: Vec<&str> = act.split(' ').collect();
    Some(match &words[..] {
        ["linked"] => Event::Linked(peer),
        ["moved", bytes] => Event::Moved(peer, number(bytes)),
        ["fetched", name, chunk, hash] => Event::Fetched(peer, file(name), number(chunk), digest(hash)),
        ["refused"] => Event::Refused(peer),
        ["closed", word] => {
            let known = [Why::Done, Why::Left, Why::Lied];
            Event::Closed(peer, known.into_iter().find(|why| why.word() == *word).expect("a reason"))
        }
        _ => return None,
    })
}

/// `S hans` and what he has offered: `whole a.bin 3 25 aa`.
pub(crate) fn offered(words: &str) -> (String, Offered) {
    let words: Vec<&str> = words.split(' ').collect();
    let [store, user, kind, name, chunks, bytes, whole] = words[..] else { panic!("{words:?} is no offer") };
    let (file, chunks, bytes) = (file(name), number(chunks), number(bytes));
    (format!("{store} {user}"), Offered { file, chunks, bytes, digest: digest(whole), whole: kind == "whole" })
}

pub(crate) fn spell_offered(offered: &[Offered]) -> String {
    let spell = |it: &Offered| format!(" {} {}", if it.whole { "whole" } else { "part" }, it.file);
    format!("keep offered{}", offered.iter().map(spell).collect::<String>())
}

pub(crate) fn spell_chore(chore: &Chore) -> String {
    match chore {
        Chore::Read(file, chunks) => format!("read {file} {chunks}"),
        Chore::Share(file) => format!("share {file}"),
        Chore::Discard(file) => format!("discard {file}"),
        Chore::Open(manifest) => format!("open {}", manifest.file),
        Chore::Find(manifest) => format!("find {}", manifest.file),
        Chore::Keep(file, chunk) => format!("keep {file} {chunk}"),
        Chore::Leave(file) => format!("leave {file}"),
        Chore::Forget(file) => format!("forget {file}"),
        Chore::Fetch(PeerId::Dialled(number), file, chunk) => format!("fetch {file} {chunk} from out{number}"),
        Chore::Fetch(PeerId::Accepted(number), file, chunk) => format!("fetch {file} {chunk} from in{number}"),
    }
}

/// A line with its hashes in two digits each.
pub(crate) fn short(line: &str) -> String {
    let words: Vec<String> = line.split(' ').map(|word| short_word(word).unwrap_or_else(|| word.to_owned())).collect();
    words.join(" ")
}

fn short_word(word: &str) -> Option<String> {
    let Digest(bytes) = Digest::parse(word)?;
    bytes.iter().all(|byte| *byte == bytes[0]).then(|| format!("{:02x}", bytes[0]))
}

/// A line of the server with its hashes in full.
pub(crate) fn long(line: &str) -> String {
    let first = match line.split(' ').next() {
        Some("manifest") => 4,
        Some("chunk-hash") => 3,
        _ => return line.to_owned(),
    };
    let spell = |(at, word): (usize, &str)| if at < first { word.to_owned() } else { digest(word).to_string() };
    let words: Vec<String> = line.split(' ').enumerate().map(spell).collect();
    words.join(" ")
}
