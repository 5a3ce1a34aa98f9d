//! Damaged input for every parser: none panics, none hoards memory, and what is accepted means
//! what it says. Ten million inputs each, made from good ones; a failure is told with its seed.

mod framed;
mod mutate;

use std::borrow::Cow;
use std::path::Path;

use allocation_counter::measure;
use chinwag::server::credentials;
use chinwag::server::store::{checksum, read_letter};
use chinwag::wire::chunks::{CHUNKS_MAX, ChunkSet, Digest, HASHES_PER_LINE_MAX};
use chinwag::wire::command::{self, COMMANDS, ParseError};
use chinwag::wire::control::{self, Say};
use chinwag::wire::datagram::{Answer, Ask, DATAGRAM_BYTES_MAX, Talk, group_name, group_place, room_name, user_name};
use chinwag::wire::line::{LINE_BYTES_MAX, Line, LineCutter, text};
use chinwag::wire::name::{FileName, GroupName, NAME_BYTES_MAX, NameError, PASSWORD_BYTES_MAX, Text, UserName};
use chinwag::wire::peer::{
    BadFrame, FRAME_BYTES_MAX, Frame, FrameReader, Hello, NoChunk, TEXT_BYTES_MAX, UNPROVEN_BYTES_MAX,
};
use chinwag::wire::text::Speller;
use chinwag::wire::{Ago, Letter, Notice, Pass, Purpose, Refusal, Request, Road, Scope, Tag, Ticket, WhyNot};
use jiff::tz::TimeZone;
use rusqlite::types::ValueRef;

use mutate::{Dice, MEMORY_BYTES_MAX, frugally, mutate, torture, torture_any};

/// Inputs for each parser.
const INPUTS: u64 = 10_000_000;

/// Inputs for what costs several passes.
const FEWER_INPUTS: u64 = 1_000_000;

fn corpus(inputs: &[&str]) -> Vec<Vec<u8>> {
    inputs.iter().map(|input| input.as_bytes().to_vec()).collect()
}

fn typed() -> Vec<Vec<u8>> {
    let mut lines = corpus(&[
        "message yoda  two  spaces ",
        "/message luke are you there?",
        "broadcast gr\u{fc}ezi \u{1f600}",
        "whoelsesince 300",
        "whoelsesince 18446744073709551615",
        "online",
        "leave",
        "block vader",
        "help block",
        "private luke hi",
        "message hans: [02/03/26 09:00:00] yoda: hi\r",
        "\u{202e}evil\u{2066} \u{200b}",
    ]);
    lines.extend(COMMANDS.iter().map(|command| command.example.into()));
    lines
}

// Lines.

/// What a cutter says of `portions`: whole lines, `None` for an overlong one, and the last line.
fn cut<'a>(portions: impl IntoIterator<Item = &'a [u8]>) -> Vec<Option<Vec<u8>>> {
    let mut cutter = LineCutter::default();
    let mut lines = Vec::new();
    for mut portion in portions {
        while let Some(line) = cutter.next(&mut portion) {
            lines.push(match line {
                Line::Whole(line) => Some(line.to_vec()),
                Line::Overlong => None,
            });
        }
    }
    lines.extend(cutter.finish().map(Some));
    lines
}

/// The same, said in another way: at every LF, and not before.
fn cut_plainly(input: &[u8]) -> Vec<Option<Vec<u8>>> {
    let mut lines: Vec<&[u8]> = input.split(|&byte| byte == b'\n').collect();
    // Behind the last LF is a line only if something is there.
    lines.pop_if(|last| last.is_empty());
    lines.into_iter().map(|line| (line.len() <= LINE_BYTES_MAX).then(|| line.to_vec())).collect()
}

fn streams() -> Vec<Vec<u8>> {
    let mut streams = corpus(&["hans\nfalcon\nwhoelse\n", "hans falcon\r\nmessage yoda hi\r\n\r\n", "\n\nlogout"]);
    streams.push(b"\xff\xfb\x1f\xff\xfa\x1f\x00\x50\xff\xf0who\xff\xf1else\n".to_vec());
    streams.extend(typed());
    streams
}

#[test]
fn lines_of_any_bytes() {
    torture(INPUTS, &streams(), |input| {
        let mut cutter = LineCutter::default();
        let mut rest = input;
        let mut bytes = 0;
        while let Some(line) = cutter.next(&mut rest) {
            let Line::Whole(line) = line else { continue };
            assert!(line.len() <= LINE_BYTES_MAX && !line.contains(&b'\n'));
            bytes += line.len() + 1;
            if let Ok(text) = text(line) {
                assert!(text.len() <= line.len());
            }
        }
        assert!(bytes + cutter.finish().map_or(0, |last| last.len()) <= input.len());
    });
}

