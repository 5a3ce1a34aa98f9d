//! Sessions of our client that outlive their connection: a token, used once, instead of the
//! password.
//!
//! 128 random bits, kept as a hash, bound to the user, new at every log-in and every resumption,
//! revoked by the next log-in with a password, by log-out and by time-out. The link may die again
//! before the client has read its new token; so the one that it used lives until the client says
//! anything on the new connection.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::dialogue::Stage;
use super::roster::UserId;
use super::{ConnId, Effect, Notice, Record, State, Timer, TokenHash};
use crate::wire::Pass;

/// What resumes a user's session, hashed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tokens {
    /// The last one given out.
    pub latest: Option<TokenHash>,
    /// The one that was used to get it, until it is certain that it arrived.
    pub used: Option<TokenHash>,
}

impl Tokens {
    fn fitting(&self, token: u128) -> Option<TokenHash> {
        let hash = hash(token);
        [self.latest, self.used].into_iter().flatten().find(|kept| kept.ct_eq(&hash).into())
    }
}

impl State {
    /// `RESUME`: the link was dead, the client is not. It takes over where the old connection
    /// stands, also if the server has not noticed that this one is dead.
    pub(super) fn resume_session(&mut self, conn: ConnId, name: &str, token: u128, shown: u64) -> bool {
        let Some(user) = self.roster.find(name) else { return false };
        let Some(used) = self.roster[user].tokens.fitting(token) else { return false };
        match self.roster[user].session {
            Some(old) => self.take_over(conn, old, user, shown, used),
            None => self.arrive(conn, user, shown, Some(used)),
        }
        true
    }

    /// Moves a visit to a new connection. Nobody else notices.
    fn take_over(&mut self, conn: ConnId, old: ConnId, user: UserId, shown: u64, used: TokenHash) {
        let Some(session) = self.sessions.get_mut(&old) else { return };
        self.timers.remove(&(session.silence, Timer::Silence(old)));
        let Stage::Online(mut visit) = std::mem::replace(&mut session.stage, Stage::Refused) else { return };
        self.effects.push(Effect::Close { conn: old, watch: false });
        // A page on its way to the old connection will not find it.
        visit.reading.ask_again();
        visit.pong_due = false;
        visit.listing.take_if(|listing| listing.is_asked_again());
        if let Some(manifest) = visit.manifest.take() {
            self.tracker.release(user, &manifest);
        }
        self.enter(conn, visit);
        self.roster[user].session = Some(conn);
        self.welcome(conn, user, Some(used));
        self.tell_mode(conn);
        self.show_receipts(conn, user);
        self.seen(conn, shown);
        self.repeat_unconfirmed(conn);
        self.queue(conn);
    }

    /// Greets a user; our client also gets the means to resume.
    pub(super) fn welcome(&mut self, conn: ConnId, user: UserId, used: Option<TokenHash>) {
        let name = self.roster[user].name.clone();
        // A framed client has been welcomed with its own token already.
        if self.sessions.get(&conn).is_some_and(|session| session.post.is_some()) {
            return self.set_tokens(user, Tokens::default());
        }
        let is_ours = self.sessions.get(&conn).is_some_and(|session| session.is_ours);
        let pass = is_ours.then(|| {
            let session = self.next_number;
            self.next_number += 1;
            Pass { session, token: (self.random.0)() }
        });
        self.set_tokens(user, Tokens { latest: pass.map(|pass| hash(pass.token)), used });
        self.send(conn, Notice::Welcome { user: name, pass });
    }

    /// The client has spoken, so it has read its new token. The store need not hear of that: until
    /// the next token it may take the used one for good after a crash.
    pub(super) fn forget_used_token(&mut self, user: UserId) {
        self.roster[user].tokens.used = None;
    }

    /// Keeps, replaces or revokes what resumes a session.
    pub(super) fn set_tokens(&mut self, user: UserId, tokens: Tokens) {
        if self.roster[user].tokens != tokens {
            self.roster[user].tokens = tokens;
            let user = self.roster[user].name.clone();
            self.store_quietly(Record::Tokens { user, tokens });
        }
    }
}

pub(super) fn hash(token: u128) -> TokenHash {
    Sha256::digest(token.to_be_bytes()).into()
}
