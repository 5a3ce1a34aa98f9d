//! Everything the server can say, in both dialects: `tests/notices.txt`, for people to read.
//! `UPDATE=1` writes it anew. And every control line says all that its notice said.

use std::path::Path;

use chinwag::wire::chunks::{ChunkSet, Digest};
use chinwag::wire::command::COMMANDS;
use chinwag::wire::name::{FileName, GroupName, NameError, Text, UserName};
use chinwag::wire::text::Speller;
use chinwag::wire::{
    Ago, Letter, Membership, Mode, News, Notice, Pass, Purpose, Question, Readers, Refusal, Road, Scope, Tag, Ticket,
    WhyNot, control,
};

fn name(word: &str) -> UserName {
    UserName::parse(word).expect("legal")
}

fn group(word: &str) -> GroupName {
    GroupName::parse(word).expect("legal")
}

fn file(word: &str) -> FileName {
    FileName::parse(word).expect("legal")
}

/// 2 March 2026, 09:00 UTC.
const NINE: i64 = 1_772_442_000_000;

/// At least one of each kind; a test below makes sure of that.
fn notices() -> Vec<Notice> {
    let ago = Ago { wall: NINE, millis: 300_000 };
    let scoped = |from, road, scope| {
        let text = Text::harmless("two  words ");
        Notice::Said(Letter { number: 7, from: name(from), text, sent: NINE, road, scope, receipt: false })
    };
    let letter = |from, road| scoped(from, road, Scope::Plain);
    let in_group = |from, road| scoped(from, road, Scope::Group(group("friends")));
    let news = |news| Notice::Group { group: group("friends"), by: name("hans"), news };
    let readers = |names: &[&str], more, texts| {
        let names = names.iter().map(|user| name(user)).collect();
        Readers { names, more, texts }
    };
    let mut all = vec![
        Notice::Hello { store: Text::harmless("1f") },
        Notice::Done(Tag { session: 5, line: 2 }),
        Notice::Pong,
        Notice::AskName,
        Notice::AskPassword,
        Notice::NewUser(name("obiwan")),
        Notice::WrongPassword { tries: 2 },
        Notice::WrongPassword { tries: 1 },
        Notice::JustLocked { seconds: 60 },
        Notice::JustLocked { seconds: 0 },
        Notice::StillLocked { seconds: 42 },
        Notice::AlreadyOnline { user: name("hans"), idle: 7_000 },
        Notice::Welcome { user: name("hans"), pass: None },
        Notice::Welcome { user: name("hans"), pass: Some(Pass { session: 5, token: 0xabc }) },
        Notice::PromptEnd,
        Notice::Goodbye,
        Notice::TimedOut { seconds: 120 },
        Notice::FellSilent { seconds: 30 },
        Notice::TakenOver,
        Notice::LoginTimedOut,
        Notice::Stopping,
        Notice::Full,
        Notice::Crowded,
        Notice::TooSlow,
        Notice::TooManyNames,
        letter("hans", Road::Live),
        letter("hans", Road::Mail),
        letter("hans", Road::Again),
        letter("hans:", Road::Live),
        letter("[02/03/26", Road::Live),
        scoped("hans", Road::Live, Scope::General),
        scoped("hans", Road::Mail, Scope::General),
        scoped("hans", Road::Again, Scope::General),
        in_group("hans", Road::Live),
        in_group("hans", Road::Mail),
        in_group("hans:]", Road::Again),
        Notice::Waiting { count: 1 },
        Notice::Waiting { count: 2 },
        Notice::Stored { to: name("luke"), seen: Some(ago) },
        Notice::Stored { to: name("luke"), seen: None },
        Notice::SomeSkipped,
        Notice::SomeFull,
        Notice::StoredInGroup {
            group: group("friends"),
            here: vec![name("luke"), name("yoda")],
            away: vec![(name("r2d2"), Some(ago)), (name("vader"), None)],
        },
        Notice::StoredInGroup { group: group("friends"), here: Vec::new(), away: vec![(name("vader"), None)] },
        Notice::Sent,
        Notice::Delivered(readers(&["luke"], 0, 1)),
        Notice::Seen(readers(&["luke"], 0, 1)),
        Notice::Seen(readers(&["luke", "yoda"], 0, 3)),
        Notice::Seen(readers(&["luke", "yoda"], 7, 1)),
        Notice::SeenMeanwhile { by: name("luke"), texts: 1, sent: NINE, seen: NINE + 5_000 },
        Notice::SeenMeanwhile { by: name("luke"), texts: 3, sent: NINE, seen: NINE + 5_000 },
        Notice::ReceiptsDropped { max: 1000 },
        Notice::Arrived(name("yoda")),
        Notice::Arrived(name("hans:")),
        Notice::Left(name("yoda")),
        Notice::Names(vec![name("luke"), name("yoda")]),
        Notice::Nobody,
        Notice::Blocked(name("vader")),
        Notice::Unblocked(name("vader")),
        Notice::Online { user: name("luke"), since: ago, idle: 130_000 },
        Notice::Offline { user: name("luke"), seen: ago },
        Notice::NeverOnline(name("luke")),
        Notice::Receipts { on: true },
        Notice::Receipts { on: false },
        Notice::Groups(vec![
            Membership { group: group("friends"), owned: true, members: 3 },
            Membership { group: group("hans:"), owned: false, members: 1 },
        ]),
        Notice::NoGroups,
        Notice::Members { owner: name("hans"), members: vec![name("hans"), name("luke")] },
        news(News::Created(vec![name("luke"), name("yoda")])),
        news(News::Created(Vec::new())),
        news(News::Added(vec![name("luke")])),
        news(News::Removed(vec![name("luke"), name("yoda")])),
        news(News::Renamed(group("rebels"))),
        news(News::Owned(name("luke"))),
        news(News::Left),
        news(News::Deleted),
        Notice::Mode(Mode::Command),
        Notice::Mode(Mode::General),
        Notice::Mode(Mode::Direct),
        Notice::Mode(Mode::Group),
        Notice::Asked(Question::Create),
        Notice::Asked(Question::Name),
        Notice::Asked(Question::Members),
        Notice::HelpAll,
        Notice::Help(&COMMANDS[4]),
    ];
    all.extend(between_clients());
    all.extend(refusals().into_iter().map(Notice::Refused));
    all
}

