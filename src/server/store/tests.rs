//! What a store promises, on files and in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;

use crossbeam_channel::{bounded, unbounded};
use proptest::prelude::*;
use proptest::sample::subsequence;
use proptest::{collection, option};

use super::jobs::Complaints;
use super::schema::{APPLICATION_ID, MIGRATIONS, VERSION};
use super::start::{STARTS_END, read_all};
use super::*;
use crate::clock::Clock;
use crate::server::credentials::Appender;
use crate::server::state::{Change, ConnId, GroupId, Receipt, RememberedUser, Tokens};
use crate::wire::name::{GroupName, Text};
use crate::wire::{Road, Scope, Tag};

const NOW: i64 = 1_700_000_000_000;

/// A place for a store, gone at the end of the test.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("chinwag.db")
    }

    fn place(&self) -> Place {
        Place::File(self.path())
    }

    fn open(&self) -> (Store, Remembered) {
        Store::open(&self.place(), NOW).expect("a good file")
    }

    fn refusal(&self) -> OpenError {
        let error = Store::open(&self.place(), NOW).map(|_| ()).expect_err("must be refused");
        let line = error.to_string();
        assert!(line.starts_with(&self.path().display().to_string()) && !line.contains('\n'), "{line}");
        error
    }

    /// The file as `sqlite3` would open it.
    fn raw(&self) -> Connection {
        Connection::open(self.path()).unwrap()
    }
}

fn in_memory() -> Store {
    Store::open(&Place::Memory, NOW).unwrap().0
}

fn name(word: &str) -> UserName {
    UserName::parse(word).unwrap()
}

fn letter(from: &str, number: u64, text: &str) -> Letter {
    let (scope, receipt) = (Scope::Plain, false);
    Letter { number, from: name(from), text: Text::harmless(text), sent: NOW + 7, road: Road::Mail, scope, receipt }
}

fn message(to: &str, from: &str, number: u64, text: &str) -> Record {
    Record::Message { to: vec![name(to)], letter: letter(from, number, text), tag: None }
}

fn numbers(page: &[Letter]) -> Vec<u64> {
    page.iter().map(|letter| letter.number).collect()
}

fn count(connection: &Connection, sql: &str) -> i64 {
    connection.query_row(sql, [], |row| row.get(0)).unwrap()
}

fn user<'a>(remembered: &'a Remembered, word: &str) -> &'a RememberedUser {
    remembered.users.iter().find(|user| user.name.as_str() == word).expect("a known user")
}

#[test]
fn tokens_and_tags_are_remembered_and_a_tag_stores_once() {
    let (mut store, _) = Store::open(&Place::Memory, NOW).unwrap();
    let tag = Some(Tag { session: 7, line: 1 });
    let first = Record::Message { to: vec![name("yoda")], letter: letter("hans", 1, "hi"), tag };
    let again = Record::Message { to: vec![name("yoda")], letter: letter("hans", 2, "hi"), tag };
    let token = Record::Tokens { user: name("hans"), tokens: Tokens { latest: Some([9; 32]), used: Some([8; 32]) } };
    store.commit(&[first, again, token]).unwrap();
    assert_eq!(store.page(&name("yoda"), 0).unwrap().len(), 1);
    let (_, remembered) = read_all(&store.connection).unwrap();
    assert_eq!(remembered.tags, [(name("hans"), Tag { session: 7, line: 1 }, name("yoda"))]);
    assert_eq!(user(&remembered, "hans").tokens, Tokens { latest: Some([9; 32]), used: Some([8; 32]) });
    store.commit(&[Record::Tokens { user: name("hans"), tokens: Tokens::default() }]).unwrap();
    assert_eq!(user(&read_all(&store.connection).unwrap().1, "hans").tokens, Tokens::default());
}

#[test]
fn all_that_matters_survives_a_restart() {
    let folder = Folder::new();
    let (mut store, remembered) = folder.open();
    assert_eq!((remembered.users.len(), remembered.blocks.len()), (0, 0));
    assert_eq!(store.journal(), Journal::Wal);
    let id = store.id().to_owned();
    assert_eq!(id.len(), 32);
    let returned = Letter { road: Road::Again, ..letter("hans", 8, "perhaps twice") };
    store
        .commit(&[
            message("yoda", "hans", 5, "gr\u{fc}ezi\tdu"),
            Record::Message { to: vec![name("yoda")], letter: returned.clone(), tag: None },
            Record::Message {
                to: vec![name("yoda")],
                letter: Letter { road: Road::Live, ..letter("yoda", 9, "me") },
                tag: None,
            },
            Record::Block { by: name("yoda"), whom: name("vader") },
            Record::Block { by: name("luke"), whom: name("vader") },
            Record::Block { by: name("luke"), whom: name("vader") },
            Record::Unblock { by: name("luke"), whom: name("vader") },
            Record::Unblock { by: name("nobody"), whom: name("vader") },
            Record::CameOnline { user: name("luke"), wall: NOW },
            Record::WentOffline { user: name("luke"), wall: NOW + 60 },
        ])
        .unwrap();
    drop(store);

    let (mut store, remembered) = folder.open();
    assert_eq!(store.id(), id);
    assert_eq!(remembered.blocks, [(name("yoda"), name("vader"))]);
    assert_eq!(user(&remembered, "luke").last_seen, Some(NOW + 60));
    let expected = RememberedUser {
        name: name("yoda"),
        last_seen: None,
        waiting: 3,
        bytes: 10 + 13 + 2,
        last: 9,
        tokens: Tokens::default(),
    };
    assert_eq!(user(&remembered, "yoda"), &expected);
    assert_eq!(user(&remembered, "hans").waiting, 0);
    assert!(!remembered.users.iter().any(|user| user.name.as_str() == "nobody"));
    let page = store.page(&name("yoda"), 0).unwrap();
    assert_eq!(page, [letter("hans", 5, "gr\u{fc}ezi\tdu"), returned, letter("yoda", 9, "me")]);
}

