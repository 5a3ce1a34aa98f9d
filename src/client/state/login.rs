//! From the greeting to the welcome: who we are, by password or by token.

use super::talk::Pending;
use super::{Code, Effect, End, Phase, Question, STORE_BYTES_MAX, Shown, State};
use crate::wire::control::{self, Say};
use crate::wire::text::Speller;
use crate::wire::{Notice, Refusal, Request};

/// What a server sends before it can know that we are not netcat.
const PROMPT: &str = "Username: ";

impl State {
    pub(super) fn greet(&mut self) {
        self.phase = Phase::Greeting;
        self.say_and_wait(Say::Hello);
    }

    /// The first line: the answer to our greeting, or a refusal in words, because a server
    /// without room does not wait for a greeting.
    pub(super) fn hear_greeting(&mut self, line: &str) {
        let line = line.strip_prefix(PROMPT).unwrap_or(line);
        match control::decode(line) {
            Ok(Notice::Hello { store }) if store.as_str().len() <= STORE_BYTES_MAX => {
                self.phase = Phase::Trying { token: false };
                self.waiting_since = Some(self.now.elapsed);
                if self.store != store.as_str() {
                    self.meet_store(store.as_str());
                }
            }
            Ok(notice) if let Some(end) = End::by(&notice) => self.server_ends(notice, end),
            _ if line.is_empty() => self.waiting_since = Some(self.now.elapsed),
            _ => self.hear_words(line),
        }
    }

    /// What a server says that does not wait for a greeting.
    fn hear_words(&mut self, line: &str) {
        let endings = [Notice::Full, Notice::Crowded, Notice::Stopping, Notice::LoginTimedOut];
        let notice = endings.into_iter().find(|notice| in_words(notice) == line);
        match notice.and_then(|notice| Some((End::by(&notice)?, notice))) {
            Some((end, notice)) => self.server_ends(notice, end),
            None => self.end(End::not_understood(line)),
        }
    }

    /// Numbers and tags are those of one store.
    fn meet_store(&mut self, store: &str) {
        store.clone_into(&mut self.store);
        (self.taken, self.displayed) = (0, 0);
        self.on_the_way.clear();
        self.receipts_on_the_way.clear();
        self.receipts.clear();
        self.forget_groups();
        self.pending.iter_mut().for_each(|pending| pending.tag = None);
    }

    /// What the server says before the welcome.
    pub(super) fn hear_before(&mut self, notice: Notice) {
        match notice {
            Notice::AskName => self.answer_name(),
            Notice::AskPassword => self.answer_password(),
            Notice::Welcome { user, pass: Some(pass) } => self.arrive(user, pass),
            Notice::Refused(Refusal::BadToken) => self.not_resumed(),
            Notice::Refused(refusal) => {
                self.refused = true;
                if self.rules.errand.is_some() {
                    return self.end(End::refused(Code::LoginRefused, refusal));
                }
                self.show(Notice::Refused(refusal));
            }
            Notice::WrongPassword { tries } => {
                self.refused = true;
                if self.rules.errand.is_some() {
                    return self.end(End::wrong_password(tries));
                }
                self.show(notice);
            }
            Notice::NewUser(_) => self.show(notice),
            _ => self.end(End::not_understood("an answer before the log-in")),
        }
    }

    fn answer_name(&mut self) {
        if let Some(user) = &self.user {
            user.as_str().clone_into(&mut self.name);
            return self.recall();
        }
        if let Some(errand) = &self.rules.errand {
            (self.name, self.password) = (errand.user.clone(), Some(errand.password.clone()));
            return self.recall();
        }
        self.ask(Phase::Name, Question::Name);
    }

    fn answer_password(&mut self) {
        match self.password.take() {
            Some(password) => self.send_password(password),
            None => self.ask(Phase::Password, Question::Password),
        }
    }

    fn ask(&mut self, phase: Phase, question: Question) {
        if self.input_ended {
            return self.end(End::input_too_short(self.refused, self.rules.person));
        }
        self.phase = phase;
        // A line that is being typed is put aside; the question for it is void.
        self.asked = 0;
        if self.asking.replace(question) != Some(question) {
            self.effects.push(Effect::Ask(question));
        }
    }

    /// A line that was typed as a name.
    pub(super) fn typed_name(&mut self, line: &str) {
        let line = line.trim();
        if line.is_empty() {
            return self.ask(Phase::Name, Question::Name);
        }
        let (name, password) = match line.split_once(' ') {
            Some((name, password)) => (name, Some(password.trim_start().to_owned())),
            None => (line, None),
        };
        name.clone_into(&mut self.name);
        self.password = password;
        self.recall();
    }

    /// A line that was typed as a password: kept if the connection was lost meanwhile.
    pub(super) fn typed_password(&mut self, line: &str) {
        if self.phase != Phase::Password {
            self.password = Some(line.to_owned()).filter(|line| !line.is_empty());
            return self.ask_lines();
        }
        if line.is_empty() {
            return self.ask(Phase::Password, Question::Password);
        }
        self.send_password(line.to_owned());
    }

    fn send_password(&mut self, password: String) {
        self.phase = Phase::Trying { token: false };
        self.waiting_since = Some(self.now.elapsed);
        self.effects.push(Effect::Send(password));
    }

    fn recall(&mut self) {
        self.phase = Phase::Recalling;
        self.effects.push(Effect::Recall(self.reader()));
    }

    pub(super) fn recalled(&mut self, number: u64) {
        if self.phase != Phase::Recalling {
            return;
        }
        if self.user.is_none() {
            // Another name may have been tried before.
            (self.taken, self.displayed) = (0, 0);
        }
        self.displayed = self.displayed.max(number);
        self.taken = self.taken.max(number);
        self.told = self.displayed;
        let (name, shown) = (self.name.clone(), self.displayed);
        let token = self.pass.map(|pass| pass.token);
        self.phase = Phase::Trying { token: token.is_some() };
        match token {
            Some(token) => self.say_and_wait(Say::Resume { name: &name, token, shown }),
            None => self.say_and_wait(Say::Login { name: &name, shown }),
        }
    }

    /// The token is not accepted: `ask name` follows, and the password is needed.
    fn not_resumed(&mut self) {
        self.pass = None;
        self.forget_requests();
        let is_logout = |pending: &Pending| self.talk.request(&pending.text) == Some(Request::Logout);
        let only_logout = self.pending.len() == 1 && self.pending.iter().all(is_logout);
        if only_logout {
            // The session is gone because that line was carried out; only its answer was lost.
            let end = self.errand_end.take().unwrap_or_else(End::ok);
            return self.end(end);
        }
        if !self.rules.person {
            return self.end(End::not_resumed());
        }
        self.put(Shown::PasswordAgain);
    }
}

/// A notice as netcat is told.
fn in_words(notice: &Notice) -> String {
    let mut bytes = Vec::new();
    Speller::new(jiff::tz::TimeZone::UTC).spell(notice, &mut bytes);
    String::from_utf8_lossy(&bytes).trim_end().to_owned()
}
