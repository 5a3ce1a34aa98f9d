//! Sessions of our client that outlive their connection: a token, used once, instead of the
//! password.
//!
//! 128 random bits, kept as a hash, bound to the user, new at every log-in and every resumption,
//! revoked by the next log-in with a password, by log-out and by time-out.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::dialogue::Stage;
use super::roster::UserId;
use super::{ConnId, Effect, Notice, Record, State, Timer, TokenHash};
use crate::wire::Pass;

impl State {
    /// `RESUME`: the link was dead, the client is not. It takes over where the old connection
    /// stands, also if the server has not noticed that this one is dead.
    pub(super) fn resume_session(&mut self, conn: ConnId, name: &str, token: u128, shown: u64) -> bool {
        let Some(user) = self.roster.find(name) else { return false };
        let fits = self.roster[user].token.is_some_and(|kept| kept.ct_eq(&hash(token)).into());
        if !fits {
            return false;
        }
        match self.roster[user].session {
            Some(old) => self.take_over(conn, old, user, shown),
            None => self.arrive(conn, user, shown),
        }
        true
    }

    /// Moves a visit to a new connection. Nobody else notices.
    fn take_over(&mut self, conn: ConnId, old: ConnId, user: UserId, shown: u64) {
        let Some(session) = self.sessions.get_mut(&old) else { return };
        self.timers.remove(&(session.silence, Timer::Silence(old)));
        let Stage::Online(mut visit) = std::mem::replace(&mut session.stage, Stage::Refused) else { return };
        self.effects.push(Effect::Close { conn: old, watch: false });
        // A page on its way to the old connection will not find it.
        visit.reading.ask_again();
        self.enter(conn, visit);
        self.roster[user].session = Some(conn);
        self.welcome(conn, user);
        self.seen(conn, shown);
        self.repeat_unconfirmed(conn);
        if self.visit(conn).is_some_and(|visit| visit.reading.is_first()) {
            self.effects.push(Effect::Pause(conn));
        }
        self.queue(conn);
    }

    /// Greets a user; our client also gets the means to resume.
    pub(super) fn welcome(&mut self, conn: ConnId, user: UserId) {
        let name = self.roster[user].name.clone();
        let is_ours = self.sessions.get(&conn).is_some_and(|session| session.is_ours);
        let pass = is_ours.then(|| {
            let session = self.next_number;
            self.next_number += 1;
            Pass { session, token: (self.random.0)() }
        });
        self.set_token(user, pass.map(|pass| hash(pass.token)));
        self.send(conn, Notice::Welcome { user: name, pass });
    }

    /// Keeps, replaces or revokes a token.
    pub(super) fn set_token(&mut self, user: UserId, token: Option<TokenHash>) {
        if self.roster[user].token != token {
            self.roster[user].token = token;
            let user = self.roster[user].name.clone();
            self.store_quietly(Record::Token { user, hash: token });
        }
    }
}

fn hash(token: u128) -> TokenHash {
    Sha256::digest(token.to_be_bytes()).into()
}