#[test]
fn groups_are_as_their_changes_left_them() {
    let (mut store, _) = Store::open(&Place::Memory, NOW).unwrap();
    let group = |word: &str| GroupName::parse(word).expect("legal");
    let record = |id, change| Record::Group { group: GroupId(id), change };
    let made = |word: &str, owner: &str, members: &[&str]| Change::Made {
        name: group(word),
        owner: name(owner),
        members: members.iter().map(|member| name(member)).collect(),
    };
    store
        .commit(&[
            record(1, made("friends", "hans", &["hans", "luke"])),
            record(2, made("gone", "hans", &["hans"])),
            record(1, Change::Added(vec![name("yoda"), name("luke")])),
            record(1, Change::Removed(vec![name("luke")])),
            record(1, Change::Renamed(group("rebels"))),
            record(1, Change::Owned(name("yoda"))),
            record(2, Change::Gone),
        ])
        .unwrap();
    let expected = vec![(GroupId(1), group("rebels"), name("yoda"), vec![name("hans"), name("yoda")])];
    assert_eq!(read_all(&store.connection).unwrap().1.groups, expected);
    // What has lost its ground changes nothing.
    store
        .commit(&[
            record(3, made("rebels", "luke", &["luke"])),
            record(3, Change::Added(vec![name("r2d2")])),
            record(1, Change::Owned(name("luke"))),
            record(1, Change::Removed(vec![name("yoda"), name("hans")])),
            record(4, made("other", "luke", &["luke"])),
            record(4, Change::Renamed(group("rebels"))),
            record(4, Change::Gone),
        ])
        .unwrap();
    assert_eq!(read_all(&store.connection).unwrap().1.groups, expected);
}

#[test]
fn a_receipt_waits_as_it_was_last_stored() {
    let (mut store, _) = Store::open(&Place::Memory, NOW).unwrap();
    let record = |by, receipt| Record::Receipt { to: name("hans"), by: name(by), receipt };
    let receipt = |texts| Receipt { texts, sent: NOW, seen: NOW + 1 };
    store
        .commit(&[
            record("luke", Some(receipt(1))),
            record("yoda", Some(receipt(2))),
            record("luke", Some(receipt(3))),
            record("yoda", None),
        ])
        .unwrap();
    let (_, remembered) = read_all(&store.connection).unwrap();
    assert_eq!(remembered.receipts, [(name("hans"), name("luke"), receipt(3))]);
}

#[test]
fn one_text_for_many_keeps_where_it_was_said() {
    let mut store = in_memory();
    let tag = Some(Tag { session: 7, line: 1 });
    let group = GroupName::parse("r~:").map(Scope::Group).expect("legal");
    for (number, scope, receipt) in [(1, Scope::General, true), (2, group, false)] {
        let letter = Letter { scope, receipt, ..letter("hans", number, "to all") };
        let record = Record::Message { to: vec![name("yoda"), name("luke")], letter: letter.clone(), tag };
        store.commit(&[record.clone(), record]).unwrap();
        for reader in ["yoda", "luke"] {
            assert_eq!(store.page(&name(reader), number - 1).unwrap(), std::slice::from_ref(&letter));
            store.commit(&[Record::Confirmed { user: name(reader), upto: number }]).unwrap();
        }
    }
}

#[test]
fn a_file_of_version_two_is_upgraded_with_all_it_holds() {
    let folder = Folder::new();
    let old = folder.raw();
    MIGRATIONS[..2].iter().for_each(|migration| old.execute_batch(migration).unwrap());
    old.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
    old.pragma_update(None, "user_version", 2).unwrap();
    // What that version wrote: the sum is a constant, for the formula must not change.
    old.execute_batch(
        "INSERT INTO users (id, name, last_seen) VALUES (1, 'hans', 5), (2, 'yoda', NULL);
         INSERT INTO blocks VALUES (2, 1);
         INSERT INTO messages VALUES (2, 3, 1, 1700000000007, 0, 'hi', 233801347, 7, 1);",
    )
    .unwrap();
    drop(old);

    let (mut store, remembered) = folder.open();
    assert_eq!(remembered.blocks, [(name("yoda"), name("hans"))]);
    assert_eq!(user(&remembered, "hans").last_seen, Some(5));
    assert_eq!(remembered.tags, [(name("hans"), Tag { session: 7, line: 1 }, name("yoda"))]);
    assert_eq!(store.page(&name("yoda"), 0).unwrap(), [letter("hans", 3, "hi")]);
    let tag = Some(Tag { session: 7, line: 1 });
    let again = Record::Message { to: vec![name("yoda"), name("luke")], letter: letter("hans", 4, "hi"), tag };
    store.commit(&[again]).unwrap();
    assert_eq!(numbers(&store.page(&name("yoda"), 0).unwrap()), [3], "the tag is known");
    assert_eq!(numbers(&store.page(&name("luke"), 0).unwrap()), [4]);
    assert_eq!(count(&folder.raw(), "PRAGMA user_version"), VERSION);
}

