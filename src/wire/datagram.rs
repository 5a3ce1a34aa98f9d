//! The datagrams of the two Basel systems: bytes to values and back.
//!
//! Both spellings share one port and are told apart by their shape: three capitals and a colon, or
//! a short word in small letters. What a datagram means depends on who hears it, for `hi anna` is
//! a question to the server and an answer from it. Hence three kinds: [`Ask`] is what a server
//! hears, [`Answer`] what comes from it, [`Talk`] what clients say to each other.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};

use super::name::UserName;

/// Longest datagram, in bytes: the original programs read no more of one. A longer one is not
/// sent; one that comes is no datagram of ours.
pub const DATAGRAM_BYTES_MAX: usize = 1024;

/// The smallest port of a multicast group; the original clients refuse those below.
pub const GROUP_PORT_MIN: u16 = 1025;

/// The word with which a server empties a list of peers; no room can be called so.
const CLEAR_PEERS: &str = "__clear_peers__";

/// How something is said that both systems can say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Spelling {
    /// `REG:anna`, of the system with `cmd:` commands.
    Codes,
    /// `hi anna`, of the system with `$` commands.
    Words,
}

/// What a client asks the server. Names are still words: whether they are legal is a rule.
#[allow(missing_docs, reason = "the line of a variant speaks of its fields too")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// `REG:name`, `hi name`
    Register(Spelling, String),
    /// `REQ:name`, `ar name`
    Find(Spelling, String),
    /// `by`
    Leave,
    /// `ul`
    Users,
    /// `rl`
    Rooms,
    /// `rc room`
    CreateRoom(String),
    /// `rj room`
    JoinRoom(String),
    /// `rk`
    LeaveRoom,
    /// `GRP:`
    Groups,
    /// `CGR:name_address_port`
    CreateGroup { name: String, address: String, port: String },
    /// `GAC:name`
    FindGroup(String),
}

/// What the server answers, and what it tells the members of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// `LIN:name`, `hi name`; without a name: it is taken.
    Registered(Spelling, Option<String>),
    /// `PIN:address_port`, `ar address port`; without an address: nobody has the name.
    Found(Spelling, Option<SocketAddr>),
    /// `by`
    Left,
    /// `ul name`, one of the users; without a name: there are none.
    User(Option<String>),
    /// `rl room`, one of the rooms; without a name: there are none.
    Room(Option<String>),
    /// `rc room`; without a name: it exists already.
    RoomCreated(Option<String>),
    /// `rj`: there is no such room.
    NoRoom,
    /// `rj __clear_peers__`: what follows is the whole list of peers.
    ClearPeers,
    /// `rj address port`, one of the peers.
    Peer(SocketAddr),
    /// `rk`
    RoomLeft,
    /// `GTA:a_b_c`, some of the groups; without names: there are none.
    Groups(Vec<String>),
    /// `GCR:name`; without a name: it could not be created.
    GroupCreated(Option<String>),
    /// `GRI:address_port`; without an address: there is no such group.
    Group(Option<SocketAddrV4>),
}

/// What clients say to each other, or to a multicast group.
#[allow(missing_docs, reason = "the line of a variant speaks of its fields too")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Talk {
    /// `PTP:name`, `pk name`: somebody has looked us up and will write.
    Hello(Spelling, String),
    /// `MSG:text`, `msg name> text`; only the second says who speaks.
    Said { spelling: Spelling, from: Option<String>, text: String },
    /// `WHO:name`: who is in this group?
    Who(String),
    /// `IAM:name`: I am.
    Here(String),
}

/// A datagram by its shape.
enum Shape<'a> {
    /// `CODE:payload`
    Code(&'a str, &'a str),
    /// `word rest`
    Word(&'a str, &'a str),
}

