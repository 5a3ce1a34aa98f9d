//! Words: all that can be asked ([`Request`]) and all that can be told ([`Notice`]), and how
//! bytes become the one and the other becomes bytes. Pure: no socket, file, thread or clock.

pub mod command;
pub mod control;
pub mod line;
pub mod name;
pub mod text;
pub mod time;

use command::Command;
use name::{GroupName, NameError, Text, UserName};

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
    /// A command that only the client program can carry out.
    ForClient { word: &'static str },
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
    /// Too much waits for the disk.
    Busy,
    /// The disk refused.
    DiskFailed,
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