#[test]
fn lines_do_not_depend_on_how_they_arrive() {
    torture(FEWER_INPUTS, &streams(), |input| {
        let whole = cut([input]);
        assert_eq!(whole, cut_plainly(input), "not what the words say");
        assert_eq!(whole, cut(input.chunks(1)), "another result byte by byte");
        // The splits come from the input, so that it can be shrunk.
        let mut dice = Dice::new(u64::from(crc32fast::hash(input)));
        for _ in 0..3 {
            let mut rest = input;
            let portions = std::iter::from_fn(|| {
                let (portion, after) = rest.split_at(1 + dice.roll(rest.len().max(1)).min(rest.len().checked_sub(1)?));
                rest = after;
                Some(portion)
            });
            assert_eq!(whole, cut(portions), "another result in portions");
        }
    });
}

#[test]
fn a_line_without_end_takes_no_more_memory_than_a_line() {
    let endless = vec![b'x'; 4 << 20];
    for size in [1, 1024, endless.len()] {
        let used = measure(|| {
            let mut cutter = LineCutter::default();
            let overlong: usize = endless.chunks(size).map(|mut part| cutter.next(&mut part).iter().count()).sum();
            assert_eq!(overlong, 1);
        });
        assert!(used.bytes_max <= MEMORY_BYTES_MAX, "{} bytes in portions of {size}", used.bytes_max);
    }
}

// Words.

#[test]
fn commands_of_any_words() {
    torture(INPUTS, &typed(), |input| {
        let line = String::from_utf8_lossy(input);
        let again = match command::parse(&line) {
            Ok(Request::Message { to, text }) => {
                assert!(!to.contains([' ', '\t']) && !text.trim_matches([' ', '\t']).is_empty());
                format!("message {to} {text}")
            }
            Ok(Request::Broadcast { text }) => format!("broadcast {text}"),
            Ok(Request::WhoElseSince { millis }) => {
                assert!(millis >= 0);
                return;
            }
            Ok(Request::Block { user }) => format!("block {user}"),
            Ok(Request::Unblock { user }) => format!("unblock {user}"),
            Ok(Request::Status { user }) => format!("status {user}"),
            Ok(Request::Help { topic: Some(topic) }) => format!("help {topic}"),
            Ok(_) | Err(ParseError::Usage(_)) => return,
            Err(ParseError::Empty) => return assert!(line.trim_matches([' ', '\t']).is_empty()),
            Err(ParseError::Unknown(word)) => return assert!(!word.is_empty() && line.contains(word)),
        };
        assert_eq!(command::parse(&line), command::parse(&again));
    });
}

#[test]
fn names_of_any_characters() {
    torture(INPUTS, &corpus(&["hans", "~!#", "[02/03/26", "hans:", "jos\u{e9}"]), |input| {
        let word = String::from_utf8_lossy(input);
        let graphic = word.chars().all(|c| ('!'..='~').contains(&c));
        let expected = match word.len() {
            0 => Err(NameError::Empty),
            length if length > NAME_BYTES_MAX => Err(NameError::TooLong),
            _ if !graphic => Err(NameError::BadCharacter),
            _ => Ok(&*word),
        };
        assert_eq!(UserName::parse(&word).as_ref().map(UserName::as_str), expected.as_deref());
    });
}

#[test]
fn file_names_of_any_characters() {
    let names = ["a.bin", "gr\u{fc}ezi", "../x", "a/b", "NUL", "com1.txt", ".hidden", "x.part", "a\u{202e}b", "a b"];
    torture(INPUTS, &corpus(&names), |input| {
        let word = String::from_utf8_lossy(input);
        let Some(name) = FileName::parse(&word) else { return };
        assert_eq!(name.as_str(), word);
        let path = Path::new(&*word);
        assert_eq!(path.file_name().and_then(|name| name.to_str()), Some(&*word), "more or less than a name");
        assert!(word.len() <= 255 && !word.starts_with('.') && !word.to_lowercase().ends_with(".part"));
        assert!(!word.contains(|c: char| is_harmful(c) || c.is_whitespace() || c == '/' || c == '\\'));
    });
}

// Frames.

