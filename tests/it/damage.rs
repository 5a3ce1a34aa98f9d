//! Damaged stores: refused by name and left as they are, and salvaged when that is wanted. No
//! text that was altered reaches anybody.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::thread;

use chinwag::server::state::{Change, GroupId, Record, Remembered};
use chinwag::server::store::salvage::salvage;
use chinwag::server::store::{OpenError, Place, Store};
use chinwag::wire::name::{GroupName, Text, UserName};
use chinwag::wire::{Letter, Road, Scope};
use tempfile::TempDir;

use crate::dice::Dice;
use crate::programs::House;
use crate::socket::PATIENCE;

/// Damaged stores that are tried.
const VARIANTS: u64 = 1000;

const NOW: i64 = 1_700_000_000_000;
const PAGE_BYTES: usize = 4096;
const RECEIVERS: u64 = 8;

/// Messages in the file, and as many again in its log only.
const MESSAGES: u64 = 160;

type Files = BTreeMap<&'static str, Vec<u8>>;

fn name(word: &str) -> UserName {
    UserName::parse(word).expect("legal")
}

fn receiver(number: u64) -> UserName {
    name(&format!("r{}", number % RECEIVERS))
}

fn letter(number: u64) -> Letter {
    let text = Text::harmless(&format!("text {number} {}", "x".repeat((number % 7 * 50).try_into().expect("small"))));
    let (from, scope) = (name(&format!("s{}", number % 3)), Scope::Plain);
    Letter { number, from, text, sent: NOW + 1, road: Road::Mail, scope, receipt: false }
}

fn messages(numbers: std::ops::Range<u64>) -> Vec<Record> {
    numbers.map(|number| Record::Message { to: vec![receiver(number)], letter: letter(number), tag: None }).collect()
}

/// A store in memory-backed storage where there is some: these tests are about bytes, not disks.
fn folder() -> TempDir {
    let shared = Path::new("/dev/shm");
    if shared.is_dir() { tempfile::tempdir_in(shared) } else { tempfile::tempdir() }.expect("a folder")
}

/// The file and the log of a good store, taken while it is open.
fn good_store() -> Files {
    let folder = folder();
    let path = folder.path().join("chinwag.db");
    let (mut store, _) = open(&path).expect("a new one");
    store.commit(&messages(1..MESSAGES)).expect("room");
    let blocks = (0..RECEIVERS).map(|number| Record::Block { by: receiver(number), whom: receiver(number + 1) });
    store.commit(&blocks.collect::<Vec<_>>()).expect("room");
    let members = (0..RECEIVERS).map(receiver).collect();
    let change = Change::Made { name: GroupName::parse("all").expect("legal"), owner: receiver(0), members };
    store.commit(&[Record::Group { group: GroupId(1), change }]).expect("room");
    drop(store);
    let (mut store, _) = open(&path).expect("a good one");
    store.commit(&messages(MESSAGES..2 * MESSAGES)).expect("room");
    read_files(&path)
}

fn read_files(path: &Path) -> Files {
    ["chinwag.db", "chinwag.db-wal"]
        .into_iter()
        .filter_map(|file| Some((file, fs::read(path.with_file_name(file)).ok()?)))
        .collect()
}

fn are_unchanged(path: &Path, files: &Files) -> bool {
    files.iter().all(|(file, bytes)| fs::read(path.with_file_name(file)).is_ok_and(|now| &now == bytes))
}

fn write_files(folder: &Path, files: &Files) -> PathBuf {
    for (file, bytes) in files {
        fs::write(folder.join(file), bytes).expect("room");
    }
    folder.join("chinwag.db")
}