#[test]
fn a_damaged_file_of_an_older_version_is_left_to_the_server_that_wrote_it() {
    let folder = Folder::new();
    let old = folder.raw();
    MIGRATIONS[..3].iter().for_each(|migration| old.execute_batch(migration).unwrap());
    old.pragma_update(None, "user_version", 3).unwrap();
    drop(old);
    let before = fs::read(folder.path()).unwrap();
    let error = salvage::salvage(&folder.path(), NOW).expect_err("must be refused").to_string();
    assert!(error.contains("version 3"), "{error}");
    assert_eq!(fs::read(folder.path()).unwrap(), before);
    assert_eq!(fs::read_dir(folder.0.path()).unwrap().count(), 2, "the file and its lock");
}

#[test]
fn pages_are_in_order_bounded_and_complete() {
    let mut store = in_memory();
    let mixed: Vec<u64> = (0..200).map(|index| 1 + (index * 37) % 200).collect();
    let records: Vec<Record> = mixed.iter().map(|&number| message("yoda", "hans", number, "hi")).collect();
    store.commit(&records).unwrap();
    store.commit(&[message("luke", "hans", 201, "not for yoda")]).unwrap();

    let mut seen = Vec::new();
    loop {
        let page = store.page(&name("yoda"), seen.last().copied().unwrap_or(0)).unwrap();
        assert!(page.len() <= PAGE_MESSAGES_MAX);
        if page.is_empty() {
            break;
        }
        seen.extend(numbers(&page));
    }
    assert_eq!(seen, (1..=200).collect::<Vec<u64>>());
    assert_eq!(store.page(&name("stranger"), 0).unwrap(), []);
    assert_eq!(store.page(&name("yoda"), u64::MAX).unwrap(), []);
}

#[test]
fn a_page_of_long_texts_is_short_but_never_empty() {
    let mut store = in_memory();
    let sizes = [PAGE_BYTES_MAX / 2, PAGE_BYTES_MAX / 2, 1, PAGE_BYTES_MAX + 1, 1];
    for (number, size) in (1..).zip(sizes) {
        store.commit(&[message("yoda", "hans", number, &"x".repeat(size))]).unwrap();
    }
    let mut page = |after| numbers(&store.page(&name("yoda"), after).unwrap());
    assert_eq!([page(0), page(2), page(3), page(4)], [vec![1, 2], vec![3], vec![4], vec![5]]);
}

#[test]
fn a_large_batch_lies_in_the_file_in_its_order() {
    let folder = Folder::new();
    let (mut store, _) = folder.open();
    let readers = ["yoda", "luke", "leia"];
    let batch = (1..=100).map(|number| match message(readers[number as usize % 3], "hans", number, "hi") {
        Record::Message { to, letter, .. } if number % 20 == 0 => {
            Record::Message { to, letter, tag: Some(Tag { session: 7, line: number }) }
        }
        untagged => untagged,
    });
    store.commit(&batch.collect::<Vec<_>>()).unwrap();
    let raw = folder.raw();
    let mut statement = raw.prepare("SELECT number FROM messages ORDER BY id").unwrap();
    let rows: Vec<i64> = statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    assert_eq!(rows, (1..=100).collect::<Vec<_>>());
    assert_eq!(numbers(&store.page(&name("yoda"), 90).unwrap()), [93, 96, 99]);
}

#[test]
fn confirmed_deletes_exactly_what_was_read() {
    let mut store = in_memory();
    let batch: Vec<Record> = (1..=5).map(|number| message("yoda", "hans", number, "hi")).collect();
    store.commit(&batch).unwrap();
    store.commit(&[message("luke", "hans", 6, "hi"), message("luke", "hans", 2, "hi")]).unwrap();
    store
        .commit(&[
            Record::Confirmed { user: name("yoda"), upto: 3 },
            Record::Confirmed { user: name("stranger"), upto: 9 },
        ])
        .unwrap();
    assert_eq!(numbers(&store.page(&name("yoda"), 0).unwrap()), [4, 5]);
    assert_eq!(numbers(&store.page(&name("luke"), 0).unwrap()), [2, 6]);
    store.commit(&[Record::Confirmed { user: name("luke"), upto: u64::MAX }]).unwrap();
    assert_eq!(store.page(&name("luke"), 0).unwrap(), []);
}

/// What a store is asked to do.
#[derive(Debug, Clone)]
enum Act {
    /// A batch of records, and whether it is to fail.
    Commit(Vec<Record>, bool),
    /// Time to delete what was read.
    Sweep,
    /// Nothing in memory can be trusted.
    Forget,
    Restart,
}

const READERS: [&str; 3] = ["yoda", "luke", "hans"];

fn any_record() -> impl Strategy<Value = Record> {
    let reader = || (0..READERS.len()).prop_map(|at| name(READERS[at]));
    let letter = (1..12u64, any::<bool>()).prop_map(|(number, again)| {
        let road = if again { Road::Again } else { Road::Mail };
        Letter { road, ..letter("vader", number, &format!("{number} {again}")) }
    });
    prop_oneof![
        3 => (subsequence(READERS.to_vec(), 1..=3), letter, option::of(0..4u64)).prop_map(|(to, letter, line)| {
            let tag = line.map(|line| Tag { session: 1, line });
            Record::Message { to: to.into_iter().map(name).collect(), letter, tag }
        }),
        1 => (reader(), 0..14u64).prop_map(|(user, upto)| Record::Confirmed { user, upto }),
    ]
}

fn any_act() -> impl Strategy<Value = Act> {
    // Some batches have more rows than are written at once.
    let size = prop_oneof![4 => 1..6usize, 1 => 20..40usize];
    let records = size.prop_flat_map(|size| collection::vec(any_record(), size));
    prop_oneof![
        8 => (records, prop::bool::weighted(0.1)).prop_map(|(records, fails)| Act::Commit(records, fails)),
        1 => Just(Act::Sweep),
        1 => Just(Act::Forget),
        1 => Just(Act::Restart),
    ]
}