fn frames() -> Vec<Vec<u8>> {
    let name = |word| UserName::parse(word).expect("a name");
    let ticket = Ticket { number: u64::MAX, secret: 7 };
    let file = FileName::parse("gr\u{fc}ezi.bin").expect("a name");
    let frames = [
        Frame::Hello(Hello::new(Purpose::Private, name("hans"), name("luke"), &ticket, [1; 16])),
        Frame::Hello(Hello::new(Purpose::File, name(&"~".repeat(NAME_BYTES_MAX)), name("y"), &ticket, [255; 16])),
        Frame::Proof { nonce: [2; 16], mac: [3; 32] },
        Frame::Answer { mac: [4; 32] },
        Frame::Text("gr\u{fc}ezi \x1b[2J".to_owned()),
        Frame::Bye,
        Frame::Want { file, chunk: 65_535 },
        Frame::Chunk { chunk: 3, bytes: 70_000 },
        Frame::No { chunk: 3, why: NoChunk::Missing },
        Frame::No { chunk: 3, why: NoChunk::Busy },
    ];
    let mut corpus: Vec<Vec<u8>> = frames.iter().map(Frame::bytes).collect();
    corpus.push(corpus.concat());
    corpus.push(Frame::Text("x".repeat(TEXT_BYTES_MAX)).bytes());
    corpus.push(Frame::Text("x".repeat(TEXT_BYTES_MAX + 1)).bytes());
    corpus
}

/// All frames in `portions`, and whether a bad one came behind them.
fn cut_frames<'a>(is_proven: bool, portions: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Frame>, bool) {
    let mut reader = FrameReader::default();
    if is_proven {
        reader.proven();
    }
    let mut frames = Vec::new();
    for portion in portions {
        reader.push(portion);
        loop {
            match reader.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(BadFrame) => return (frames, true),
            }
        }
    }
    (frames, false)
}

#[test]
fn frames_of_any_bytes() {
    torture(INPUTS, &frames(), |input| {
        for (is_proven, max) in [(false, UNPROVEN_BYTES_MAX), (true, FRAME_BYTES_MAX)] {
            let (frames, _) = cut_frames(is_proven, [input]);
            let mut at = 0;
            for frame in frames {
                let spelled = frame.bytes();
                assert!(spelled.len() <= max + 4);
                assert_eq!(input.get(at..at + spelled.len()), Some(&*spelled), "not what was said");
                at += spelled.len();
            }
        }
    });
}

#[test]
fn frames_do_not_depend_on_how_they_arrive() {
    torture(FEWER_INPUTS, &frames(), |input| {
        let whole = cut_frames(true, [input]);
        assert_eq!(whole, cut_frames(true, input.chunks(1)), "another result byte by byte");
        let mut dice = Dice::new(u64::from(crc32fast::hash(input)));
        let mut rest = input;
        let portions = std::iter::from_fn(|| {
            let (portion, after) = rest.split_at(1 + dice.roll(rest.len().max(1)).min(rest.len().checked_sub(1)?));
            rest = after;
            Some(portion)
        });
        assert_eq!(whole, cut_frames(true, portions), "another result in portions");
    });
}

#[test]
fn a_frame_takes_no_memory_before_it_has_come() {
    for length in [u32::MAX, 1 << 30, 16 * 1024, 1] {
        let head = [&length.to_be_bytes()[..], &[4]].concat();
        let used = measure(|| drop(cut_frames(true, [&*head])));
        assert!(used.bytes_max <= 1024, "{} bytes for a length of {length}", used.bytes_max);
    }
}

// Control lines.

#[test]
fn lines_of_our_client_of_any_words() {
    let lines = [
        "HELLO chinwag/1 line",
        "LOGIN hans 9",
        "RESUME ~!# 0000000000000000000000000000abcd 1099511627778",
        "#7.12 message yoda  two  spaces ",
        "#1099511627778.1 whoelse",
        "SEEN 18446744073709551615",
        "PING",
        "PORT 40000",
        "ALIVE",
        "DIAL luke private",
        "DIAL luke file",
        "WANT gr\u{fc}ezi.bin",
        "HOLDERS a.bin",
        "HAVE a.bin 0 3 65535",
        "REGISTER a.bin 65536 18446744073709551615 00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF",
        "REGISTER a.bin 1 7 00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF part",
        "WITHDRAW",
        "WITHDRAW a.bin",
        "CHUNK-HASH 64 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff \
         ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100",
    ];
    torture(INPUTS, &corpus(&lines), |input| {
        let line = String::from_utf8_lossy(input);
        if let Ok(say) = Say::parse(&line) {
            match say {
                Say::ChunkHash { hashes, .. } => {
                    assert!((1..=HASHES_PER_LINE_MAX).contains(&control::digests(hashes).count()));
                }
                Say::Have { chunks, .. } => {
                    assert_eq!(control::numbers(chunks).count(), chunks.split(' ').count());
                    assert!(control::numbers(chunks).all(|chunk| chunk < CHUNKS_MAX));
                }
                _ => {}
            }
            let spelled = say.spell();
            assert!(Say::parse(&spelled).is_ok_and(|again| again == say), "{spelled:?}");
        }
    });
}

