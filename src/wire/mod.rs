//! Words: all that can be asked ([`Request`]) and all that can be told ([`Notice`]), and how
//! bytes become the one and the other becomes bytes. Pure: no socket, file, thread or clock.

pub mod chunks;
pub mod command;
pub mod control;
pub mod datagram;
pub mod framed;
pub mod line;
pub mod name;
pub mod peer;
pub mod text;
pub mod time;

use std::net::SocketAddr;

use chunks::{ChunkSet, Digest};
use command::Command;
use name::{FileName, GroupName, NameError, Text, UserName};

/// What a logged-in user asks for. User names are still words: whether they exist is a rule.
#[allow(missing_docs, reason = "the line of a variant speaks of its fields too")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request<'a> {
    /// `message <user> <text>`
    Message { to: &'a str, text: &'a str },
    /// `broadcast <text>`
    Broadcast { text: &'a str },
    /// `whoelse`, also `online`
    WhoElse,
    /// `whoelsesince <seconds>`, in milliseconds; a huge number is as good as "ever"
    WhoElseSince { millis: i64 },
    /// `block <user>`
    Block { user: &'a str },
    /// `unblock <user>`
    Unblock { user: &'a str },
    /// `status <user>`
    Status { user: &'a str },
    /// `receipts [on|off]`; `None` asks
    Receipts { on: Option<bool> },
    /// `group <what> <group> ...`
    Group { group: &'a str, act: GroupAct<'a> },
    /// `/add`, `/kick`, `/rename`, `/members`: the group may be left out of the words
    InGroup { verb: GroupVerb, words: &'a str },
    /// `groups`
    Groups,
    /// `/general`, `/direct`, `/group`
    Enter(Mode),
    /// `/exit`
    Exit,
    /// `help [command]`
    Help { topic: Option<&'a str> },
    /// `logout`, also `leave`
    Logout,
    /// `startprivate <user>`, also carried out by the server
    StartPrivate { user: &'a str },
    /// `private <user> <text>`, carried out by the client program
    Private { to: &'a str, text: &'a str },
    /// `stopprivate <user>`, carried out by the client program
    StopPrivate { user: &'a str },
    /// `getaddress <user>`
    GetAddress { user: &'a str },
    /// `allow <user>`
    Allow { user: &'a str },
    /// `deny <user>`
    Deny { user: &'a str },
    /// `register <file> <chunks>`, carried out by the client program; at least one chunk, and a
    /// huge number is as good as too many
    Register { file: &'a str, chunks: u32 },
    /// `searchFile <file>`
    SearchFile { file: &'a str },
    /// `searchChunk <file> <chunk...>`: words with blanks between
    SearchChunk { file: &'a str, chunks: &'a str },
    /// `download <file> [chunk...]`, carried out by the client program
    Download { file: &'a str, chunks: &'a str },
}

/// What is to be done with a group. Several names stand in one string with blanks between.
#[allow(missing_docs, reason = "the names of the variants are the words of the commands")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupAct<'a> {
    Create { users: &'a str },
    Add { users: &'a str },
    Kick { users: &'a str },
    Rename { to: &'a str },
    Owner { user: &'a str },
    Members,
    Send { text: &'a str },
    Leave,
    Delete,
}

/// The commands that act on the group last used.
#[allow(missing_docs, reason = "the names of the variants are the words of the commands")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupVerb {
    Add,
    Kick,
    Rename,
    Members,
}

/// What a typed line means in a session (the Aalto system's modes).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A line is a command: the start of every session.
    Command,
    /// A line is a text to everybody.
    General,
    /// A line is `user~text`.
    Direct,
    /// A line is `group~text`, or answers a question about a new group.
    Group,
}

/// What the group mode asks, step by step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// Whether to create a group.
    Create,
    /// Its name.
    Name,
    /// Its members.
    Members,
}

/// Everything the server can tell one connection. [`text::Speller`] knows the words.
#[allow(missing_docs, reason = "the line of a variant speaks of its fields too")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    // Between our two programs.
    /// The answer to our client's first line: which store the numbers belong to.
    Hello { store: Text },
    /// The line with this tag has been carried out; its answers came before.
    Done(Tag),
    /// The answer to `PING`.
    Pong,

    // Logging in.
    /// The prompt for a name; no line end.
    AskName,
    /// The prompt for a password; no line end.
    AskPassword,
    /// The name is free and may be taken with the password that comes next.
    NewUser(UserName),
    /// `tries` passwords are left.
    WrongPassword { tries: u8 },
    /// The last try failed: the name is locked for so many seconds (0: there is no lockout).
    JustLocked { seconds: i64 },
    /// The name is locked for so many more seconds.
    StillLocked { seconds: i64 },
    /// Logged in elsewhere; the other session spoke so many milliseconds ago.
    AlreadyOnline { user: UserName, idle: i64 },
    /// Logged in; our client is also told how to resume.
    Welcome { user: UserName, pass: Option<Pass> },

    // The end of a connection.
    /// Ends the line of a prompt to which no answer is awaited any more.
    PromptEnd,
    /// The answer to `logout`.
    Goodbye,
    /// No valid command for so many seconds.
    TimedOut { seconds: i64 },
    /// A framed client gave no sign of life for so many seconds.
    FellSilent { seconds: i64 },
    /// The user has logged in from another place, with a framed client.
    TakenOver,
    /// Not logged in within the time for it.
    LoginTimedOut,
    /// The server stops.
    Stopping,
    /// No room for one more connection.
    Full,
    /// Dropped for a newer one while too many connections wait to log in.
    Crowded,
    /// More output waits than the server keeps for one client.
    TooSlow,
    /// Three unknown names in a row.
    TooManyNames,

    // Talk.
    /// What one user says to another.
    Said(Letter),
    /// So many stored messages follow.
    Waiting { count: u32 },
    /// A message was stored for an absent user, last online at that moment.
    Stored { to: UserName, seen: Option<Ago> },
    /// Somebody did not get it, because somebody blocks the sender.
    SomeSkipped,
    /// Somebody will not get it, because his mailbox is full.
    SomeFull,
    /// A group text was sent to some and stored for others, each last online at that moment.
    StoredInGroup { group: GroupName, here: Vec<UserName>, away: Vec<(UserName, Option<Ago>)> },
    /// The server has accepted a text.
    Sent,
    /// A text was written to these users' connections.
    Delivered(Readers),
    /// A text was shown to these users.
    Seen(Readers),
    /// `texts` texts were shown to a user while their sender was away; the last of them was sent
    /// and seen then, in milliseconds since 1970, UTC.
    SeenMeanwhile { by: UserName, texts: u32, sent: i64, seen: i64 },
    /// More users read what somebody had sent than receipts may wait for him.
    ReceiptsDropped { max: usize },
    /// Somebody logged in.
    Arrived(UserName),
    /// Somebody left, in whatever way.
    Left(UserName),

    // Answers.
    /// A page of names, one per line.
    Names(Vec<UserName>),
    /// The list is empty.
    Nobody,
    /// `block` is done.
    Blocked(UserName),
    /// `unblock` is done.
    Unblocked(UserName),
    /// `status` of somebody who is here: since when, and silent for so many milliseconds.
    Online { user: UserName, since: Ago, idle: i64 },
    /// `status` of somebody who was here.
    Offline { user: UserName, seen: Ago },
    /// `status` of somebody who never was.
    NeverOnline(UserName),
    /// Whether the session's texts bring receipts.
    Receipts { on: bool },
    /// A page of the user's groups, one per line.
    Groups(Vec<Membership>),
    /// The user is in no group.
    NoGroups,
    /// Who is in a group.
    Members { owner: UserName, members: Vec<UserName> },
    /// Something happened to a group, by the doing of `by`.
    Group { group: GroupName, by: UserName, news: News },
    /// What lines mean from now on.
    Mode(Mode),

    // From client to client. Those that name a ticket, and those about a manifest, have no form
    // for people.
    /// The other side is there: it may be dialled, with this ticket.
    Peer { user: UserName, at: SocketAddr, ticket: Ticket, purpose: Purpose },
    /// This user may connect with this ticket.
    Expect { user: UserName, ticket: Ticket, purpose: Purpose },
    /// The answer to `DIAL` if there is no ticket.
    NoPeer { user: UserName, purpose: Purpose, why: WhyNot },
    /// This user has allowed it: he may be dialled with this ticket, and more tickets are to be had.
    Address { user: UserName, at: SocketAddr, ticket: Ticket },
    /// Somebody wants to know where we can be dialled.
    AsksAddress(UserName),
    /// Somebody wants a private session.
    AsksPrivate(UserName),
    /// The other is asked.
    RequestSent(UserName),
    /// The answer to `allow`.
    Allowed(UserName),
    /// The other has said no.
    Declined(UserName),
    /// The answer to `deny`.
    Denied(UserName),
    /// The server knows the file now, and who has it.
    Registered { file: FileName, chunks: u32 },
    /// Somebody online has chunks of the file; who and which follows.
    Available { file: FileName, bytes: u64, chunks: u32 },
    /// The answer to a search: a user with chunks of the file; some of them, lines add up.
    Has { file: FileName, user: UserName, chunks: ChunkSet },
    /// Nobody online has the file, or those chunks of it.
    NotAvailable { file: FileName, of_chunks: bool },
    /// The answer to `WANT`; the hashes of all chunks follow.
    Manifest { file: FileName, chunks: u32, bytes: u64, digest: Digest },
    /// Hashes of chunks, from this one on.
    ChunkHashes { file: FileName, first: u32, hashes: Vec<Digest> },
    /// A user who can be dialled for chunks of the file; some of them, lines add up.
    Holder { file: FileName, user: UserName, chunks: ChunkSet },
    /// The end of the answer to `WANT`.
    ManifestEnd(FileName),
    /// The end of the answer to `HOLDERS`.
    HoldersEnd(FileName),
    /// The group mode wants to know.
    Asked(Question),
    /// Every command, a line each.
    HelpAll,
    /// One command with its rule and an example.
    Help(&'static Command),
    /// Not done, and why.
    Refused(Refusal),
}

/// Why a request was not carried out.
#[allow(missing_docs, reason = "the line of a variant speaks of its fields too")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The command is right, its arguments are not.
    Usage(&'static Command),
    /// The first word is no command.
    InvalidCommand(Text),
    /// Typed into netcat, but only the client program can do it.
    NeedsClient(&'static str),
    /// No such account.
    InvalidUser(Text),
    /// An unknown name at login.
    UnknownUser,
    /// A new name that cannot be a user name.
    BadName(NameError),
    /// A new password that cannot be kept in Credentials.txt.
    BadPassword,
    /// No session to resume with this token: the password is needed.
    BadToken,
    /// Somebody else is just taking this new name.
    NameTaken,
    /// The new account could not be written.
    NoAccount,
    /// The target is oneself; the verb says of what.
    Yourself(&'static str),
    /// The recipient has blocked the sender.
    Blocked(UserName),
    /// `block` twice.
    AlreadyBlocked(UserName),
    /// `unblock` without a block.
    NotBlocked(UserName),
    /// The recipient's mailbox is full.
    MailboxFull(UserName),
    /// No group of that name.
    NoSuchGroup(Text),
    /// There is a group of that name.
    GroupExists(GroupName),
    /// A name that a group cannot have.
    BadGroupName,
    /// Only the owner may do that.
    NotOwner(GroupName),
    /// The user himself is not in the group.
    NotMember(GroupName),
    /// Somebody else is not in the group.
    NotInGroup { group: GroupName, user: UserName },
    /// The new member is in the group.
    AlreadyMember { group: GroupName, user: UserName },
    /// The new owner owns it.
    AlreadyOwner(GroupName),
    /// The new member has blocked who adds him.
    NotAdded(UserName),
    /// The owner cannot leave while others remain.
    OwnerStays(GroupName),
    /// The server has no room for one more group.
    GroupsFull { max: usize },
    /// The user owns as many groups as one may.
    OwnsTooMany { max: usize },
    /// The new owner owns as many groups as one may.
    HeOwnsTooMany { user: UserName, max: usize },
    /// The group would have too many members.
    GroupFull { group: GroupName, max: usize },
    /// Too many names in one command.
    NamesFull { max: usize },
    /// No group has been created or used in this session.
    NoGroupYet,
    /// In direct mode, a line that is not `user~text`.
    DirectForm,
    /// In group mode, a line that is not `group~text`.
    GroupForm,
    /// `/exit` in command mode.
    NoMode,
    /// The other is not here, and what was asked for cannot wait.
    Offline(UserName),
    /// The other cannot be dialled: no client program, or it takes no connections.
    NoPrivate(UserName),
    /// `getaddress`: unknown, offline, not to be dialled or blocking the asker, which is not told.
    CannotBeFound(Text),
    /// The other has too much to answer.
    RequestsFull { user: UserName, max: usize },
    /// `allow` or `deny`, but nobody of that name has asked.
    NoRequest(Text),
    /// `allow`, but who asked has gone.
    RequesterGone(UserName),
    /// A name that a shared file cannot have.
    BadFileName,
    /// `register` of a known file; with the same content, the user serves it from now on too.
    AlreadyRegistered { file: FileName, same: bool },
    /// Nobody has registered that file.
    NotRegistered(FileName),
    /// That word is no chunk of the file.
    NoChunk { file: FileName, word: Text },
    /// A manifest with too many or too few hashes, or in the wrong order.
    BadManifest(FileName),
    /// More chunks than a file may have.
    TooManyChunks { max: u32 },
    /// The server has no room for one more file.
    FilesFull { max: usize },
    /// The server has no room for so many more chunks.
    ChunksFull { max: u32 },
    /// The user has registered as many files as one may.
    OwnsTooManyFiles { max: usize },
    /// The files of the user would have more chunks than one may register.
    OwnsTooManyChunks { max: u32 },
    /// Too much waits for the disk.
    Busy,
    /// The disk refused.
    DiskFailed,
    /// A text over the limit for texts, in bytes; it came in a frame.
    TextTooLong { max: usize },
    /// A line over the limit, in bytes.
    LineTooLong { max: usize },
    /// A line that is not UTF-8.
    NotUtf8,
}

/// What lets our client come back without the password, once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Pass {
    /// Numbers the session, for the tags of its lines; rises with every log-in.
    pub session: u64,
    /// Known to this client alone.
    pub token: u128,
}

// By hand, so that no log line can ever show a token.
impl std::fmt::Debug for Pass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pass").field("session", &self.session).finish_non_exhaustive()
    }
}

/// What a connection from client to client is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// A private session.
    Private,
    /// Chunks of files.
    File,
}

/// Why there is no ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhyNot {
    /// The other is not here, or there is nobody of that name.
    Offline,
    /// The other has blocked the asker.
    Blocked,
    /// The other cannot be dialled.
    NoPort,
    /// The other has not allowed it.
    NotAllowed,
    /// The other has no chunk of any file.
    NoFile,
}

/// What two clients prove to each other that the server has introduced them. For one connection,
/// from the one who got it with an address to the one who was told to expect it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    /// Names the ticket; rises, and is never used again within a store.
    pub number: u64,
    /// Known to these two clients alone; the server forgets it.
    pub secret: u128,
}

// By hand, so that no log line can ever show a secret.
impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ticket").field("number", &self.number).finish_non_exhaustive()
    }
}

/// Names one line that our client sent: a line sent twice is carried out once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag {
    /// The session in which the line was sent first.
    pub session: u64,
    /// Counts the lines of that session.
    pub line: u64,
}

/// A moment in the past, for people: when by the wall clock, and how long ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ago {
    /// Milliseconds since 1970, UTC.
    pub wall: i64,
    /// Milliseconds that have passed since.
    pub millis: i64,
}

/// Whom a receipt speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readers {
    /// Some of them or all, sorted.
    pub names: Vec<UserName>,
    /// How many more there are.
    pub more: u32,
    /// How many texts they have all got.
    pub texts: u32,
}

/// A group, as one of its members sees it in his list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// Which group.
    pub group: GroupName,
    /// Whether it is his.
    pub owned: bool,
    /// How many members it has.
    pub members: u32,
}

/// What happened to a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// It was created, with these members besides the owner.
    Created(Vec<UserName>),
    /// These have become members.
    Added(Vec<UserName>),
    /// These are no members any more.
    Removed(Vec<UserName>),
    /// It has a new name.
    Renamed(GroupName),
    /// It has a new owner.
    Owned(UserName),
    /// Who did it has left the group.
    Left,
    /// It is gone.
    Deleted,
}

/// What one user said to others, on its way to one reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// Rises with every text of a store and is never used again; many may read one text.
    pub number: u64,
    /// Who said it.
    pub from: UserName,
    /// What was said.
    pub text: Text,
    /// When, in milliseconds since 1970, UTC.
    pub sent: i64,
    /// How it comes to the reader.
    pub road: Road,
    /// To whom it was said.
    pub scope: Scope,
    /// Whether the sender is still to be told that it was read.
    pub receipt: bool,
}

/// To whom a text is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// By `message` or `broadcast`: shown with the sender alone.
    Plain,
    /// In general mode.
    General,
    /// To the members of a group.
    Group(GroupName),
}

/// How a text came to its reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Road {
    /// At once: shown without a time.
    Live,
    /// By way of the mailbox: shown with the time it was sent.
    Mail,
    /// By way of the mailbox, and perhaps for the second time.
    Again,
}