fn between_clients() -> Vec<Notice> {
    let ticket = Ticket { number: 7, secret: 0xabc };
    let at = |address: &str| address.parse().expect("an address");
    let (user, purpose) = (name("luke"), Purpose::Private);
    let no_peer = |purpose, why| Notice::NoPeer { user: name("luke"), purpose, why };
    let some: ChunkSet = [0, 1, 2, 5].into_iter().collect();
    let digest = Digest([0xab; 32]);
    vec![
        Notice::Peer { user: user.clone(), at: at("127.0.0.1:40000"), ticket, purpose },
        Notice::Peer { user: user.clone(), at: at("[::1]:40000"), ticket, purpose: Purpose::File },
        Notice::Expect { user: user.clone(), ticket, purpose },
        no_peer(Purpose::Private, WhyNot::Offline),
        no_peer(Purpose::File, WhyNot::Blocked),
        no_peer(Purpose::File, WhyNot::NoPort),
        no_peer(Purpose::Private, WhyNot::NotAllowed),
        no_peer(Purpose::File, WhyNot::NoFile),
        Notice::Address { user: user.clone(), at: at("192.0.2.7:40000"), ticket },
        Notice::AsksAddress(name("hans")),
        Notice::AsksPrivate(name("hans")),
        Notice::RequestSent(user.clone()),
        Notice::Allowed(name("hans")),
        Notice::Declined(user.clone()),
        Notice::Denied(name("hans")),
        Notice::Registered { file: file("a.bin"), chunks: 10 },
        Notice::Registered { file: file("a.bin"), chunks: 1 },
        Notice::Available { file: file("a.bin"), bytes: 2500, chunks: 10 },
        Notice::Available { file: file("hans:"), bytes: 1, chunks: 1 },
        Notice::Has { file: file("a.bin"), user: user.clone(), chunks: some.clone() },
        Notice::Has { file: file("a.bin"), user: name("[x"), chunks: ChunkSet::first(10) },
        Notice::NotAvailable { file: file("a.bin"), of_chunks: false },
        Notice::NotAvailable { file: file("a.bin"), of_chunks: true },
        Notice::Manifest { file: file("a.bin"), chunks: 10, bytes: 2500, digest },
        Notice::ChunkHashes { file: file("a.bin"), first: 8, hashes: vec![digest, Digest([1; 32])] },
        Notice::Holder { file: file("a.bin"), user, chunks: some },
        Notice::ManifestEnd(file("a.bin")),
        Notice::HoldersEnd(file("a.bin")),
    ]
}