fn number(dice: &mut Dice) -> u64 {
    dice.next() >> dice.roll(64)
}

fn signed(dice: &mut Dice) -> i64 {
    number(dice).cast_signed()
}

fn name(dice: &mut Dice) -> UserName {
    let longest = *dice.pick(&[5, 5, 5, NAME_BYTES_MAX]);
    let length = 1 + dice.roll(longest);
    let word: String = (0..length).map(|_| char::from(b'!' + dice.roll(94).to_le_bytes()[0])).collect();
    UserName::parse(&word).expect("printable and short")
}

fn some_text(dice: &mut Dice) -> Text {
    let mut input = Vec::new();
    mutate(dice, &typed(), &mut input);
    Text::harmless(&String::from_utf8_lossy(&input))
}

fn letter(dice: &mut Dice) -> Letter {
    let road = *dice.pick(&[Road::Live, Road::Mail, Road::Again]);
    let group = GroupName::parse(&name(dice).as_str().replace('/', "-")).expect("a name without a slash");
    let scope = dice.pick(&[Scope::Plain, Scope::General, Scope::Group(group)]).clone();
    let (from, text) = (name(dice), some_text(dice));
    Letter { number: number(dice), from, text, sent: signed(dice), road, scope, receipt: false }
}

fn file(dice: &mut Dice) -> FileName {
    let word = name(dice).as_str().to_owned() + *dice.pick(&["", ".bin", "\u{fc}", "\u{1f600}"]);
    FileName::parse(&word).unwrap_or_else(|| FileName::parse("a.bin").expect("legal"))
}

fn chunks(dice: &mut Dice) -> ChunkSet {
    let (runs, spread) = (dice.roll(20), 1 + dice.roll(4000));
    (0..runs)
        .flat_map(|_| {
            let (from, many) = (dice.roll(spread), dice.roll(200));
            from..=from + many
        })
        .filter_map(|chunk| u32::try_from(chunk).ok())
        .collect()
}

fn digest(dice: &mut Dice) -> Digest {
    Digest([(); 32].map(|()| dice.next().to_le_bytes()[0]))
}

/// Any notice about connections from client to client, and about files.
fn between_clients(dice: &mut Dice) -> Notice {
    let ticket = Ticket { number: number(dice), secret: u128::from(number(dice)) << 64 | u128::from(number(dice)) };
    let v6 = (u128::from(number(dice)) << 64 | u128::from(number(dice))).to_be_bytes();
    let ip = if dice.roll(2) == 0 { std::net::IpAddr::from(v6) } else { [127, 0, 0, v6[15]].into() };
    let at = std::net::SocketAddr::new(ip, u16::from_le_bytes([v6[14], v6[15]]));
    let purpose = *dice.pick(&[Purpose::Private, Purpose::File]);
    let count = 1 + u32::from(u16::from_le_bytes([v6[13], v6[15]]));
    match dice.roll(18) {
        0 => Notice::Peer { user: name(dice), at, ticket, purpose },
        1 => Notice::Expect { user: name(dice), ticket, purpose },
        2 => {
            let reasons = [WhyNot::Offline, WhyNot::Blocked, WhyNot::NoPort, WhyNot::NotAllowed, WhyNot::NoFile];
            Notice::NoPeer { user: name(dice), purpose, why: *dice.pick(&reasons) }
        }
        3 => Notice::Address { user: name(dice), at, ticket },
        4 => Notice::AsksAddress(name(dice)),
        5 => Notice::AsksPrivate(name(dice)),
        6 => Notice::RequestSent(name(dice)),
        7 => Notice::Allowed(name(dice)),
        8 => Notice::Declined(name(dice)),
        9 => Notice::Denied(name(dice)),
        10 => Notice::Registered { file: file(dice), chunks: count },
        11 => Notice::Available { file: file(dice), bytes: number(dice), chunks: count },
        12 => Notice::Has { file: file(dice), user: name(dice), chunks: chunks(dice) },
        13 => Notice::NotAvailable { file: file(dice), of_chunks: dice.roll(2) == 0 },
        14 => Notice::Manifest { file: file(dice), chunks: count, bytes: number(dice), digest: digest(dice) },
        15 => {
            let hashes = (0..=dice.roll(HASHES_PER_LINE_MAX)).map(|_| digest(dice)).collect();
            Notice::ChunkHashes { file: file(dice), first: count, hashes }
        }
        16 => Notice::Holder { file: file(dice), user: name(dice), chunks: chunks(dice) },
        _ => dice.pick(&[Notice::ManifestEnd, Notice::HoldersEnd])(file(&mut Dice::new(number(dice)))),
    }
}