/// Damages a good store in one of many ways, and says how.
fn damage(files: &mut Files, dice: &mut Dice) -> String {
    let log = files.remove("chinwag.db-wal").expect("a log");
    let kind = dice.pick(11);
    if kind > 4 || dice.pick(2) == 0 {
        files.insert("chinwag.db-wal", log);
    }
    let file = if kind < 8 { "chinwag.db" } else { "chinwag.db-wal" };
    let Some(bytes) = files.get_mut(file) else { return String::new() };
    let at = dice.pick(bytes.len());
    let page = at / PAGE_BYTES * PAGE_BYTES..(at / PAGE_BYTES + 1) * PAGE_BYTES;
    match kind {
        0 | 5 | 8 => bytes.truncate(at),
        1 | 9 => bytes[at] ^= 1 << dice.pick(8),
        2 | 10 => (0..8).for_each(|_| {
            let at = dice.pick(bytes.len());
            bytes[at] = dice.roll(256).to_le_bytes()[0];
        }),
        3 => bytes[page].fill(0),
        4 => bytes[page].iter_mut().for_each(|byte| *byte = dice.roll(256).to_le_bytes()[0]),
        6 => {
            // A page in the place of another: trees that lead astray or round in a circle.
            let from = dice.pick(bytes.len() / PAGE_BYTES) * PAGE_BYTES;
            bytes.copy_within(from..from + PAGE_BYTES, page.start);
        }
        _ => *bytes = "Dear diary, ".repeat(1 + at / 12).into_bytes(),
    }
    format!("kind {kind} at {at}")
}

/// How many messages are delivered, all of which must be what was once written.
fn deliver(store: &mut Store, road: Road) -> usize {
    let mut count = 0;
    for user in (0..RECEIVERS).map(receiver) {
        let mut after = 0;
        while let Some(last) = store.page(&user, after).ok().and_then(|page| {
            for found in &page {
                assert_eq!(found, &Letter { road, ..letter(found.number) }, "an altered message");
                assert_eq!(receiver(found.number), user, "somebody else's message");
            }
            count += page.len();
            page.last().map(|letter| letter.number)
        }) {
            assert!(last > after, "a page twice");
            after = last;
        }
    }
    count
}

/// Opens a store, or salvages one, whose lock a program may still hold that another test is just
/// starting: between its fork and its exec it has all our files.
fn patiently<T>(mut open: impl FnMut() -> Result<T, OpenError>) -> Result<T, OpenError> {
    let too_late = crossbeam_channel::after(PATIENCE);
    loop {
        match open() {
            Err(OpenError::InUse { .. }) if too_late.is_empty() => thread::yield_now(),
            other => return other,
        }
    }
}

fn open(path: &Path) -> Result<(Store, Remembered), OpenError> {
    patiently(|| Store::open(&Place::File(path.to_owned()), NOW))
}

#[derive(Default)]
struct Tally {
    opened: usize,
    salvaged: usize,
    hopeless: usize,
    kept: usize,
}

fn try_variant(good: &Files, seed: u64, tally: &mut Tally) {
    let folder = folder();
    let mut files = good.clone();
    let what = damage(&mut files, &mut Dice(seed));
    let path = write_files(folder.path(), &files);
    match open(&path) {
        Ok((mut store, _)) => {
            deliver(&mut store, Road::Mail);
            let _ = store.commit(&messages(1000..1100));
            tally.opened += 1;
            return;
        }
        Err(error) => {
            assert!(are_unchanged(&path, &files), "seed {seed}, {what}: a refused file was changed");
            if !matches!(error, OpenError::Damaged { .. }) {
                tally.hopeless += 1;
                return;
            }
        }
    }
    let Ok(salvaged) = patiently(|| salvage(&path, NOW)) else {
        assert!(are_unchanged(&path, &files), "seed {seed}, {what}: a file that cannot be salvaged was changed");
        tally.hopeless += 1;
        return;
    };
    assert!(fs::read(&salvaged.aside).expect("kept") == files["chinwag.db"], "seed {seed}, {what}");
    let (mut store, _) = open(&path).unwrap_or_else(|error| panic!("seed {seed}, {what}: {error}"));
    assert_eq!(deliver(&mut store, Road::Again), salvaged.messages, "seed {seed}, {what}");
    store.commit(&messages(1000..1100)).expect("a good store");
    tally.salvaged += 1;
    tally.kept += salvaged.messages;
}