/// Mailboxes as they should be: what waits for whom, with its tag.
type Waiting = BTreeMap<(UserName, u64), (Letter, Option<Tag>)>;

fn carry_out(waiting: &mut Waiting, record: &Record) {
    match record {
        Record::Message { to, letter, tag } => {
            for to in to {
                let key = (to.clone(), letter.number);
                if let Some((old, _)) = waiting.get_mut(&key) {
                    if letter.road == Road::Again {
                        *old = letter.clone();
                    }
                } else if tag.is_none() || !waiting.iter().any(|((user, _), (_, known))| user == to && known == tag) {
                    waiting.insert(key, (letter.clone(), *tag));
                }
            }
        }
        Record::Confirmed { user, upto } => waiting.retain(|(reader, number), _| reader != user || number > upto),
        _ => unreachable!("no such record is made"),
    }
}

fn check_pages(store: &mut Store, waiting: &Waiting) {
    for reader in READERS.map(name) {
        for after in [0, 5] {
            let expected: Vec<&Letter> = waiting
                .iter()
                .filter(|((user, number), _)| *user == reader && *number > after)
                .map(|(_, (letter, _))| letter)
                .collect();
            let page = store.page(&reader, after).unwrap();
            assert_eq!(page.iter().collect::<Vec<_>>(), expected, "{reader} above {after}");
        }
    }
}

/// Without syncs: there are many of them, and no power cut.
fn open_quickly(folder: &Folder) -> (Store, Remembered) {
    let (store, remembered) = folder.open();
    store.connection.execute_batch("PRAGMA synchronous = OFF").unwrap();
    (store, remembered)
}

proptest! {
    // Each case opens files, and a fault is found in a few.
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn a_mailbox_holds_what_was_stored_and_not_confirmed(acts in collection::vec(any_act(), 1..30)) {
        let folder = Folder::new();
        let (mut store, _) = open_quickly(&folder);
        let mut waiting = Waiting::new();
        for act in acts {
            match act {
                Act::Commit(mut records, true) => {
                    records.push(message("yoda", "vader", u64::MAX, "does not fit"));
                    store.commit(&records).unwrap_err();
                }
                Act::Commit(records, false) => {
                    store.commit(&records).unwrap();
                    records.iter().for_each(|record| carry_out(&mut waiting, record));
                }
                Act::Sweep => store.sweep().unwrap(),
                Act::Forget => store.mailboxes = None,
                Act::Restart => {
                    drop(store);
                    let remembered;
                    (store, remembered) = open_quickly(&folder);
                    for reader in &remembered.users {
                        let mut mine = waiting.iter().filter(|((user, _), _)| *user == reader.name);
                        prop_assert_eq!(reader.waiting as usize, mine.clone().count());
                        prop_assert_eq!(reader.last, mine.next_back().map_or(0, |((_, number), _)| *number));
                    }
                    let tags = waiting.values().filter(|(_, tag)| tag.is_some()).count();
                    prop_assert_eq!(remembered.tags.len(), tags);
                    prop_assert_eq!(count(&store.connection, "SELECT count(*) FROM messages") as usize, waiting.len());
                }
            }
            check_pages(&mut store, &waiting);
        }
        prop_assert_eq!(count(&store.connection, "SELECT count(*) FROM waiting") as usize, waiting.len());
        store.sweep().unwrap();
        prop_assert_eq!(count(&store.connection, "SELECT count(*) FROM messages") as usize, waiting.len());
    }
}

#[test]
fn the_same_number_twice_is_one_message() {
    let mut store = in_memory();
    store.commit(&[message("yoda", "hans", 1, "first")]).unwrap();
    store.commit(&[message("yoda", "hans", 1, "second"), message("yoda", "hans", 2, "third")]).unwrap();
    let page = store.page(&name("yoda"), 0).unwrap();
    assert_eq!(page, [letter("hans", 1, "first"), letter("hans", 2, "third")]);
}

#[test]
fn whoever_was_online_at_a_crash_left_at_the_last_heartbeat() {
    let folder = Folder::new();
    let (mut store, _) = folder.open();
    let at = |wall| NOW + wall;
    store
        .commit(&[
            Record::CameOnline { user: name("early"), wall: at(1) },
            Record::CameOnline { user: name("gone"), wall: at(2) },
            Record::WentOffline { user: name("gone"), wall: at(3) },
            Record::Heartbeat { wall: at(10_000) },
            Record::CameOnline { user: name("late"), wall: at(12_000) },
        ])
        .unwrap();
    drop(store);
    for _ in 0..2 {
        let place = folder.place();
        let (_store, remembered) = Store::open(&place, at(50_000)).unwrap();
        let seen = ["early", "gone", "late"].map(|word| user(&remembered, word).last_seen);
        assert_eq!(seen, [Some(at(10_000)), Some(at(3)), Some(at(12_000))]);
    }
}

#[test]
fn a_store_has_one_server_at_a_time() {
    let folder = Folder::new();
    let (store, _) = folder.open();
    assert!(matches!(folder.refusal(), OpenError::InUse { .. }));
    let link = folder.0.path().join("other.db");
    std::os::unix::fs::symlink(folder.path(), &link).unwrap();
    assert!(matches!(Store::open(&Place::File(link), NOW), Err(OpenError::InUse { .. })), "not by a link either");
    drop(store);
    folder.open();
}