/// Any notice that stands on a line of its own.
fn notice(dice: &mut Dice) -> Notice {
    let ago = |dice: &mut Dice| Ago { wall: signed(dice), millis: signed(dice) };
    let small = |dice: &mut Dice| u32::try_from(number(dice) >> 32).unwrap_or_default();
    match dice.roll(52) {
        40.. => between_clients(dice),
        0 => Notice::Hello { store: some_text(dice) },
        1 => Notice::Done(Tag { session: number(dice), line: number(dice) }),
        2 => Notice::Pong,
        3 => Notice::AskName,
        4 => Notice::AskPassword,
        5 => Notice::NewUser(name(dice)),
        6 => Notice::WrongPassword { tries: small(dice).to_le_bytes()[0] },
        7 => Notice::JustLocked { seconds: signed(dice) },
        8 => Notice::StillLocked { seconds: signed(dice) },
        9 => Notice::AlreadyOnline { user: name(dice), idle: signed(dice) },
        10 => Notice::Welcome { user: name(dice), pass: None },
        11 => {
            let token = u128::from(number(dice)) << 64 | u128::from(number(dice));
            Notice::Welcome { user: name(dice), pass: Some(Pass { session: number(dice), token }) }
        }
        12 => Notice::Goodbye,
        13 => Notice::TimedOut { seconds: signed(dice) },
        14 => dice
            .pick(&[Notice::LoginTimedOut, Notice::Stopping, Notice::Full, Notice::TooSlow, Notice::TakenOver])
            .clone(),
        15 => Notice::TooManyNames,
        16 => Notice::Waiting { count: small(dice) },
        17 => Notice::Stored { to: name(dice), seen: None },
        18 => Notice::Stored { to: name(dice), seen: Some(ago(dice)) },
        19 => dice.pick(&[Notice::SomeSkipped, Notice::Nobody, Notice::HelpAll]).clone(),
        20 => Notice::Arrived(name(dice)),
        21 => Notice::Left(name(dice)),
        22 => Notice::Names((0..=dice.roll(5)).map(|_| name(dice)).collect()),
        23 => Notice::Blocked(name(dice)),
        24 => Notice::Unblocked(name(dice)),
        25 => Notice::Online { user: name(dice), since: ago(dice), idle: signed(dice) },
        26 => Notice::Offline { user: name(dice), seen: ago(dice) },
        27 => Notice::NeverOnline(name(dice)),
        28 => Notice::Help(dice.pick(&COMMANDS)),
        29..32 => Notice::Refused(refusal(dice)),
        _ => Notice::Said(letter(dice)),
    }
}

fn refusal(dice: &mut Dice) -> Refusal {
    let small = |dice: &mut Dice| number(dice).to_le_bytes()[0].into();
    match dice.roll(20) {
        10 => Refusal::Offline(name(dice)),
        11 => Refusal::NoPrivate(name(dice)),
        12 => Refusal::CannotBeFound(some_text(dice)),
        13 => Refusal::NoRequest(some_text(dice)),
        14 => Refusal::RequesterGone(name(dice)),
        15 => Refusal::AlreadyRegistered { file: file(dice), same: dice.roll(2) == 0 },
        16 => Refusal::NotRegistered(file(dice)),
        17 => Refusal::NoChunk { file: file(dice), word: some_text(dice) },
        18 => Refusal::RequestsFull { user: name(dice), max: small(dice) },
        19 => Refusal::BadManifest(file(dice)),
        0 => Refusal::Usage(dice.pick(&COMMANDS)),
        1 => Refusal::InvalidCommand(some_text(dice)),
        2 => Refusal::InvalidUser(some_text(dice)),
        3 => Refusal::BadName(*dice.pick(&[NameError::Empty, NameError::TooLong, NameError::BadCharacter])),
        4 => Refusal::Yourself(dice.pick::<&str>(&["message", "block", "unblock"])),
        5 => Refusal::Blocked(name(dice)),
        6 => Refusal::AlreadyBlocked(name(dice)),
        7 => Refusal::NotBlocked(name(dice)),
        8 => Refusal::MailboxFull(name(dice)),
        _ => dice
            .pick(&[
                Refusal::NeedsClient("private"),
                Refusal::UnknownUser,
                Refusal::BadPassword,
                Refusal::BadToken,
                Refusal::NameTaken,
                Refusal::NoAccount,
                Refusal::Busy,
                Refusal::DiskFailed,
                Refusal::LineTooLong { max: LINE_BYTES_MAX },
                Refusal::NotUtf8,
                Refusal::BadFileName,
                Refusal::TooManyChunks { max: CHUNKS_MAX },
                Refusal::FilesFull { max: 7 },
                Refusal::ChunksFull { max: 7 },
                Refusal::OwnsTooManyFiles { max: 7 },
                Refusal::OwnsTooManyChunks { max: 7 },
            ])
            .clone(),
    }
}