fn refusals() -> Vec<Refusal> {
    vec![
        Refusal::Usage(&COMMANDS[0]),
        Refusal::InvalidCommand(Text::harmless("hello")),
        Refusal::NeedsClient("private"),
        Refusal::InvalidUser(Text::harmless("obiwan")),
        Refusal::UnknownUser,
        Refusal::BadName(NameError::Empty),
        Refusal::BadName(NameError::TooLong),
        Refusal::BadName(NameError::BadCharacter),
        Refusal::BadPassword,
        Refusal::BadToken,
        Refusal::NameTaken,
        Refusal::NoAccount,
        Refusal::Yourself("block"),
        Refusal::Blocked(name("luke")),
        Refusal::AlreadyBlocked(name("luke")),
        Refusal::NotBlocked(name("luke")),
        Refusal::MailboxFull(name("luke")),
        Refusal::NoSuchGroup(Text::harmless("friends")),
        Refusal::GroupExists(group("friends")),
        Refusal::BadGroupName,
        Refusal::NotOwner(group("friends")),
        Refusal::NotMember(group("friends")),
        Refusal::NotInGroup { group: group("friends"), user: name("luke") },
        Refusal::AlreadyMember { group: group("friends"), user: name("luke") },
        Refusal::AlreadyOwner(group("friends")),
        Refusal::NotAdded(name("luke")),
        Refusal::OwnerStays(group("friends")),
        Refusal::GroupsFull { max: 10_000 },
        Refusal::OwnsTooMany { max: 100 },
        Refusal::HeOwnsTooMany { user: name("luke"), max: 100 },
        Refusal::GroupFull { group: group("friends"), max: 256 },
        Refusal::NamesFull { max: 64 },
        Refusal::NoGroupYet,
        Refusal::DirectForm,
        Refusal::GroupForm,
        Refusal::NoMode,
        Refusal::Offline(name("luke")),
        Refusal::NoPrivate(name("luke")),
        Refusal::CannotBeFound(Text::harmless("luke")),
        Refusal::RequestsFull { user: name("luke"), max: 64 },
        Refusal::NoRequest(Text::harmless("hans")),
        Refusal::RequesterGone(name("hans")),
        Refusal::BadFileName,
        Refusal::AlreadyRegistered { file: file("a.bin"), same: true },
        Refusal::AlreadyRegistered { file: file("a.bin"), same: false },
        Refusal::NotRegistered(file("a.bin")),
        Refusal::NoChunk { file: file("a.bin"), word: Text::harmless("10") },
        Refusal::BadManifest(file("a.bin")),
        Refusal::TooManyChunks { max: 65_536 },
        Refusal::FilesFull { max: 1000 },
        Refusal::ChunksFull { max: 1_048_576 },
        Refusal::OwnsTooManyFiles { max: 100 },
        Refusal::OwnsTooManyChunks { max: 262_144 },
        Refusal::Busy,
        Refusal::DiskFailed,
        Refusal::TextTooLong { max: 60_000 },
        Refusal::LineTooLong { max: 8192 },
        Refusal::NotUtf8,
    ]
}

#[test]
fn the_list_of_all_notices_is_true() {
    let speller = Speller::new(jiff::tz::TimeZone::UTC);
    let mut list = String::from("Everything the server says: to a person, and below it to our client.\n");
    for notice in notices() {
        let (mut words, mut line) = (Vec::new(), Vec::new());
        speller.spell(&notice, &mut words);
        control::encode(&notice, &mut line);
        for (mark, bytes) in [("", words), ("    ", line)] {
            let text = String::from_utf8(bytes).expect("UTF-8");
            text.lines().for_each(|line| list += &format!("{mark}{line}\n"));
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/notices.txt");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &list).expect("the list can be written");
    }
    assert_eq!(list, std::fs::read_to_string(&path).expect("the list is there"));
}

#[test]
fn every_control_line_says_all_that_its_notice_said() {
    for notice in notices() {
        let mut line = Vec::new();
        control::encode(&notice, &mut line);
        if notice == Notice::PromptEnd {
            assert_eq!(line, b"", "there are no prompts to end");
            continue;
        }
        let line = String::from_utf8(line).expect("UTF-8");
        let line = line.strip_suffix('\n').expect("one whole line");
        assert!(!line.contains('\n'), "{line:?}");
        assert_eq!(control::decode(line), Ok(notice), "{line:?}");
    }
}

#[test]
fn no_kind_of_notice_is_missing() {
    // Derived from the source, so that a new kind cannot be forgotten here.
    let source = include_str!("../../src/wire/mod.rs");
    let listed = format!("{:?}", notices());
    for kind in ["pub enum Notice {", "pub enum Refusal {", "pub enum News {"] {
        let body = source.split(kind).nth(1).and_then(|rest| rest.split("\n}").next()).expect("the enum is there");
        let variants = body.lines().filter_map(|line| {
            let line = line.strip_prefix("    ")?;
            let end = line.find(|c: char| !c.is_alphanumeric()).unwrap_or(line.len());
            (line.starts_with(char::is_uppercase)).then(|| &line[..end])
        });
        for variant in variants {
            assert!(listed.contains(variant), "{variant} is not in the list");
        }
    }
}

#[test]
fn every_second_is_written_as_itself() {
    let speller = Speller::new(jiff::tz::TimeZone::UTC);
    for (millis, expected) in [
        (1_000, "01/01/70 00:00:01"),
        (1_999, "01/01/70 00:00:01"),
        (2_000, "01/01/70 00:00:02"),
        (1_999, "01/01/70 00:00:01"),
        (0, "01/01/70 00:00:00"),
        (-1, "31/12/69 23:59:59"),
        (i64::MIN, "01/01/70 00:00:00"),
    ] {
        let mut line = Vec::new();
        speller.spell(&Notice::SeenMeanwhile { by: name("yoda"), texts: 1, sent: millis, seen: millis }, &mut line);
        let expected = format!("[seen by yoda {expected}: 1 message, the last of {expected}]\n");
        assert_eq!(String::from_utf8_lossy(&line), expected);
    }
}