#[test]
fn numbers_rise_from_start_to_start() {
    let folder = Folder::new();
    let starts = [(); 3].map(|()| folder.open().1.first_number);
    assert_eq!(starts, [1 << 40, 2 << 40, 3 << 40]);

    // A counter that was set back does not bring back numbers that are in use.
    let (mut store, _) = folder.open();
    store.commit(&[message("yoda", "hans", (9 << 40) + 5, "hi")]).unwrap();
    drop(store);
    folder.raw().execute("UPDATE meta SET value = 1 WHERE key = 'starts'", []).unwrap();
    assert_eq!(folder.open().1.first_number, 10 << 40);

    folder.raw().execute("UPDATE meta SET value = ?1 WHERE key = 'starts'", [STARTS_END - 2]).unwrap();
    assert_eq!(folder.open().1.first_number, ((1 << 23) - 1) << 40);
    assert!(matches!(folder.refusal(), OpenError::Damaged { .. }), "the last number was used");
}

#[test]
fn a_damaged_message_is_kept_but_never_delivered() {
    let changes = [
        "UPDATE messages SET text = 'evil' WHERE number = 2",
        "UPDATE messages SET text = CAST(x'ff' AS TEXT) WHERE number = 2",
        "UPDATE messages SET text = x'6869' WHERE number = 2",
        "UPDATE messages SET sender = (SELECT id FROM users WHERE name = 'luke') WHERE number = 2",
        "UPDATE messages SET sender = 99 WHERE number = 2",
        "UPDATE messages SET sent = sent + 1 WHERE number = 2",
        "UPDATE messages SET sent = 'noon' WHERE number = 2",
        "UPDATE messages SET again = 1 WHERE number = 2",
        "UPDATE messages SET crc = -1 WHERE number = 2",
        "UPDATE messages SET scope = 'general' WHERE number = 2",
        "UPDATE messages SET scope = x'00' WHERE number = 2",
        "UPDATE messages SET receipt = 1 WHERE number = 2",
        "UPDATE messages SET number = 2.5 WHERE number = 2",
        "UPDATE messages SET number = 'two' WHERE number = 2",
        "UPDATE messages SET number = 9, text = 'late' WHERE number = 2",
        "UPDATE messages SET number = -2 WHERE number = 2",
    ];
    for change in changes {
        let folder = Folder::new();
        let (mut store, _) = folder.open();
        let batch: Vec<Record> = (1..=3).map(|number| message("yoda", "hans", number, "hi")).collect();
        store.commit(&batch).unwrap();
        store.commit(&[message("luke", "hans", 4, "hi")]).unwrap();
        drop(store);
        let raw = folder.raw();
        raw.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
        assert_eq!(raw.execute(change, []).unwrap(), 1, "{change}");
        let (mut store, _) = folder.open();

        assert_eq!(numbers(&store.page(&name("yoda"), 0).unwrap()), [1, 3], "{change}");
        assert_eq!(numbers(&store.page(&name("luke"), 0).unwrap()), [4], "{change}");
        store.commit(&[Record::Confirmed { user: name("yoda"), upto: u64::MAX }]).unwrap();
        assert_eq!(count(&raw, "SELECT count(*) FROM waiting"), 1, "{change}");
        assert_eq!(count(&raw, "SELECT count(*) FROM damaged"), 1, "{change}");
        assert_eq!(count(&raw, "SELECT found FROM damaged"), NOW);
        drop(store);
        let (_store, remembered) = folder.open();
        assert_eq!(user(&remembered, "yoda").waiting, 0, "{change}");
    }
}

#[test]
fn how_far_somebody_has_read_is_doubted_where_it_cannot_be() {
    for confirmed in ["''", "1.5", "x'00'", "1 << 50"] {
        let folder = Folder::new();
        let (mut store, _) = folder.open();
        store.commit(&[message("yoda", "hans", 1, "hi"), message("luke", "hans", 2, "hi")]).unwrap();
        store.commit(&[Record::Confirmed { user: name("luke"), upto: 2 }]).unwrap();
        drop(store);
        folder.raw().execute_batch(&format!("UPDATE users SET confirmed = {confirmed} WHERE name = 'yoda'")).unwrap();
        let (mut store, remembered) = folder.open();
        assert_eq!(numbers(&store.page(&name("yoda"), 0).unwrap()), [1], "{confirmed}");
        assert_eq!((user(&remembered, "yoda").waiting, user(&remembered, "luke").waiting), (1, 0));
        assert_eq!(count(&folder.raw(), "SELECT count(*) FROM damaged"), 0);
    }
}

#[test]
fn a_row_that_somebody_else_has_taken_fails_a_batch_and_not_the_next() {
    let folder = Folder::new();
    let (mut store, _) = folder.open();
    store.commit(&[message("yoda", "hans", 1, "hi")]).unwrap();
    let copy = "INSERT INTO messages SELECT id + 1, receiver, 7, sender, sent, again, text, crc, NULL, NULL, NULL, 0
                FROM messages";
    folder.raw().execute_batch(copy).unwrap();
    store.commit(&[message("yoda", "hans", 2, "stored, or refused")]).unwrap_err();
    store.commit(&[message("yoda", "hans", 3, "hi")]).unwrap();
    assert_eq!(numbers(&store.page(&name("yoda"), 0).unwrap()), [1, 3], "the copy has another number");
}

#[test]
fn what_is_no_number_does_not_hide_the_rest() {
    let folder = Folder::new();
    let (mut store, _) = folder.open();
    store.commit(&[message("yoda", "hans", 1, "hi"), message("yoda", "hans", 2, "hi")]).unwrap();
    drop(store);
    folder.raw().execute_batch("UPDATE messages SET number = 'two' WHERE number = 2").unwrap();
    assert_eq!(user(&folder.open().1, "yoda").last, 1);
}