/// The control line of a notice, without its end.
fn encoded(notice: &Notice) -> String {
    let mut line = Vec::new();
    control::encode(notice, &mut line);
    assert_eq!(line.pop(), Some(b'\n'));
    String::from_utf8(line).expect("UTF-8")
}

#[test]
fn lines_of_the_server_of_any_words() {
    let mut dice = Dice::new(0);
    let mut lines: Vec<Vec<u8>> = (0..500).map(|_| encoded(&notice(&mut dice)).into_bytes()).collect();
    lines.extend(include_str!("../notices.txt").lines().map(|line| line.trim_start().into()));
    torture_any(INPUTS, &lines, |input| {
        let line = String::from_utf8_lossy(input);
        if let Ok(notice) = frugally(line.len(), || control::decode(&line)) {
            let line = encoded(&notice);
            assert!(!line.contains('\n'));
            assert_eq!(control::decode(&line).as_ref(), Ok(&notice));
        }
    });
}

#[test]
fn every_notice_survives_the_way_to_our_client() {
    for seed in 0..mutate::inputs(FEWER_INPUTS) {
        let notice = notice(&mut Dice::new(seed));
        let line = encoded(&notice);
        assert_eq!(control::decode(&line), Ok(notice), "seed {seed}: {line:?}");
    }
}

// Datagrams.

/// What is read is short, spelled on one line, and read again as the same.
#[test]
fn datagrams_of_any_bytes() {
    let datagrams = [
        "REG:anna\n",
        "REQ:Bernd",
        "GRP:",
        "CGR:lab_239.1.2.3_5000",
        "GAC:lab\r\n",
        "hi anna",
        "ar Bernd",
        "ul",
        "rc lab",
        "rj lab",
        "rk",
        "LIN:anna",
        "PIN:192.0.2.7_2021",
        "PIN:::ffff:192.0.2.7_2021",
        "GTA:a_b_c",
        "GRI:239.1.2.3_5000",
        "ar 2001:db8::7 2021",
        "rj __clear_peers__",
        "rj 192.0.2.7 2021",
        "PTP:anna",
        "pk anna",
        "MSG: two  blanks: and colons \n",
        "msg anna> two  blanks> and more\n",
        "WHO:anna",
        "IAM:anna",
    ];
    torture(INPUTS, &corpus(&datagrams), |input| {
        if let Some(ask) = Ask::parse(input) {
            let again = ask.spell();
            assert!(again.len() <= input.len() + 2, "{again:?}");
            assert_eq!(Ask::parse(again.as_bytes()), Some(ask));
        }
        // Two addresses of one machine may be spelled at different lengths.
        if let Some(answer) = Answer::parse(input) {
            let again = answer.spell();
            assert_eq!(Answer::parse(again.as_bytes()), Some(answer));
        }
        if let Some(talk) = Talk::parse(input) {
            let again = talk.spell();
            assert!(again.len() <= input.len() + 1 && input.len() <= DATAGRAM_BYTES_MAX, "{again:?}");
            assert!(Talk::parse(again.as_bytes()).is_some());
        }
        let word = String::from_utf8_lossy(input);
        for name in [user_name(&word), room_name(&word), group_name(&word)].into_iter().flatten() {
            assert_eq!(name.as_str(), word);
        }
        let (address, port) = word.split_once('_').unwrap_or((&word, ""));
        if let Ok(place) = group_place(address, port) {
            assert!(place.ip().is_multicast() && place.port() > 1024);
        }
    });
}

// Files.