#[test]
fn a_damaged_store_is_refused_or_salvaged_and_delivers_nothing_altered() {
    let good = good_store();
    let (tried, progress) = channel();
    let work = thread::spawn(move || {
        let mut tally = Tally::default();
        for seed in 0..VARIANTS {
            try_variant(&good, seed, &mut tally);
            tried.send(seed).expect("somebody waits");
        }
        tally
    });
    // The channel ends with the thread, in whatever way.
    while let Ok(seed) = progress.recv_timeout(PATIENCE) {
        if seed + 1 == VARIANTS {
            break;
        }
    }
    assert!(work.is_finished() || progress.recv_timeout(PATIENCE).is_err(), "a variant takes for ever");
    let Tally { opened, salvaged, hopeless, kept } = work.join().expect("no panic");
    println!("{opened} opened, {salvaged} salvaged with {kept} messages, {hopeless} refused");
    assert_eq!(opened + salvaged + hopeless, usize::try_from(VARIANTS).expect("small"));
    assert!(opened > 100 && salvaged > 100 && hopeless > 20, "the variants are not of all kinds");
    assert!(kept / salvaged > 50, "little is salvaged: {kept} of {salvaged}");
}

#[test]
fn what_lies_around_the_damage_is_kept() {
    let folder = folder();
    let mut files = good_store();
    let path = write_files(folder.path(), &files);
    drop(open(&path).expect("good"));
    files = read_files(&path);
    let whole = files["chinwag.db"].clone();
    let pages = whole.len() / PAGE_BYTES;
    assert!(pages > 20, "{pages} pages");
    let mut kept = Vec::new();
    for page in 0..pages {
        let mut bytes = whole.clone();
        bytes[page * PAGE_BYTES..(page + 1) * PAGE_BYTES].fill(0xa5);
        fs::write(&path, bytes).expect("room");
        if open(&path).is_err() {
            kept.push(patiently(|| salvage(&path, NOW)).map_or(0, |salvaged| salvaged.messages));
        }
    }
    kept.sort_unstable();
    println!("{pages} pages, of {} messages were kept: {kept:?}", 2 * MESSAGES - 1);
    // Without the root of its tree no mailbox can be found; any other page takes only what it has.
    let little = kept.iter().filter(|&&messages| messages < usize::try_from(MESSAGES).expect("small")).count();
    assert!(little <= 1 && kept.len() >= pages - 2, "{kept:?}");
}

#[test]
fn a_damaged_store_is_named_with_a_way_out() {
    let house = House::new("r1 pass\ns1 pass\n");
    let path = house.folder.path().join("chinwag.db");
    let mut files = good_store();
    files.remove("chinwag.db-wal");
    // The last page is a leaf of the table of messages.
    let bytes = files.get_mut("chinwag.db").expect("a file");
    let last = bytes.len() - PAGE_BYTES;
    bytes[last..].fill(0);
    write_files(house.folder.path(), &files);

    let ended = house.run(&["0", "60", "120"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
    assert!(ended.stderr.starts_with("error: chinwag.db is damaged ("), "{}", ended.stderr);
    assert!(ended.stderr.contains("\nhint: --salvage keeps what can be read"), "{}", ended.stderr);
    assert!(are_unchanged(&path, &files), "left as it is");

    let server = house.serve(&["--salvage"]);
    let note = &server.first_note;
    assert!(note.starts_with("chinwag.db was damaged: ") && note.contains("chinwag.db.damaged-1"), "{note}");
    assert!(note.contains(" 8 blocks and 1 group kept"), "{note}");
    let shown = server.script("r1 pass\nmessage s1 hi\n");
    assert!(shown.contains(", perhaps repeated] s") && shown.ends_with("message stored\n"), "{shown}");
    let _ = server.stop();
    assert!(fs::read(house.folder.path().join("chinwag.db.damaged-1")).expect("kept") == files["chinwag.db"]);

    let server = house.serve(&["--salvage"]);
    assert_eq!(server.first_note, "chinwag.db is not damaged, there is nothing to salvage");
    let _ = server.stop();
    // Another program's file, and none at all, is not for us to put aside.
    fs::write(&path, "Dear diary, ").expect("room");
    let ended = house.run(&["0", "60", "120", "--salvage"]);
    assert!(ended.code == Some(1) && ended.stderr.contains("nothing of it can be read"), "{}", ended.stderr);
    assert_eq!(fs::read(&path).expect("there"), b"Dear diary, ");
}