/// The shape of a datagram, without one line end at its end; `None` if it has neither.
fn shape(bytes: &[u8]) -> Option<Shape<'_>> {
    if bytes.len() > DATAGRAM_BYTES_MAX {
        return None;
    }
    let all = std::str::from_utf8(bytes).ok()?;
    let all = all.strip_suffix('\n').map_or(all, |line| line.strip_suffix('\r').unwrap_or(line));
    let is_all = |word: &str, range: std::ops::RangeInclusive<u8>| word.bytes().all(|byte| range.contains(&byte));
    if let Some((code, payload)) = all.split_once(':')
        && code.len() == 3
        && is_all(code, b'A'..=b'Z')
    {
        return Some(Shape::Code(code, payload));
    }
    let (word, rest) = all.split_once(' ').unwrap_or((all, ""));
    let is_word = (2..=3).contains(&word.len()) && is_all(word, b'a'..=b'z');
    is_word.then_some(Shape::Word(word, rest))
}

/// A name, or none if there is nothing but blanks.
fn named(word: &str) -> Option<String> {
    Some(word.trim().to_owned()).filter(|name| !name.is_empty())
}

impl Ask {
    /// Reads what a client sent; `None` for everything else, answers included.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        match shape(bytes)? {
            Shape::Code(code, payload) => Self::of_code(code, payload.trim()),
            Shape::Word(word, rest) => {
                let mut words = rest.split_whitespace();
                let arguments = [words.next(), words.next()];
                Self::of_words(word, arguments)
            }
        }
    }

    fn of_code(code: &str, payload: &str) -> Option<Self> {
        let word = payload.to_owned();
        Some(match code {
            "REG" => Self::Register(Spelling::Codes, word),
            "REQ" => Self::Find(Spelling::Codes, word),
            "GRP" => Self::Groups,
            "GAC" => Self::FindGroup(word),
            "CGR" => {
                let mut parts = payload.splitn(3, '_').map(str::to_owned);
                let mut part = || parts.next().unwrap_or_default();
                Self::CreateGroup { name: part(), address: part(), port: part() }
            }
            _ => return None,
        })
    }

    fn of_words(word: &str, arguments: [Option<&str>; 2]) -> Option<Self> {
        Some(match (word, arguments) {
            ("by", [None, _]) => Self::Leave,
            ("ul", [None, _]) => Self::Users,
            ("rl", [None, _]) => Self::Rooms,
            ("rk", [None, _]) => Self::LeaveRoom,
            ("hi", [Some(name), None]) => Self::Register(Spelling::Words, name.to_owned()),
            ("ar", [Some(name), None]) => Self::Find(Spelling::Words, name.to_owned()),
            ("rc", [Some(room), None]) => Self::CreateRoom(room.to_owned()),
            ("rj", [Some(room), None]) if room != CLEAR_PEERS => Self::JoinRoom(room.to_owned()),
            _ => return None,
        })
    }

    /// The datagram.
    pub fn spell(&self) -> String {
        match self {
            Self::Register(Spelling::Codes, name) => format!("REG:{name}"),
            Self::Register(Spelling::Words, name) => format!("hi {name}"),
            Self::Find(Spelling::Codes, name) => format!("REQ:{name}"),
            Self::Find(Spelling::Words, name) => format!("ar {name}"),
            Self::Leave => "by".to_owned(),
            Self::Users => "ul".to_owned(),
            Self::Rooms => "rl".to_owned(),
            Self::CreateRoom(room) => format!("rc {room}"),
            Self::JoinRoom(room) => format!("rj {room}"),
            Self::LeaveRoom => "rk".to_owned(),
            Self::Groups => "GRP:".to_owned(),
            Self::CreateGroup { name, address, port } => format!("CGR:{name}_{address}_{port}"),
            Self::FindGroup(name) => format!("GAC:{name}"),
        }
    }
}