#[test]
fn credentials_of_any_bytes() {
    let file = Path::new("Credentials.txt");
    let files = ["hans falcon\nyoda wise\n", "\u{feff}hans falcon\r\nyoda w!se\r\n\r\n", "~!#$ a\n[x: b", "\n", ""];
    torture(INPUTS, &corpus(&files), |input| match credentials::parse(file, input) {
        Ok(accounts) => {
            let mut again = String::new();
            for account in &accounts {
                assert!(!account.password.is_empty() && account.password.len() <= PASSWORD_BYTES_MAX);
                again.extend([account.name.as_str(), " ", &account.password, "\n"]);
            }
            assert_eq!(credentials::parse(file, again.as_bytes()).as_ref(), Ok(&accounts));
        }
        Err(error) => assert!(error.to_string().starts_with("Credentials.txt:")),
    });
}

/// A row as bytes: four numbers, then receiver, sender and text, each behind its length.
fn row(dice: &mut Dice) -> Vec<u8> {
    let (to, letter) = (name(dice), letter(dice));
    let (id, again) = (signed(dice) & i64::MAX, i64::from(letter.road == Road::Again));
    let words = [to.as_str(), letter.from.as_str(), letter.text.as_str()];
    let crc = checksum(words, [id, letter.sent, again], None, false);
    let mut bytes: Vec<u8> = [id, letter.sent, again, crc].iter().flat_map(|number| number.to_le_bytes()).collect();
    for word in words {
        // A longer one would not be what was meant, and is as good.
        bytes.push(u8::try_from(word.len()).unwrap_or(u8::MAX));
        bytes.extend_from_slice(word.as_bytes());
    }
    bytes
}

/// Takes a word off a row.
fn word<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let Some((&length, tail)) = rest.split_first() else { return &[] };
    let (word, tail) = tail.split_at(usize::from(length).min(tail.len()));
    *rest = tail;
    word
}

#[test]
fn stored_rows_of_any_values() {
    let mut dice = Dice::new(0);
    let rows: Vec<Vec<u8>> = (0..200).map(|_| row(&mut dice)).collect();
    torture(INPUTS, &rows, |input| {
        let mut rest = input;
        let mut number = || {
            let (number, tail) = rest.split_first_chunk().unwrap_or((&[0; 8], &[]));
            rest = tail;
            i64::from_le_bytes(*number)
        };
        let [id, sent, again, crc] = std::array::from_fn(|_| number());
        let to = String::from_utf8_lossy(word(&mut rest));
        let (sender, body) = (word(&mut rest), word(&mut rest));
        let Ok(to) = UserName::parse(&to) else { return };
        let scope = [None, Some("general"), Some("group friends"), Some("nobody")][input.len() % 4];
        let receipt = body.len() % 2 == 1;
        let whole = str::from_utf8(sender).ok().zip(str::from_utf8(body).ok());
        let right =
            whole.map(|(sender, body)| checksum([to.as_str(), sender, body], [id, sent, again], scope, receipt));

        // As it is, with the right checksum, and with values of other kinds.
        for crc in [Some(crc), right].into_iter().flatten() {
            let columns = [
                ValueRef::Integer(id),
                ValueRef::Text(sender),
                ValueRef::Integer(sent),
                ValueRef::Integer(again),
                ValueRef::Text(body),
                ValueRef::Integer(crc),
                scope.map_or(ValueRef::Null, |word| ValueRef::Text(word.as_bytes())),
                ValueRef::Integer(receipt.into()),
            ];
            match read_letter(&to, columns) {
                Some(letter) => {
                    assert_eq!(Some(crc), right, "an altered row was taken for a good one");
                    let (sender, body) = whole.expect("only UTF-8 has a checksum");
                    assert_eq!((letter.from.as_str(), letter.sent), (sender, sent));
                    assert_eq!(letter.text, Text::harmless(body));
                }
                None => {
                    let known = scope != Some("nobody") && whole.is_some_and(|(from, _)| UserName::parse(from).is_ok());
                    assert!(Some(crc) != right || id < 0 || !known);
                }
            }
            let other = [ValueRef::Null, ValueRef::Real(0.5), ValueRef::Blob(body)];
            let mut columns = columns;
            columns[input.len() % 6] = other[body.len() % other.len()];
            assert_eq!(read_letter(&to, columns), None);
        }
    });
}

// Terminals and logs.

/// Whether a character can drive or fool a terminal.
fn is_harmful(c: char) -> bool {
    (c.is_control() && c != '\t')
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{61c}' | '\u{feff}')
        || ('\u{e0000}'..='\u{e0fff}').contains(&c)
}

