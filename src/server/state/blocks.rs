//! Who refuses whom. One-directional; kept on disk; the blocked user is not told.

use super::dialogue::shown;
use super::journal::Promise;
use super::roster::UserId;
use super::{ConnId, Record, State};
use crate::wire::Refusal;

impl State {
    pub(super) fn block(&mut self, conn: ConnId, by: UserId, word: &str) {
        let Some(whom) = self.target(conn, by, word, "block") else { return };
        if self.roster[by].blocks.contains(&whom) {
            let name = self.roster[whom].name.clone();
            return self.refuse(conn, Refusal::AlreadyBlocked(name));
        }
        if self.journal.is_full() {
            return self.refuse(conn, Refusal::Busy);
        }
        self.roster[by].blocks.insert(whom);
        let record = Record::Block { by: self.roster[by].name.clone(), whom: self.roster[whom].name.clone() };
        let line = self.line_pending(by);
        self.store(record, Some(conn), line, Promise::Block { by, whom });
    }

    pub(super) fn unblock(&mut self, conn: ConnId, by: UserId, word: &str) {
        let Some(whom) = self.target(conn, by, word, "unblock") else { return };
        if !self.roster[by].blocks.contains(&whom) {
            let name = self.roster[whom].name.clone();
            return self.refuse(conn, Refusal::NotBlocked(name));
        }
        if self.journal.is_full() {
            return self.refuse(conn, Refusal::Busy);
        }
        self.roster[by].blocks.remove(&whom);
        let record = Record::Unblock { by: self.roster[by].name.clone(), whom: self.roster[whom].name.clone() };
        let line = self.line_pending(by);
        self.store(record, Some(conn), line, Promise::Unblock { by, whom });
    }

    /// The user that `word` names, unless it is nobody or the asker; then the asker is told.
    pub(super) fn target(&mut self, conn: ConnId, asker: UserId, word: &str, verb: &'static str) -> Option<UserId> {
        match self.roster.find(word) {
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