#[test]
fn a_page_goes_on_past_damage() {
    let folder = Folder::new();
    let (mut store, _) = folder.open();
    let batch: Vec<Record> = (1..=100).map(|number| message("yoda", "hans", number, "hi")).collect();
    store.commit(&batch).unwrap();
    drop(store);
    folder.raw().execute("UPDATE messages SET crc = crc + 1 WHERE number <= 90", []).unwrap();
    let (mut store, _) = folder.open();
    assert_eq!(numbers(&store.page(&name("yoda"), 0).unwrap()), (91..=100).collect::<Vec<u64>>());
}

#[test]
fn a_page_fails_rather_than_lose_sight_of_damage() {
    let folder = Folder::new();
    let (mut store, _) = folder.open();
    store.commit(&[message("yoda", "hans", 1, "hi"), message("yoda", "hans", 2, "hi")]).unwrap();
    drop(store);
    let raw = folder.raw();
    raw.execute("UPDATE messages SET crc = 0 WHERE number = 1", []).unwrap();
    let (mut store, _) = folder.open();
    store.connection.busy_timeout(Duration::ZERO).unwrap();
    raw.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert!(store.page(&name("yoda"), 0).is_err());
    raw.execute_batch("ROLLBACK").unwrap();
    assert_eq!(numbers(&store.page(&name("yoda"), 0).unwrap()), [2]);
    assert_eq!(count(&raw, "SELECT number FROM damaged"), 1);
}

#[test]
fn the_checksum_tells_words_apart() {
    let of = |words| checksum(words, [1, 2, 0], None, false);
    assert_ne!(of(["ab", "c", "d"]), of(["a", "bc", "d"]));
    assert_ne!(of(["a", "b", "cd"]), of(["a", "bc", "d"]));
    let sums = [
        ([1, 2, 0], None, false),
        ([2, 1, 0], None, false),
        ([1, 2, 0], Some("general"), false),
        ([1, 2, 0], None, true),
    ]
    .map(|(numbers, scope, receipt)| checksum(["a", "b", "c"], numbers, scope, receipt));
    assert_eq!(BTreeSet::from(sums).len(), sums.len());
}

#[test]
fn a_failed_batch_leaves_nothing_and_the_next_one_is_tried() {
    for folder in [Some(Folder::new()), None] {
        let place = folder.as_ref().map_or(Place::Memory, Folder::place);
        let (mut store, _) = Store::open(&place, NOW).unwrap();
        store.commit(&[message("yoda", "hans", 1, "before")]).unwrap();
        let pages = count(&store.connection, "PRAGMA page_count");
        count(&store.connection, &format!("PRAGMA max_page_count = {pages}"));

        let mut batch = vec![
            Record::Confirmed { user: name("yoda"), upto: 1 },
            Record::Block { by: name("fresh"), whom: name("yoda") },
        ];
        batch.extend((2..50).map(|number| message("fresh", "hans", number, &"x".repeat(4000))));
        for _ in 0..3 {
            let error = store.commit(&batch).expect_err("there is no room").to_string();
            assert!(error.contains("full") && error.contains("13"), "{error}");
            assert!(store.connection.is_autocommit());
        }
        assert_eq!(numbers(&store.page(&name("yoda"), 0).unwrap()), [1], "not even what came first");
        assert_eq!(store.page(&name("fresh"), 0).unwrap(), []);
        assert_eq!(count(&store.connection, "SELECT count(*) FROM blocks"), 0);
        assert_eq!(count(&store.connection, "SELECT count(*) FROM users"), 2);

        count(&store.connection, "PRAGMA max_page_count = 1000000");
        store.commit(&batch).unwrap();
        assert_eq!(store.page(&name("yoda"), 0).unwrap(), []);
        assert_eq!(store.page(&name("fresh"), 0).unwrap()[0].number, 2);
        if let Some(folder) = &folder {
            drop(store);
            let (_store, remembered) = folder.open();
            assert_eq!(user(&remembered, "fresh").waiting, 48);
        }
    }
}

#[test]
fn a_number_that_does_not_fit_fails_its_batch_only() {
    let mut store = in_memory();
    let error = store.commit(&[message("a", "b", 1, "hi"), message("a", "b", u64::MAX, "hi")]).unwrap_err();
    assert!(matches!(error, StoreError::NumberTooBig(u64::MAX)));
    store.commit(&[message("a", "b", 2, "hi")]).unwrap();
    assert_eq!(numbers(&store.page(&name("a"), 0).unwrap()), [2]);
}

#[test]
fn another_program_can_hold_the_file_only_for_a_while() {
    let folder = Folder::new();
    let (mut store, _) = folder.open();
    store.connection.busy_timeout(Duration::ZERO).unwrap();
    let raw = folder.raw();
    raw.execute_batch("BEGIN IMMEDIATE").unwrap();
    store.commit(&[message("yoda", "hans", 1, "hi")]).unwrap_err();
    raw.execute_batch("ROLLBACK").unwrap();
    store.commit(&[message("yoda", "hans", 2, "hi")]).unwrap();
    raw.execute_batch("BEGIN; SELECT * FROM users").unwrap();
    store.commit(&[message("yoda", "hans", 3, "hi")]).unwrap();
    assert_eq!(numbers(&store.page(&name("yoda"), 0).unwrap()), [2, 3]);
}

#[test]
fn everything_on_the_disk_is_private() {
    let folder = Folder::new();
    let (mut store, _) = folder.open();
    store.commit(&[message("yoda", "hans", 1, "secret")]).unwrap();
    for entry in ["chinwag.db", "chinwag.db-wal", "chinwag.db-shm", "chinwag.db.lock"] {
        let mode = fs::metadata(folder.0.path().join(entry)).expect(entry).permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{entry}");
    }
}