#[test]
fn no_text_or_name_reaches_a_terminal_or_a_log_as_more_than_words() {
    let mut hostile = typed();
    hostile.extend(corpus(&[
        "\x1b]0;title\x07",
        "\u{9b}31m red",
        "\r\nhans: hi",
        "\u{202e}\u{2066}\u{feff}",
        "\x08\x7f",
    ]));
    torture_any(FEWER_INPUTS, &hostile, |input| {
        let speller = Speller::new(TimeZone::UTC);
        let raw: Cow<'_, str> = String::from_utf8_lossy(input);
        let text = Text::harmless(&raw);
        assert_eq!(Text::harmless(text.as_str()), text, "harmless once, harmless for ever");
        let from = raw.split(' ').find_map(|word| UserName::parse(word).ok());
        let from = from.unwrap_or_else(|| UserName::parse("[x:").expect("a name"));
        let road = [Road::Live, Road::Mail, Road::Again][input.len() % 3];
        let (scope, receipt) = (Scope::General, false);
        let notices = [
            Notice::Said(Letter { number: 1, from: from.clone(), text: text.clone(), sent: 0, road, scope, receipt }),
            Notice::Refused(Refusal::InvalidCommand(text.clone())),
            Notice::Refused(Refusal::InvalidUser(text.clone())),
            Notice::Names(vec![from.clone()]),
            Notice::Hello { store: text.clone() },
        ];
        for notice in notices {
            // What the server shows a person, what our client shows, what the log shows.
            let mut shown = Vec::new();
            speller.spell(&notice, &mut shown);
            let line = encoded(&notice);
            let decoded = control::decode(&line).expect("a control line");
            let mut ours = Vec::new();
            speller.spell(&decoded, &mut ours);
            assert_eq!(shown, ours);
            let shown = String::from_utf8(shown).expect("UTF-8");
            assert!(!shown.strip_suffix('\n').unwrap_or(&shown).contains(is_harmful), "{shown:?}");
            assert!(!line.contains(is_harmful), "{line:?}");
            let logged = format!("{notice:?}");
            assert!(!logged.contains(|c| c == '\t' || is_harmful(c)), "{logged:?}");
        }
        // Text that another server has not made harmless.
        let line = format!("said 1 live 0 {from} {raw}");
        if let Ok(notice) = control::decode(&line) {
            let mut shown = Vec::new();
            speller.spell(&notice, &mut shown);
            let shown = String::from_utf8(shown).expect("UTF-8");
            assert!(!shown.strip_suffix('\n').unwrap_or(&shown).contains(is_harmful), "{shown:?}");
        }
    });
}

// Memory.

/// The longest lines there can be, of what takes the most room.
#[test]
fn the_worst_lines_take_bounded_memory() {
    let worst = ["\u{1}", "\u{80}", "\u{202e}", "\u{e0001}", "a ", "x", "\u{feff}"];
    for part in worst {
        let line = part.repeat(LINE_BYTES_MAX / part.len());
        let limit = 2 * line.len() as u64 + MEMORY_BYTES_MAX;
        let message = format!("#1.1 message yoda {line}");
        for (what, used) in [
            ("text", measure(|| drop(text(line.as_bytes())))),
            ("command", measure(|| assert!(command::parse(&line).is_err()))),
            ("typed", measure(|| assert!(Say::parse(&message).is_ok()))),
            ("harmless", measure(|| drop(Text::harmless(&line)))),
            ("name", measure(|| assert!(UserName::parse(&line).is_err()))),
        ] {
            assert!(used.bytes_max <= limit, "{what} of {part:?} takes {} bytes, {limit} allowed", used.bytes_max);
        }
    }
}

/// Only the operator's file and our own server's lists may be long. Each account and name that is
/// kept has its own price.
#[test]
fn long_lists_take_memory_in_proportion_to_what_is_kept() {
    const ENTRY_BYTES_MAX: u64 = 256;
    let words: Vec<String> = (0..20_000).map(|number| format!("{number:x}")).collect();
    let file: String = words.iter().map(|word| format!("{word} p\n")).collect();
    let names = format!("names {}", words.join(" "));
    let kept = words.len() as u64 * ENTRY_BYTES_MAX;
    let used = measure(|| {
        assert_eq!(credentials::parse(Path::new("x"), file.as_bytes()).map(|all| all.len()), Ok(words.len()));
    });
    let limit = 2 * file.len() as u64 + MEMORY_BYTES_MAX + kept;
    assert!(used.bytes_max <= limit, "{} bytes for accounts, {limit} allowed", used.bytes_max);
    let used = measure(|| assert!(control::decode(&names).is_ok()));
    let limit = 2 * names.len() as u64 + MEMORY_BYTES_MAX + kept;
    assert!(used.bytes_max <= limit, "{} bytes for names, {limit} allowed", used.bytes_max);
}