impl Answer {
    /// Reads what a server sent.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        match shape(bytes)? {
            Shape::Code(code, payload) => Self::of_code(code, payload.trim()),
            Shape::Word(word, rest) => {
                let mut words = rest.split_whitespace();
                let arguments = [words.next(), words.next(), words.next()];
                Self::of_words(word, arguments)
            }
        }
    }

    fn of_code(code: &str, payload: &str) -> Option<Self> {
        let place = || payload.rsplit_once('_').and_then(|(address, port)| place(address, port));
        Some(match code {
            "LIN" => Self::Registered(Spelling::Codes, named(payload)),
            "PIN" if payload.is_empty() => Self::Found(Spelling::Codes, None),
            "PIN" => Self::Found(Spelling::Codes, Some(place()?)),
            "GTA" => Self::Groups(payload.split('_').filter_map(named).collect()),
            "GCR" => Self::GroupCreated(named(payload)),
            "GRI" if payload.is_empty() => Self::Group(None),
            "GRI" => {
                let SocketAddr::V4(place) = place()? else { return None };
                Self::Group(Some(place))
            }
            _ => return None,
        })
    }

    fn of_words(word: &str, arguments: [Option<&str>; 3]) -> Option<Self> {
        let [first, second, third] = arguments;
        let name = first.map(str::to_owned);
        Some(match (word, second) {
            ("by", None) if first.is_none() => Self::Left,
            ("rk", None) if first.is_none() => Self::RoomLeft,
            ("hi", None) => Self::Registered(Spelling::Words, name),
            ("ul", None) => Self::User(name),
            ("rl", None) => Self::Room(name),
            ("rc", None) => Self::RoomCreated(name),
            ("ar", None) if first.is_none() => Self::Found(Spelling::Words, None),
            ("rj", None) if first.is_none() => Self::NoRoom,
            ("rj", None) if first == Some(CLEAR_PEERS) => Self::ClearPeers,
            ("ar", Some(port)) if third.is_none() => Self::Found(Spelling::Words, Some(place(first?, port)?)),
            ("rj", Some(port)) if third.is_none() => Self::Peer(place(first?, port)?),
            _ => return None,
        })
    }

    /// The datagram.
    pub fn spell(&self) -> String {
        let word = |word: &str, name: &Option<String>| match name {
            Some(name) => format!("{word} {name}"),
            None => word.to_owned(),
        };
        let code = |code: &str, name: &Option<String>| format!("{code}:{}", name.as_deref().unwrap_or_default());
        match self {
            Self::Registered(Spelling::Codes, name) => code("LIN", name),
            Self::Registered(Spelling::Words, name) => word("hi", name),
            Self::Found(Spelling::Codes, at) => code("PIN", &at.map(|at| format!("{}_{}", at.ip(), at.port()))),
            Self::Found(Spelling::Words, at) => word("ar", &at.map(|at| format!("{} {}", at.ip(), at.port()))),
            Self::Left => "by".to_owned(),
            Self::User(name) => word("ul", name),
            Self::Room(name) => word("rl", name),
            Self::RoomCreated(name) => word("rc", name),
            Self::NoRoom => "rj".to_owned(),
            Self::ClearPeers => format!("rj {CLEAR_PEERS}"),
            Self::Peer(at) => format!("rj {} {}", at.ip(), at.port()),
            Self::RoomLeft => "rk".to_owned(),
            Self::Groups(names) => format!("GTA:{}", names.join("_")),
            Self::GroupCreated(name) => code("GCR", name),
            Self::Group(at) => code("GRI", &at.map(|at| format!("{}_{}", at.ip(), at.port()))),
        }
    }
}