#[test]
fn every_commit_is_synced_and_references_are_checked() {
    let folder = Folder::new();
    let (store, _) = folder.open();
    assert_eq!(count(&store.connection, "PRAGMA synchronous"), 2);
    assert_eq!(count(&store.connection, "PRAGMA foreign_keys"), 1);
    assert_eq!(count(&folder.raw(), "PRAGMA user_version"), VERSION);
}

#[test]
fn a_file_that_is_not_ours_is_left_alone() {
    type Prepare<'a> = &'a dyn Fn(&Path);
    type Check = fn(&OpenError) -> bool;
    let newer: Check = |error| matches!(error, OpenError::Newer { version: 99, .. });
    let foreign: Check = |error| matches!(error, OpenError::Foreign { .. });
    let damaged: Check = |error| matches!(error, OpenError::Damaged { .. });
    let ours = |sql: &'static str| {
        move |path: &Path| {
            Store::open(&Place::File(path.to_owned()), NOW).unwrap();
            Connection::open(path).unwrap().execute_batch(sql).unwrap();
        }
    };
    let theirs = |path: &Path| {
        Connection::open(path).unwrap().execute_batch("CREATE TABLE cats (name); PRAGMA user_version = 1").unwrap();
    };
    let prose = |path: &Path| fs::write(path, "Dear diary, ".repeat(500)).unwrap();
    let cases: [(Prepare<'_>, Check); 5] = [
        (&ours("PRAGMA user_version = 99"), newer),
        (&ours("PRAGMA user_version = -1"), foreign),
        (&ours("PRAGMA application_id = 7"), foreign),
        (&theirs, foreign),
        (&prose, damaged),
    ];
    for (index, (prepare, expected)) in cases.into_iter().enumerate() {
        let folder = Folder::new();
        prepare(&folder.path());
        let before = fs::read(folder.path()).unwrap();
        let error = folder.refusal();
        assert!(expected(&error), "case {index}: {error:?}");
        assert_eq!(fs::read(folder.path()).unwrap(), before, "case {index}");
    }
}

#[test]
fn a_place_that_cannot_be_written_says_why() {
    let folder = Folder::new();
    fs::create_dir(folder.path()).unwrap();
    assert!(matches!(folder.refusal(), OpenError::NotWritable { .. }), "a directory");
    let path = folder.0.path().join("no/such/folder/chinwag.db");
    let error = Store::open(&Place::File(path), NOW).map(|_| ()).unwrap_err();
    assert!(matches!(error, OpenError::NotWritable { .. }), "{error}");
}

#[test]
fn where_no_log_is_possible_there_is_a_slower_way() {
    let folder = Folder::new();
    // Locks made of files: SQLite has no shared memory there, as on many network folders.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let mut connection = Connection::open_with_flags_and_vfs(folder.path(), flags, c"unix-dotfile").unwrap();
    assert_eq!(set_up(&connection).unwrap(), Journal::Truncate);
    begin_run(&mut connection, Path::new("x"), 0, NOW).unwrap();
    assert_eq!(count(&connection, "PRAGMA synchronous"), 2);
}

#[test]
fn memory_is_one_more_place() {
    let (mut store, remembered) = Store::open(&Place::Memory, NOW).unwrap();
    assert_eq!((store.journal(), remembered.first_number), (Journal::Memory, 1 << 40));
    store.commit(&[message("yoda", "hans", 1, "hi"), Record::Block { by: name("a"), whom: name("b") }]).unwrap();
    assert_eq!(store.page(&name("yoda"), 0).unwrap(), [letter("hans", 1, "hi")]);
    assert_ne!(store.id(), in_memory().id());
}

#[test]
fn users_that_cannot_be_are_ignored() {
    let folder = Folder::new();
    let (mut store, _) = folder.open();
    store.commit(&[message("yoda", "hans", 1, "hi"), Record::Block { by: name("a"), whom: name("b") }]).unwrap();
    drop(store);
    folder
        .raw()
        .execute_batch(
            "INSERT INTO users (name) VALUES ('two words'), (x'ff00'), ('');
             UPDATE users SET name = 'tab\there', last_seen = 'noon' WHERE name = 'a';
             UPDATE users SET last_seen = 'noon' WHERE name = 'yoda'",
        )
        .unwrap();
    let (_store, remembered) = folder.open();
    assert_eq!(remembered.users.len(), 3);
    assert_eq!((user(&remembered, "yoda").waiting, user(&remembered, "yoda").last_seen), (1, None));
    assert_eq!(remembered.blocks, []);
}

/// Runs the thread on one job after the other and gives its reports.
fn reports(store: Store, accounts: Option<Appender>, jobs: Vec<Job>) -> Vec<Report> {
    let (job_sender, job_receiver) = bounded(1);
    let (report_sender, report_receiver) = unbounded();
    let thread = std::thread::spawn(move || run(store, accounts, job_receiver, |it| report_sender.send(it).is_ok()));
    let report = |job| {
        job_sender.send(job).unwrap();
        report_receiver.recv().unwrap()
    };
    let reports = jobs.into_iter().map(report).collect();
    drop(job_sender);
    thread.join().unwrap();
    reports
}

