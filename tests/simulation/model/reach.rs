//! Which rules a seed has come to: a rule that is hardly ever reached is hardly ever checked.

use super::Model;

macro_rules! rules {
    ($($name:ident: $what:literal,)*) => {
        /// A rule that a test wants to be reached.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Rule {
            $(#[doc = $what] $name,)*
        }

        /// All of them, each with what it is.
        pub(crate) const RULES: &[(Rule, &str)] = &[$((Rule::$name, $what)),*];
    };
}

rules! {
    Created: "a group is created",
    CreatedByDialogue: "a group is created by question and answer",
    Added: "members are added",
    Kicked: "members are removed",
    Renamed: "a group gets another name",
    HandedOver: "a group gets another owner",
    LeftGroup: "a member leaves",
    Deleted: "a group is deleted",
    OwnerStays: "an owner who may not leave",
    NotOwner: "somebody who is not the owner manages",
    NotMember: "somebody who is no member speaks",
    NameTaken: "a name that a group has already",
    NameSkipped: "a name in a list is skipped with its line",
    NoGroupYet: "a command for the group last used, and there is none",
    LastGroup: "a command for the group last used",
    GroupRefused: "the disk refuses a change of a group",
    GroupsAfterCrash: "groups come back after a crash",
    NewsKept: "news of a group is kept from one who blocks its author",
    GroupText: "a group text to members who are here",
    GroupTextStored: "a group text is stored for a member who is away",
    GroupTextSkipped: "a member who blocks the sender gets no group text",
    GeneralText: "a general text to others who are here",
    GeneralStored: "a general text is stored",
    GeneralSkipped: "who blocks the sender gets no general text",
    DirectText: "user~text",
    SecondTilde: "a text with a tilde in it",
    WrongForm: "a line that is not name~text",
    SlashText: "two slashes send one",
    Exit: "/exit goes back to a mode that is not command mode",
    NoMode: "/exit in command mode",
    ModeTakenOver: "a mode moves to a new link",
    LedBack: "a line of our client means in a new session what it meant when it was typed",
    Sent: "the sender is told that his text is on its way",
    Delivered: "the sender is told that it is delivered",
    SeenByOurs: "the sender is told that our client has shown it",
    SeenByNetcat: "the sender is told that netcat has got it",
    NotWhileFull: "no receipt while the reader's socket is full",
    NotBehindPlace: "no receipt while an answer before it waits for the disk",
    ShownBefore: "a receipt for what our client had shown before it came back",
    MeanwhileKept: "a receipt is kept for a sender who has gone",
    MeanwhileTold: "a receipt that had waited is told",
    MeanwhileAfterCrash: "a receipt that had waited survives a crash",
    MeanwhileForgotten: "a receipt that was told is forgotten",
    MeanwhileBack: "a receipt that was told to a link which then broke waits again",
    MeanwhileRefused: "the disk refuses to keep or forget a receipt",
    LineKnown: "a line that comes again after a crash is known by its stored text",
    FramedReplaced: "a framed log-in replaces a framed session",
    LineReplaced: "a framed log-in replaces a line session",
    LogInHungUp: "a framed log-in breaks off before it is complete",
    StrangerCounted: "a framed log-in with a name that does not exist",
    FramedLocked: "a framed log-in while the name is locked",
    ForeignAddress: "a framed client says that it listens where it does not call from",
    DeadToken: "a request with a token that is dead",
    FellSilent: "a framed user gives no sign of life for too long",
    PushFailed: "a push fails and logs its user out",
    PushDoubtful: "a text is pushed without a proper end",
    PushedAgain: "a text that was pushed without a proper end arrives with its mark",
    ReturnedToMailbox: "texts that were not pushed wait in the mailbox",
    ReturnedToNext: "texts that were not pushed come to the next session",
    ReturnRefused: "the disk refuses to take back what was not pushed",
    AddressGiven: "a framed user learns where another listens",
    OtherSource: "the pool of those who wait to log in is full, and another source is busier",
}

/// The rules a seed has come to.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Reached(u128);

impl Reached {
    pub(crate) fn has(self, rule: Rule) -> bool {
        self.0 & (1 << rule as u64) != 0
    }
}

impl Model {
    pub(super) fn reach(&mut self, rule: Rule) {
        self.reached.0 |= 1 << rule as u64;
    }
}