impl Talk {
    /// Reads what another client sent. Texts are kept as typed, but for one line end.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        Some(match shape(bytes)? {
            Shape::Code("PTP", name) => Self::Hello(Spelling::Codes, named(name)?),
            Shape::Code("WHO", name) => Self::Who(named(name)?),
            Shape::Code("IAM", name) => Self::Here(named(name)?),
            Shape::Code("MSG", text) => Self::Said { spelling: Spelling::Codes, from: None, text: text.to_owned() },
            Shape::Word("pk", name) => Self::Hello(Spelling::Words, named(name)?),
            Shape::Word("msg", said) => {
                let head = said.split_once("> ").or_else(|| said.strip_suffix('>').map(|name| (name, "")));
                let head = head.filter(|(name, _)| !name.is_empty() && !name.contains(char::is_whitespace));
                let (from, text) = head.map_or((None, said), |(name, text)| (Some(name.to_owned()), text));
                Self::Said { spelling: Spelling::Words, from, text: text.to_owned() }
            }
            _ => return None,
        })
    }

    /// The datagram.
    pub fn spell(&self) -> String {
        match self {
            Self::Hello(Spelling::Codes, name) => format!("PTP:{name}"),
            Self::Hello(Spelling::Words, name) => format!("pk {name}"),
            Self::Said { spelling: Spelling::Codes, text, .. } => format!("MSG:{text}"),
            Self::Said { spelling: Spelling::Words, from: Some(from), text } => format!("msg {from}> {text}"),
            Self::Said { spelling: Spelling::Words, from: None, text } => format!("msg {text}"),
            Self::Who(name) => format!("WHO:{name}"),
            Self::Here(name) => format!("IAM:{name}"),
        }
    }
}

/// An address and a port as words; an IPv4 address in IPv6 clothes is one of IPv4.
fn place(address: &str, port: &str) -> Option<SocketAddr> {
    let address: IpAddr = address.parse().ok()?;
    Some(SocketAddr::new(address.to_canonical(), port.parse().ok()?))
}

/// Why something cannot be registered under this name or at this place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadWord {
    /// It is no legal name; a colon would end it in one of the spellings.
    Name,
    /// The same for a group, where an underscore would too.
    GroupName,
    /// A room cannot be called so.
    RoomName,
    /// The address is none of IPv4 multicast.
    Address,
    /// The port is no number from [`GROUP_PORT_MIN`] on.
    Port,
}

impl fmt::Display for BadWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "a name has 1 to 32 printable ASCII characters, no space and no colon",
            Self::GroupName => "a group's name has 1 to 32 printable ASCII characters, no space, colon or underscore",
            Self::RoomName => "a room's name has 1 to 32 printable ASCII characters and no space",
            Self::Address => {
                "the address of a group is from 224.0.0.0 to 239.255.255.255, at best 239.x.x.x: no router passes it on"
            }
            Self::Port => "the port of a group is a number from 1025 to 65535",
        })
    }
}

/// A word as a user's name.
pub fn user_name(word: &str) -> Result<UserName, BadWord> {
    UserName::parse(word).ok().filter(|_| !word.contains(':')).ok_or(BadWord::Name)
}

/// A word as a room's name.
pub fn room_name(word: &str) -> Result<UserName, BadWord> {
    UserName::parse(word).ok().filter(|_| word != CLEAR_PEERS).ok_or(BadWord::RoomName)
}

/// A word as a multicast group's name.
pub fn group_name(word: &str) -> Result<UserName, BadWord> {
    UserName::parse(word).ok().filter(|_| !word.contains([':', '_'])).ok_or(BadWord::GroupName)
}

/// Two words as the place where a multicast group meets.
pub fn group_place(address: &str, port: &str) -> Result<SocketAddrV4, BadWord> {
    let address: Ipv4Addr = address.parse().map_err(|_| BadWord::Address)?;
    if !address.is_multicast() {
        return Err(BadWord::Address);
    }
    let port = port.parse().ok().filter(|port| *port >= GROUP_PORT_MIN).ok_or(BadWord::Port)?;
    Ok(SocketAddrV4::new(address, port))
}

