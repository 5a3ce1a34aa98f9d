//! Who refuses whom. One-directional; kept on disk; the blocked user is not told.

use super::dialogue::shown;
use super::journal::Promise;
use super::roster::UserId;
use super::{ConnId, Record, State};
use crate::wire::Refusal;

impl State {
    /// `block <user>` and, with `blocked` false, `unblock <user>`.
    pub(super) fn block(&mut self, conn: ConnId, by: UserId, word: &str, blocked: bool) {
        let verb = if blocked { "block" } else { "unblock" };
        let Some(whom) = self.target(conn, by, word, verb) else { return };
        let name = self.roster[whom].name.clone();
        match (self.roster[by].blocks.contains(&whom), blocked) {
            (true, true) => return self.refuse(conn, Refusal::AlreadyBlocked(name)),
            (false, false) => return self.refuse(conn, Refusal::NotBlocked(name)),
            _ if self.journal.is_full() => return self.refuse(conn, Refusal::Busy),
            _ => {}
        }
        self.roster[by].set_blocked(whom, blocked);
        if blocked {
            self.distrust(by, whom);
        }
        let (by_name, whom_name) = (self.roster[by].name.clone(), name);
        let record = if blocked {
            Record::Block { by: by_name, whom: whom_name }
        } else {
            Record::Unblock { by: by_name, whom: whom_name }
        };
        let line = self.line_pending(by);
        self.store(record, Some(conn), line, Promise::Block { by, whom, blocked });
    }

    /// The user that `word` names, unless it is nobody or the asker; then the asker is told.
    pub(super) fn target(&mut self, conn: ConnId, asker: UserId, word: &str, verb: &'static str) -> Option<UserId> {
        match self.roster.find_for(asker, word) {
            None => {
                self.refuse(conn, Refusal::InvalidUser(shown(word)));
                None
            }
            Some(user) if user == asker => {
                self.refuse(conn, Refusal::Yourself(verb));
                None
            }
            found => found,
        }
    }
}