#[test]
fn a_job_is_written_then_read_then_reported() {
    let jobs = vec![
        Job::default(),
        Job {
            records: vec![message("yoda", "hans", 1, "hi"), message("yoda", "hans", 2, "ho")],
            fetches: vec![(ConnId(1), name("yoda"), 0), (ConnId(2), name("yoda"), 1), (ConnId(3), name("luke"), 0)],
            enrolments: vec![(ConnId(3), name("luke"), "secret".to_owned())],
        },
    ];
    let reports = reports(in_memory(), None, jobs);
    assert_eq!(reports.len(), 2);
    assert_eq!((reports[0].records, reports[0].stored), (0, true));
    let report = &reports[1];
    assert_eq!((report.records, report.stored), (2, true));
    let expected = [
        (ConnId(1), Some(vec![letter("hans", 1, "hi"), letter("hans", 2, "ho")])),
        (ConnId(2), Some(vec![letter("hans", 2, "ho")])),
        (ConnId(3), Some(vec![])),
    ];
    assert_eq!(report.pages, expected);
    assert_eq!(report.enrolled, [(ConnId(3), true)]);
}

#[test]
fn jobs_that_wait_are_done_as_one() {
    let (job_sender, job_receiver) = unbounded();
    let (report_sender, report_receiver) = unbounded();
    for number in [1, 2] {
        let (records, fetches) =
            (vec![message("yoda", "hans", number, "hi")], vec![(ConnId(number), name("yoda"), number - 1)]);
        job_sender.send(Job { records, fetches, ..Job::default() }).unwrap();
    }
    drop(job_sender);
    run(in_memory(), None, job_receiver, move |report| report_sender.send(report).is_ok());
    let reports: Vec<Report> = report_receiver.iter().collect();
    assert_eq!(reports.len(), 1);
    assert_eq!((reports[0].jobs, reports[0].records, reports[0].stored), (2, 2, true));
    let both = vec![letter("hans", 1, "hi"), letter("hans", 2, "hi")];
    let last = vec![letter("hans", 2, "hi")];
    assert_eq!(reports[0].pages, [(ConnId(1), Some(both)), (ConnId(2), Some(last))]);
}

#[test]
fn what_was_read_leaves_the_file_when_there_is_time() {
    let folder = Folder::new();
    let (store, _) = folder.open();
    let (job_sender, job_receiver) = bounded(1);
    let thread = std::thread::spawn(move || run(store, None, job_receiver, |_| true));
    let records = vec![
        message("yoda", "hans", 1, "read"),
        message("luke", "hans", 2, "not read"),
        Record::Confirmed { user: name("yoda"), upto: 1 },
    ];
    job_sender.send(Job { records, ..Job::default() }).unwrap();
    let raw = folder.raw();
    let clock = Clock::start();
    while count(&raw, "SELECT count(*) FROM messages WHERE text = 'read'") > 0
        || count(&raw, "SELECT count(*) FROM messages") == 0
    {
        assert!(clock.now().elapsed < 10_000, "it is still there");
        std::thread::yield_now();
    }
    assert_eq!(count(&raw, "SELECT count(*) FROM waiting WHERE receiver = 'luke' AND sender = 'hans'"), 1);
    // At the end there is no time to wait for.
    let records = vec![Record::Confirmed { user: name("luke"), upto: 2 }];
    job_sender.send(Job { records, ..Job::default() }).unwrap();
    drop(job_sender);
    thread.join().unwrap();
    assert_eq!(count(&raw, "SELECT count(*) FROM messages"), 0);
}

#[test]
fn a_job_that_cannot_be_stored_says_so_and_the_next_one_is_done() {
    let store = in_memory();
    let pages = count(&store.connection, "PRAGMA page_count");
    count(&store.connection, &format!("PRAGMA max_page_count = {pages}"));
    let big = message("yoda", "hans", 1, &"x".repeat(100_000));
    let jobs = vec![
        Job { records: vec![big.clone(), big], fetches: vec![(ConnId(1), name("yoda"), 0)], ..Job::default() },
        Job {
            records: vec![message("yoda", "hans", 2, "small")],
            fetches: vec![(ConnId(1), name("yoda"), 0)],
            ..Job::default()
        },
    ];
    let reports = reports(store, None, jobs);
    assert_eq!((reports[0].records, reports[0].stored), (2, false));
    assert_eq!(reports[0].pages, [(ConnId(1), Some(vec![]))]);
    assert_eq!((reports[1].records, reports[1].stored), (1, true));
    assert_eq!(reports[1].pages, [(ConnId(1), Some(vec![letter("hans", 2, "small")]))]);
}

#[test]
fn accounts_are_in_the_file_before_the_report() {
    let folder = Folder::new();
    let path = folder.0.path().join("Credentials.txt");
    let enrolments = |password: &str| vec![(ConnId(1), name("hans"), password.to_owned())];
    let jobs = vec![
        Job { enrolments: enrolments("good"), ..Job::default() },
        Job { enrolments: enrolments("not good"), ..Job::default() },
    ];
    let reports = reports(in_memory(), Some(Appender::new(path.clone())), jobs);
    assert_eq!([&reports[0].enrolled, &reports[1].enrolled], [&[(ConnId(1), true)], &[(ConnId(1), false)]]);
    assert_eq!(fs::read_to_string(path).unwrap(), "hans good\n");
}

#[test]
fn the_thread_ends_when_nobody_listens() {
    let (job_sender, job_receiver) = bounded(1);
    job_sender.send(Job::default()).unwrap();
    run(in_memory(), None, job_receiver, |_| false);
    assert!(job_sender.send(Job::default()).is_err(), "the channel is closed from the other side");
}

#[test]
fn one_complaint_a_second_is_said() {
    let mut complaints = Complaints::default();
    let said: Vec<bool> = [0, 1, 999, 1000, 1001, 5000].map(|now| complaints.say(now, format_args!("test"))).to_vec();
    assert_eq!(said, [true, false, false, true, false, true]);
}