/// Packs names into as few answers as they fit; one without names if there are none.
pub fn group_tables<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<Answer> {
    const HEAD_BYTES: usize = "GTA:".len();
    let mut tables = Vec::new();
    let (mut table, mut bytes) = (Vec::new(), HEAD_BYTES);
    for name in names {
        if bytes + name.len() > DATAGRAM_BYTES_MAX {
            tables.push(Answer::Groups(std::mem::take(&mut table)));
            bytes = HEAD_BYTES;
        }
        bytes += name.len() + 1;
        table.push(name.to_owned());
    }
    if !table.is_empty() || tables.is_empty() {
        tables.push(Answer::Groups(table));
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(place: &str) -> SocketAddr {
        place.parse().expect("an address")
    }

    /// Every datagram that a client can send to a server, byte for byte.
    #[test]
    fn golden_questions() {
        use Spelling::{Codes, Words};
        let word = |word: &str| word.to_owned();
        let group = |name: &str, address: &str, port: &str| Ask::CreateGroup {
            name: word(name),
            address: word(address),
            port: word(port),
        };
        for (bytes, ask) in [
            ("REG:anna", Ask::Register(Codes, word("anna"))),
            ("REQ:Bernd", Ask::Find(Codes, word("Bernd"))),
            ("GRP:", Ask::Groups),
            ("CGR:lab_239.1.2.3_5000", group("lab", "239.1.2.3", "5000")),
            ("GAC:lab", Ask::FindGroup(word("lab"))),
            ("hi anna", Ask::Register(Words, word("anna"))),
            ("ar Bernd", Ask::Find(Words, word("Bernd"))),
            ("ul", Ask::Users),
            ("rl", Ask::Rooms),
            ("rc lab", Ask::CreateRoom(word("lab"))),
            ("rj lab", Ask::JoinRoom(word("lab"))),
            ("rk", Ask::LeaveRoom),
            ("by", Ask::Leave),
        ] {
            assert_eq!(ask.spell(), bytes);
            for sent in [bytes.to_owned(), format!("{bytes}\n"), format!("{bytes}\r\n")] {
                assert_eq!(Ask::parse(sent.as_bytes()), Some(ask.clone()), "{sent:?}");
            }
        }
        assert_eq!(Ask::parse(b"REG: a:b \n"), Some(Ask::Register(Codes, word("a:b"))), "the first colon splits");
        assert_eq!(Ask::parse(b"CGR:a_b"), Some(group("a", "b", "")));
        assert_eq!(Ask::parse(b"CGR:a_b_c_d"), Some(group("a", "b", "c_d")));
    }

    /// The same for what a server sends.
    #[test]
    fn golden_answers() {
        use Spelling::{Codes, Words};
        let name = || Some("anna".to_owned());
        let here = Some(at("192.0.2.7:2021"));
        let group = Some("239.1.2.3:5000".parse().expect("an address"));
        for (bytes, answer) in [
            ("LIN:anna", Answer::Registered(Codes, name())),
            ("LIN:", Answer::Registered(Codes, None)),
            ("PIN:192.0.2.7_2021", Answer::Found(Codes, here)),
            ("PIN:::1_2021", Answer::Found(Codes, Some(at("[::1]:2021")))),
            ("PIN:", Answer::Found(Codes, None)),
            ("GTA:a_b_c", Answer::Groups(["a", "b", "c"].map(str::to_owned).to_vec())),
            ("GTA:", Answer::Groups(Vec::new())),
            ("GCR:anna", Answer::GroupCreated(name())),
            ("GCR:", Answer::GroupCreated(None)),
            ("GRI:239.1.2.3_5000", Answer::Group(group)),
            ("GRI:", Answer::Group(None)),
            ("hi anna", Answer::Registered(Words, name())),
            ("hi", Answer::Registered(Words, None)),
            ("ar 192.0.2.7 2021", Answer::Found(Words, here)),
            ("ar", Answer::Found(Words, None)),
            ("ul anna", Answer::User(name())),
            ("ul", Answer::User(None)),
            ("rl anna", Answer::Room(name())),
            ("rl", Answer::Room(None)),
            ("rc anna", Answer::RoomCreated(name())),
            ("rc", Answer::RoomCreated(None)),
            ("rj", Answer::NoRoom),
            ("rj __clear_peers__", Answer::ClearPeers),
            ("rj 192.0.2.7 2021", Answer::Peer(at("192.0.2.7:2021"))),
            ("rk", Answer::RoomLeft),
            ("by", Answer::Left),
        ] {
            assert_eq!(answer.spell(), bytes);
            assert_eq!(Answer::parse(bytes.as_bytes()), Some(answer), "{bytes}");
        }
    }

    /// And for what clients say to each other. A text keeps its colons and its blanks.
    #[test]
    fn golden_talk() {
        use Spelling::{Codes, Words};
        let said = |spelling, from: Option<&str>, text: &str| Talk::Said {
            spelling,
            from: from.map(str::to_owned),
            text: text.to_owned(),
        };
        for (bytes, talk) in [
            ("PTP:anna", Talk::Hello(Codes, "anna".to_owned())),
            ("pk anna", Talk::Hello(Words, "anna".to_owned())),
            ("MSG: two  blanks: and colons ", said(Codes, None, " two  blanks: and colons ")),
            ("MSG:", said(Codes, None, "")),
            ("msg anna> two  blanks> and more ", said(Words, Some("anna"), "two  blanks> and more ")),
            ("msg anna> ", said(Words, Some("anna"), "")),
            ("msg nobody says this", said(Words, None, "nobody says this")),
            ("WHO:anna", Talk::Who("anna".to_owned())),
            ("IAM:anna", Talk::Here("anna".to_owned())),
        ] {
            assert_eq!(talk.spell(), bytes);
            assert_eq!(Talk::parse(bytes.as_bytes()), Some(talk), "{bytes}");
        }
        assert_eq!(
            Talk::parse(b"MSG:one\n\n"),
            Some(said(Codes, None, "one\n")),
            "one line end belongs to the datagram"
        );
        assert_eq!(Talk::parse(b"msg anna>"), Some(said(Words, Some("anna"), "")));
    }

    #[test]
    fn a_server_hears_no_answers_and_nobody_hears_nonsense() {
        for answer in ["LIN:anna", "PIN:", "GTA:a_b", "GCR:", "GRI:", "PTP:anna", "MSG:hi", "WHO:anna", "IAM:anna"]
            .into_iter()
            .chain(["hi", "ar", "ar 192.0.2.7 2021", "ul anna", "rl lab", "rc", "rj", "rj __clear_peers__"])
            .chain(["rj 192.0.2.7 2021", "pk anna", "msg anna> hi", "by anna", "rk lab", "hi two names"])
        {
            assert_eq!(Ask::parse(answer.as_bytes()), None, "{answer}");
        }
        let long = format!("REG:{}", "x".repeat(DATAGRAM_BYTES_MAX));
        for nonsense in ["", "\n", ":", "REG", "reg:anna", "REGI:anna", "HI anna", " hi anna", "x", "hello there"]
            .into_iter()
            .chain(["RE\u{c4}:x", &long])
        {
            let bytes = nonsense.as_bytes();
            assert_eq!((Ask::parse(bytes), Answer::parse(bytes), Talk::parse(bytes)), (None, None, None), "{nonsense}");
        }
        assert_eq!(Ask::parse(b"REG:\xff"), None);
        for bad in
            ["PIN:x", "PIN:1.2.3.4", "PIN:1.2.3.4_65536", "GRI:::1_5000", "ar 1.2.3.4", "rj x 1", "ar 1.2.3.4 5 6"]
        {
            assert_eq!(Answer::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn places_and_names_say_what_is_wrong_with_them() {
        assert_eq!(group_place("239.1.2.3", "5000").map(|place| place.to_string()).as_deref(), Ok("239.1.2.3:5000"));
        for address in ["192.0.2.7", "240.0.0.1", "223.255.255.255", "ff02::1", "localhost", ""] {
            assert_eq!(group_place(address, "5000"), Err(BadWord::Address), "{address}");
        }
        for port in ["1024", "65536", "0", "-1", "x", ""] {
            assert_eq!(group_place("224.0.0.0", port), Err(BadWord::Port), "{port}");
        }
        assert_eq!(user_name("a:b"), Err(BadWord::Name));
        assert_eq!(group_name("a_b"), Err(BadWord::GroupName));
        assert_eq!(room_name(CLEAR_PEERS), Err(BadWord::RoomName));
        assert!(user_name("a_b").is_ok() && room_name("a:b").is_ok() && group_name("a-b").is_ok());
    }

    #[test]
    fn a_long_table_of_groups_is_several_datagrams() {
        let names: Vec<String> = (0..200).map(|n| format!("group-number-{n}")).collect();
        let tables = group_tables(names.iter().map(String::as_str));
        let mut all = Vec::new();
        for table in &tables {
            assert!(table.spell().len() <= DATAGRAM_BYTES_MAX);
            let Answer::Groups(some) = table else { panic!("{table:?}") };
            all.extend(some.clone());
        }
        assert_eq!(all, names);
        assert_eq!(tables.len(), names.iter().map(|name| name.len() + 1).sum::<usize>().div_ceil(1020));
        assert_eq!(group_tables([]), [Answer::Groups(Vec::new())]);
    }

    fn spelling() -> impl Strategy<Value = Spelling> {
        prop_oneof![Just(Spelling::Codes), Just(Spelling::Words)]
    }

    fn word() -> impl Strategy<Value = String> {
        "[!-~&&[^:_>]]{1,32}"
    }

    fn anywhere() -> impl Strategy<Value = SocketAddr> {
        (any::<IpAddr>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip.to_canonical(), port))
    }

    proptest! {
        #[test]
        fn what_is_spelled_is_read_again(
            spelling in spelling(), name in word(), names in prop::collection::vec(word(), 0..20),
            place in anywhere(), text in "[^\n\r]{0,200}", known: bool, kind in 0..12,
        ) {
            let some = known.then(|| name.clone());
            let ask = match kind {
                0 => Ask::Register(spelling, name.clone()),
                1 => Ask::Find(spelling, name.clone()),
                2 => Ask::FindGroup(name.clone()),
                3 => Ask::CreateRoom(name.clone()),
                4 => Ask::JoinRoom(name.clone()),
                _ => Ask::CreateGroup { name: name.clone(), address: "239.0.0.1".to_owned(), port: "5000".to_owned() },
            };
            prop_assert_eq!(Ask::parse(ask.spell().as_bytes()), Some(ask));
            let answer = match kind {
                0 => Answer::Registered(spelling, some),
                1 => Answer::Found(spelling, known.then_some(place)),
                2 => Answer::User(some),
                3 => Answer::Room(some),
                4 => Answer::RoomCreated(some),
                5 => Answer::Peer(place),
                6 => Answer::GroupCreated(some),
                _ => Answer::Groups(names),
            };
            prop_assert_eq!(Answer::parse(answer.spell().as_bytes()), Some(answer));
            let talk = match kind {
                0 => Talk::Hello(spelling, name),
                1 => Talk::Who(name),
                2 => Talk::Here(name),
                _ if spelling == Spelling::Codes => Talk::Said { spelling, from: None, text },
                _ => Talk::Said { spelling, from: Some(name), text },
            };
            prop_assert_eq!(Talk::parse(talk.spell().as_bytes()), Some(talk));
        }

        #[test]
        fn any_bytes_are_read_or_not_and_never_answered_as_an_answer(
            bytes in prop::collection::vec(prop_oneof![Just(b':'), Just(b' '), Just(b'_'), b'A'..=b'Z', b'a'..=b'z', any::<u8>()], 0..64),
        ) {
            for read in [Ask::parse(&bytes).map(|ask| ask.spell()), Talk::parse(&bytes).map(|talk| talk.spell())] {
                // What was read is spelled in at most the same room, up to a blank.
                prop_assert!(read.is_none_or(|again| again.len() <= bytes.len() + 2));
            }
            let _ = Answer::parse(&bytes);
        }
    }
}
